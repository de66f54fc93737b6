"""What is tried of every arm, what the validation speakers say of it, and which trial is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.hinton2015.speech_chosen.protocol import JUDGE, RIVALS, Protocol
from kd.runs import Done


@dataclasses.dataclass(frozen=True)
class Trial:
    """A length in epochs, a temperature (None on hard labels), and the frames of the validation
    speakers that a model so trained gets wrong.
    """

    epochs: float
    temperature: float | None
    errors: int


def best(trials: Sequence[Trial]) -> Trial:
    """The trial that is chosen: the fewest wrong frames; of equals the shorter, then the cooler."""
    return min(trials, key=lambda trial: (trial.errors, trial.epochs, trial.temperature or 0.0))


def temperatures(protocol: Protocol, arm: str) -> tuple[float, ...]:
    """The temperatures that an arm is tried at; none on hard labels."""
    return protocol.temperatures if arm in RIVALS else ()


def tried(protocol: Protocol, arm: str, done: Mapping[str, Done]) -> list[Trial]:
    """The finished trials of an arm, length after length."""
    at = temperatures(protocol, arm) or (None,)
    return [
        Trial(length, temperature, member["errors"])
        for length in protocol.lengths[arm]
        for temperature, member in zip(
            at, done[trial_name(arm, length)].evaluation["members"], strict=True
        )
    ]


def trial_name(arm: str, length: float) -> str:
    """The stage that tries an arm at a length: all its temperatures at once."""
    return f"trial_{arm}_{length:g}"


def as_long(
    run: Mapping[str, Any], arm: Mapping[str, Any], epochs: float, temperature: float | None
) -> dict[str, Any]:
    """A run's config for so many `epochs` of `arm`, at a temperature, judged on the validation
    speakers.

    A run that is twice as long as the arm stays twice as long; evaluations and checkpoints keep
    their number.
    """
    stretched = {
        key: None if run.get(key) is None else run[key] * epochs / arm["total_epochs"]
        for key in ("total_epochs", "eval_epochs", "checkpoint_epochs")
    }
    run = {**run, **stretched, "data": {**run["data"], "eval": JUDGE}}
    if temperature is None:
        return run
    soft = {**run["objective"]["soft_targets"], "temperature": temperature}
    return {**run, "objective": {**run["objective"], "soft_targets": soft}}
