"""Copies of the newest state on a disk of each machine, as a config says it."""

from __future__ import annotations

import dataclasses

from kd.errors import KdError


@dataclasses.dataclass(frozen=True)
class LocalCopy:
    """Beside the checkpoints of the work directory each process copies its part of the state into
    `folder`, on a disk or in the memory of its own machine, whenever so many `steps` have passed.

    None keeps no copies. A run that goes on takes the newest state of both.
    """

    folder: str | None = None
    steps: int = 50


def check_local_copy(copy: LocalCopy) -> None:
    """Raise a `KdError` unless the number of steps is one."""
    if not 0 < copy.steps < 2**31:
        raise KdError(f"config.local_copy.steps must be 1 or more, got {copy.steps}")
