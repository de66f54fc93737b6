"""The config of section 5: which data, which runs, and what is varied over them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.hinton2015.parts import check_distinct, resolved
from kd.config import Spec, build
from kd.errors import KdError, unknown

RUNS = ("generalist", "longer", "specialist", "distilled")
MEASURES = ("gain", "kept")
"""What a band may be for."""
STUDENTS = 1000
"""The first seed of what is trained beside the generalists."""


@dataclasses.dataclass(frozen=True)
class File:
    """Which file or folder, and where to look for it."""

    source: str
    data_dir: str | None = None


@dataclasses.dataclass(frozen=True)
class Text:
    """Sentences as `features` hashed counts of up to `words` words in a row."""

    data: File
    features: int = 2048
    words: int = 2


@dataclasses.dataclass(frozen=True)
class Clustering:
    """`count` specialists, each of the `size` classes nearest to the centre of a cluster, or where
    that is None of the cluster itself.

    The covariance is that of the generalist's predictions on `split`, softened at `temperature`.
    With `groups` the classes are the groups that the data has for them, which the generalist does
    not know: what better clusters could give.
    """

    count: int
    size: int | None = None
    temperature: float = 1.0
    split: str = "train"
    groups: bool = False


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """Why the gain is what it is: a `claim` in words, and what is changed: some keys of
    `clustering`, the `specialist` run, the `generalist` that the specialists begin with, or the
    share of the `correction` that dustbins are given.
    """

    claim: str
    clustering: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    specialist: Mapping[str, Any] | None = None
    generalist: Mapping[str, Any] | None = None
    correction: float = 1.0


@dataclasses.dataclass(frozen=True)
class StepBack:
    """Why a student keeps what it keeps: a `claim` in words, and what is changed: its `run`, the
    number `top` of classes by which specialists are asked, whose specialists teach it (`team`) and
    whose generalist's network it has (`network`), each by the name of a hypothesis.
    """

    claim: str
    run: Mapping[str, Any] | None = None
    top: int | None = None
    team: str = ""
    network: str = ""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The experiment's config: four runs, and what is varied over them.

    `generalist` has `ensemble` members: the first ones, one for each of the `seeds`, have
    specialists, and all of them are the ensemble. `longer` is the generalist trained as long as all
    that the specialists' student took. `specialist` is trained for each cluster of `clustering`
    (its epochs are passes over the special examples), `distilled` learns from each teacher at each
    of the `temperatures`, of which the validation examples choose one for each teacher. `tops` are
    the numbers of the generalist's classes by which specialists are asked; the student learns from
    the answers at `top`. Validation is what the runs are evaluated on, `split` what is reported.

    `text` makes features of sentences, which the runs then read; without it they read their own
    source. `bands` are what each measure must lie in, written before the run, `paper` the paper's
    numbers; both are left out on other data than `numbers_of` names. `hypotheses` say what the gain
    rests on, `steps_back` what the student keeps of it.
    """

    seeds: tuple[int, ...]
    ensemble: int
    temperatures: tuple[float, ...]
    clustering: Clustering
    generalist: Mapping[str, Any]
    longer: Mapping[str, Any]
    specialist: Mapping[str, Any]
    distilled: Mapping[str, Any]
    tops: tuple[int, ...] = (1, 2)
    top: int = 1
    split: str = "test"
    text: Mapping[str, Any] | None = None
    bands: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    paper: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    numbers_of: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hypotheses: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    steps_back: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    notes: str = ""

    @functools.cached_property
    def sentences(self) -> Text | None:
        """`text`, typed. Raises a `KdError` where it is not well-formed."""
        return None if self.text is None else build(Text, self.text, "config.text")


