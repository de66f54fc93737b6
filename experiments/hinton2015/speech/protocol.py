"""The config of sections 4 and 6: which audio, which states, which runs, and what is varied over
them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from kd.config import Spec, build, resolve
from kd.errors import KdError, unknown

Arm = Literal["distilled", "baseline", "small_soft"]
RUNS = ("aligner", "baseline", "distilled", "small_hard", "small_soft")
# that a band may be for
MEASURES = (
    "ensemble_gain",
    "share_of_gain",
    "distilled_wer",
    "small_gain",
    "small_share",
)
TEACHERS: Mapping[Arm, str | None] = {
    "distilled": "baseline",
    "baseline": None,
    "small_soft": "reference",
}


@dataclasses.dataclass(frozen=True)
class Audio:
    """Which audio: a folder or archive in the Speech Commands layout, and where to look for it."""

    source: str
    data_dir: str | None = None


@dataclasses.dataclass(frozen=True)
class Speech:
    """From audio to classes: `window` frames of `bins` log-mel energies predict the state of frame
    number `target`.

    `utterances` keeps that many of each split, None all; a word is `per_word` states in a row,
    silence `silence`.
    """

    data: Audio
    utterances: int | None = None
    bins: int = 40
    window: int = 26
    target: int = 21
    per_word: int = 5
    silence: int = 1


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """Why a band is missed: a `claim` in words, and a `run` like that `of` section 4 or 6 but for
    one change.

    `teacher` is another stage than that run learns from: ``baseline`` (the ensemble), ``reference``
    (one model) or one of the protocol's `teachers`. `control` is a hypothesis whose models its own
    are also held against.
    """

    claim: str
    run: Mapping[str, Any]
    of: Arm = "distilled"
    teacher: str | None = None
    control: str | None = None

    @property
    def taught_by(self) -> str | None:
        """The stage that its models learn from, or None."""
        return self.teacher or TEACHERS[self.of]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The experiment's config: five runs, and what is varied over them.

    `aligner` is trained `realignments` times for the labels; `baseline` has `ensemble` members with
    first weights of their own and all else alike, and so have the students: `seeds` of each of the
    `temperatures`, and of the two small arms. `penalties` are the word penalties tried on the
    validation speakers; `split` is what is reported. `bands` are what each measure must lie in,
    written before the run; `paper` the paper's numbers, for the page; both are left out on other
    data than `numbers_of` names. `hypotheses` say why a band
    may be missed, each with a run of its own over the `seeds`; `teachers` are further ensembles of
    the size of the first, for them.
    """

    speech: Speech
    seeds: tuple[int, ...]
    ensemble: int
    temperatures: tuple[float, ...]
    penalties: tuple[float, ...]
    aligner: Mapping[str, Any]
    baseline: Mapping[str, Any]
    distilled: Mapping[str, Any]
    small_hard: Mapping[str, Any]
    small_soft: Mapping[str, Any]
    realignments: int = 2
    split: str = "test"
    bands: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    paper: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    numbers_of: Mapping[str, str] = dataclasses.field(default_factory=dict)
    teachers: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    hypotheses: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    notes: str = ""


def check(protocol: Protocol) -> None:
    """Raise a `KdError` unless the numbers make an experiment."""
    speech = protocol.speech
    if len(protocol.seeds) < 2 or protocol.ensemble < len(protocol.seeds):
        raise KdError(
            "config.seeds must hold at least 2, and config.ensemble be no smaller: students pair "
            "with baselines"
        )
    if not protocol.temperatures or not protocol.penalties:
        raise KdError("config.temperatures and config.penalties must hold a number each at least")
    if not 1 <= speech.target <= speech.window:
        raise KdError(
            f"config.speech.target must lie between 1 and window = {speech.window}, got "
            f"{speech.target}"
        )
    if min(speech.per_word, speech.silence, speech.bins, protocol.realignments + 1) < 1:
        raise KdError(
            "config.speech.per_word, silence and bins must be 1 or more, and config.realignments "
            "0 or more"
        )
    if speech.utterances is not None and speech.utterances < 1:
        raise KdError(
            f"config.speech.utterances must be 1 or more, or none for all, got {speech.utterances}"
        )
    _check_runs(protocol)
    _check_bands(protocol.bands)
    if len(set(protocol.temperatures)) < len(protocol.temperatures):
        raise KdError(f"config.temperatures must hold each value once, got {protocol.temperatures}")
    if protocol.split not in ("validation", "test"):
        raise KdError(f"config.split must be 'validation' or 'test', got '{protocol.split}'")
    if protocol.seeds != tuple(range(len(protocol.seeds))):
        raise KdError(
            f"config.seeds must count up from 0, as the baselines' do, got {protocol.seeds}"
        )


def hypotheses(protocol: Protocol) -> dict[str, Hypothesis]:
    """The hypotheses by name.

    Raises a `KdError` for one that is not well-formed, or rests on what is not there.
    """
    found = {
        name: build(Hypothesis, given, f"config.hypotheses.{name}")
        for name, given in protocol.hypotheses.items()
    }
    for name, one in found.items():
        if one.of == "baseline" and one.teacher is not None:
            raise KdError(
                f"config.hypotheses.{name}.teacher: the baseline has none; leave it out, or set "
                "'of'"
            )
        if one.teacher is not None and one.teacher not in (
            known := ("baseline", "reference", *protocol.teachers)
        ):
            raise unknown(f"config.hypotheses.{name}.teacher", one.teacher, known)
        if one.control is not None and one.control not in (others := found.keys() - {name}):
            raise unknown(f"config.hypotheses.{name}.control", one.control, others)
    return found


def _check_runs(protocol: Protocol) -> None:
    """What the experiment sets must not be set in any of its runs."""
    runs = {name: getattr(protocol, name) for name in RUNS}
    runs |= {f"teachers.{name}": run for name, run in protocol.teachers.items()}
    runs |= {f"hypotheses.{name}.run": one.run for name, one in hypotheses(protocol).items()}
    specs = {}
    for name, run in runs.items():
        teacher = run.get("teacher") or {}
        if run.get("population") or teacher.get("workdir") or teacher.get("source"):
            raise KdError(
                f"config.{name}.population and teacher.workdir are set by the experiment; leave "
                "them out"
            )
        try:
            specs[name] = spec = resolve(run)
        except KdError as error:
            raise KdError(f"in config.{name}: {error}") from error
        for split in (spec.data.eval, spec.early_stopping or ""):
            if split.partition("[")[0] == "test":
                raise KdError(
                    f"config.{name} looks at '{split}' while it trains, and the temperature and "
                    "the best step are "
                    "chosen by what is seen; let it look at a slice of 'validation'"
                )
    for one, other in (("baseline", "distilled"), ("small_hard", "small_soft")):
        if _arm(specs[one]) != _arm(specs[other]):
            raise KdError(
                f"config.{one} and config.{other} must train one student on the same batches "
                "equally long"
            )


def _arm(spec: Spec) -> tuple[Any, ...]:
    return spec.student, spec.data, spec.total_epochs, spec.total_steps


def _check_bands(bands: Mapping[str, tuple[float, float]]) -> None:
    for name, (low, high) in bands.items():
        if name not in MEASURES:
            raise unknown("key in config.bands:", name, MEASURES)
        if not low <= high:
            raise KdError(
                f"config.bands.{name} must be (least, most), got {(low, high)}; swap them"
            )
