"""The config of the second protocol: that of the first, and how long each arm may be trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.hinton2015.parts import check_distinct
from experiments.hinton2015.speech import protocol as first
from kd.errors import KdError, unknown

JUDGE = "validation"
"""The split that every arm is chosen on: all validation speakers."""

ARMS: Mapping[str, str | None] = {
    "baseline": None,
    "distilled": "baseline",
    "small_hard": None,
    "small_soft": "reference",
}
"""Every arm, by its name in the config, and the stage that it learns from."""

RIVALS = {"distilled": "baseline", "small_soft": "small_hard"}
"""The arm on hard labels that each soft arm is held against."""

BANDS = {"distilled": "share_of_gain", "baseline": "share_of_gain", "small_soft": "small_share"}
"""The band that a hypothesis about each arm explains."""


@dataclasses.dataclass(frozen=True)
class Protocol(first.Protocol):
    """The first protocol's config, and `lengths`: the epochs that are tried of each arm.

    A soft arm is tried at each of its lengths and each of the `temperatures`, a hard one at as many
    lengths as those are trials. Each trial has the first seed and the validation speakers alone;
    what did best is trained with all `seeds`. The epochs that `baseline` itself says are those of
    the ensemble's members, and of every other run those that its cadence is meant for: it is
    stretched with the length. The `hypotheses` about a band are run where it is missed, as long and
    at the temperature that were chosen for the arm that they vary.
    """

    lengths: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)


def check(protocol: Protocol) -> None:
    """Raise a `KdError` unless the numbers make an experiment, with equal freedom for all arms."""
    first.check(protocol)
    for arm in protocol.lengths:
        if arm not in ARMS:
            raise unknown("key in config.lengths:", arm, ARMS)
    for arm in ARMS:
        lengths = protocol.lengths.get(arm, ())
        if not lengths or min(lengths) <= 0:
            raise KdError(f"config.lengths.{arm} must hold epochs above 0, got {lengths}")
        check_distinct(f"lengths.{arm}", lengths)
    for soft, hard in RIVALS.items():
        _check_freedom(protocol, soft, hard)
    if protocol.teachers:
        raise KdError(
            "config.teachers are of the first protocol; leave them out, and let hypotheses name "
            "'baseline' or 'reference'"
        )
    for name, of, run in _runs(protocol):
        if run.get("total_epochs") is None:
            raise KdError(f"config.{name}.total_epochs is none, and config.lengths are in epochs")
        if of in RIVALS and run["objective"].get("soft_targets") is None:
            raise KdError(
                f"config.{name}.objective has no soft_targets, and config.temperatures are theirs"
            )


def _check_freedom(protocol: Protocol, soft: str, hard: str) -> None:
    """As many trials for both, and none of the soft arm's longer than the longest of the hard."""
    softs, hards = protocol.lengths[soft], protocol.lengths[hard]
    trials = len(softs) * len(protocol.temperatures)
    if len(hards) != trials:
        raise KdError(
            f"config.lengths.{hard} must hold {trials} lengths, for config.{soft} has as many "
            f"trials ({len(softs)} lengths at {len(protocol.temperatures)} temperatures), got "
            f"{len(hards)}"
        )
    if max(hards) < max(softs):
        raise KdError(
            f"config.lengths.{hard} ends at {max(hards):g} epochs and config.lengths.{soft} at "
            f"{max(softs):g}; let hard labels be trained as long"
        )


def _runs(protocol: Protocol) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every arm and every hypothesis: its place in the config, its arm, and its run."""
    for arm in ARMS:
        yield arm, arm, getattr(protocol, arm)
    for name, hypothesis in first.hypotheses(protocol).items():
        yield f"hypotheses.{name}.run", hypothesis.of, hypothesis.run
