"""What numbers, optimiser and pairs of a task must be, before anything is traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

from kd.core.types import PyTree
from kd.errors import KdError
from kd.placement.mesh import is_whole
from kd.placement.sharding import Sharding, check_rule


def check_numbers(task: Any) -> None:
    """Raise a `KdError` for a number of a task that it cannot have."""
    if not is_whole(task.accumulate) or task.accumulate < 1:
        raise KdError(f"accumulate must be a whole number of 1 or more, got {task.accumulate!r}")
    patience: Any = task.patience
    if patience is not None and not (is_whole(patience) and patience >= 1):
        raise KdError(f"patience must be a whole number of 1 or more, got {patience!r}")
    decay: Any = task.ema
    if (
        not isinstance(decay, (float, int, np.floating))
        or isinstance(decay, bool)
        or not 0 <= decay < 1
    ):
        raise KdError(f"ema is a decay and must lie in [0, 1), got {decay!r}; 0 keeps no average")
    if not isinstance(task.sharding, Sharding):
        raise KdError(
            f"sharding must be a kd.Sharding, got {task.sharding!r}; e.g. "
            "kd.Sharding(student=kd.Rule('fsdp'))"
        )
    check_rule(task.sharding.teacher, "teacher")


def check_optimizer(optimizer: optax.GradientTransformation, params: PyTree) -> None:
    """Some of Optax's want the loss itself at every update, which the step does not give."""
    try:
        jax.eval_shape(lambda p: optimizer.update(p, optimizer.init(p), p), params)
    except TypeError as error:
        raise KdError(
            f"this optimiser asks for more than gradients and parameters ({error}); take another"
        ) from error


def check_pairs(pairs: tuple[int, ...] | None, members: int | None, leaves: Sequence[Any]) -> None:
    """Raise a `KdError` unless there is a teacher of its own for every student."""
    if pairs is None:
        return
    if len(pairs) != members:
        raise KdError(
            f"{len(pairs)} teachers are paired with {members or 1} students; give one teacher per "
            "member"
        )
    for pair in pairs:
        if not 0 <= pair < len(leaves[0]):
            raise KdError(
                f"a student is paired with teacher {pair} and there are {len(leaves[0])}, from 0"
            )