def check(protocol: Protocol) -> dict[str, Spec]:
    """The runs by name. Raises a `KdError` unless the numbers make an experiment."""
    seeds = protocol.seeds
    if len(seeds) < 2 or seeds != tuple(range(len(seeds))) or protocol.ensemble < len(seeds):
        raise KdError(
            "config.seeds must count up from 0, 2 at least, and config.ensemble be no smaller: "
            f"students pair with generalists; got {seeds} and {protocol.ensemble}"
        )
    if not protocol.temperatures or not protocol.tops or protocol.top not in protocol.tops:
        raise KdError(
            "config.temperatures and config.tops must hold a number each, and tops hold "
            f"config.top = {protocol.top}"
        )
    check_distinct("temperatures", protocol.temperatures)
    check_distinct("tops", protocol.tops)
    specs = {name: resolved(name, getattr(protocol, name)) for name in RUNS}
    specs |= _of_hypotheses(protocol) | _of_steps_back(protocol)
    _check_runs(protocol, specs)
    for name, (low, high) in protocol.bands.items():
        if name not in MEASURES:
            raise unknown("key in config.bands:", name, MEASURES)
        if not low <= high:
            raise KdError(f"config.bands.{name} must be (least, most), got {(low, high)}")
    return specs


def hypotheses(protocol: Protocol) -> dict[str, Hypothesis]:
    """The hypotheses by name. Raises a `KdError` for one that is not well-formed."""
    return {
        name: build(Hypothesis, change, f"config.hypotheses.{name}")
        for name, change in protocol.hypotheses.items()
    }


def steps_back(protocol: Protocol) -> dict[str, StepBack]:
    """The other steps back by name. Raises a `KdError` for one that is not well-formed."""
    return {
        name: build(StepBack, change, f"config.steps_back.{name}")
        for name, change in protocol.steps_back.items()
    }


def clustering_of(protocol: Protocol, hypothesis: Hypothesis) -> Clustering:
    """How a hypothesis clusters. Raises a `KdError` for a key that clustering does not have."""
    changed = {**dataclasses.asdict(protocol.clustering), **hypothesis.clustering}
    return build(Clustering, changed, "config.hypotheses.clustering")


def _of_hypotheses(protocol: Protocol) -> dict[str, Spec]:
    specs = {}
    for name, hypothesis in hypotheses(protocol).items():
        clustering_of(protocol, hypothesis)
        runs = {"specialist": hypothesis.specialist, "generalist": hypothesis.generalist}
        for kind, run in runs.items():
            if run is not None:
                specs[f"hypotheses.{name}.{kind}"] = resolved(f"hypotheses.{name}.{kind}", run)
    return specs


def _of_steps_back(protocol: Protocol) -> dict[str, Spec]:
    tested, specs = hypotheses(protocol), {}
    for name, step in steps_back(protocol).items():
        if step.top is not None and step.top not in protocol.tops:
            raise KdError(f"config.steps_back.{name}.top must be one of tops, got {step.top}")
        if step.team and step.team not in tested:
            raise unknown(f"hypothesis in config.steps_back.{name}.team:", step.team, tested)
        wider = [other for other in tested if tested[other].generalist is not None]
        if step.network and step.network not in wider:
            raise unknown(f"hypothesis in config.steps_back.{name}.network:", step.network, wider)
        if step.run is not None:
            specs[f"steps_back.{name}.run"] = resolved(f"steps_back.{name}.run", step.run)
    return specs


def _check_runs(protocol: Protocol, specs: Mapping[str, Spec]) -> None:
    first = specs["generalist"]
    tested = protocol.split.partition("[")[0]
    if protocol.clustering.split.partition("[")[0] == tested:
        raise KdError(
            f"config.clustering.split is what is reported, '{tested}'; take other examples"
        )
    for name, spec in specs.items():
        data, same = spec.data, first.data
        if (data.source, data.train, data.eval) != (same.source, same.train, same.eval):
            raise KdError(
                f"config.{name}.data and config.generalist.data have different source, train or "
                "eval; all runs learn from the same examples"
            )
        if spec.student != first.student and not name.startswith("hypotheses."):
            raise KdError(
                f"config.{name}.student is not config.generalist.student; all are networks of the "
                "generalist's size"
            )
        looked: Sequence[str] = (spec.data.eval, spec.early_stopping or "")
        if tested in [split.partition("[")[0] for split in looked]:
            raise KdError(
                f"config.{name} looks at '{tested}' while it trains, and what is chosen is chosen "
                "by what is seen; let it look at other examples"
            )
    if specs["distilled"].objective.get("soft_targets") is None:
        raise KdError("config.distilled.objective has no soft_targets; give it the term")
