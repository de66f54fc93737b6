"""The config of sections 4 and 6: which audio, which states, which runs, and what is varied over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kd.errors import KdError


@dataclasses.dataclass(frozen=True)
class Audio:
    """Which audio: a folder or archive in the Speech Commands layout, and where to look for it."""

    source: str
    data_dir: str | None = None


@dataclasses.dataclass(frozen=True)
class Speech:
    """From audio to classes: `window` frames of `bins` log-mel energies predict the state of frame number `target`.

    `utterances` keeps that many of each split, None all; a word is `per_word` states in a row, silence `silence`.
    """

    data: Audio
    utterances: int | None = None
    bins: int = 40
    window: int = 26
    target: int = 21
    per_word: int = 5
    silence: int = 1


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The experiment's config: five runs, and what is varied over them.

    `aligner` is trained `realignments` times for the labels; `baseline` has `ensemble` members with first weights of
    their own and all else alike, and so have the students: `seeds` of each of the `temperatures`, and of the two small
    arms. `penalties` are the word penalties tried on the validation speakers; `split` is what is reported.
    `bands` are what each measure must lie in, written before the run; `paper` the paper's numbers, for the page.
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
    notes: str = ""


def check(protocol: Protocol) -> None:
    """Raise a `KdError` unless the numbers make an experiment."""
    speech = protocol.speech
    if len(protocol.seeds) < 2 or protocol.ensemble < len(protocol.seeds):
        raise KdError(
            "config.seeds must hold at least 2, and config.ensemble be no smaller: students pair with baselines"
        )
    if not protocol.temperatures or not protocol.penalties:
        raise KdError("config.temperatures and config.penalties must hold a number each at least")
    if not 1 <= speech.target <= speech.window:
        raise KdError(f"config.speech.target must lie between 1 and window = {speech.window}, got {speech.target}")
    if min(speech.per_word, speech.silence, speech.bins, protocol.realignments + 1) < 1:
        raise KdError("config.speech.per_word, silence and bins must be 1 or more, and config.realignments 0 or more")
    if speech.utterances is not None and speech.utterances < 1:
        raise KdError(f"config.speech.utterances must be 1 or more, or none for all, got {speech.utterances}")
    for name in ("aligner", "baseline", "distilled", "small_hard", "small_soft"):
        run = getattr(protocol, name)
        if run.get("population") or (run.get("teacher") or {}).get("workdir"):
            raise KdError(f"config.{name}.population and teacher.workdir are set by the experiment; leave them out")
    if len(set(protocol.temperatures)) < len(protocol.temperatures):
        raise KdError(f"config.temperatures must hold each value once, got {protocol.temperatures}")
    if protocol.split not in ("validation", "test"):
        raise KdError(f"config.split must be 'validation' or 'test', got '{protocol.split}'")
    if protocol.seeds != tuple(range(len(protocol.seeds))):
        raise KdError(f"config.seeds must count up from 0, as the baselines' do, got {protocol.seeds}")
