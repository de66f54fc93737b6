"""Schedules, in one spelling for learning rate, term weight and temperature.

A schedule is a *shape*: a factor near 1 that multiplies a base value over the course of training.
The base value is an array in ``hparams`` and may differ between members of a population; the shape
is the same for all of them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import optax

from kd.errors import KdError

Shape = Callable[[Any], Any]
"""``step -> factor``."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Shape of a value over training, as a factor of its base value.

    Units: `warmup_percent` and the first number of each of `points` are percent of the run (0 to
    100); `end` and the second number of each of `points` are factors of the base value.
    """

    shape: Literal["constant", "linear", "cosine", "exponential", "piecewise"] = "constant"
    warmup_percent: float = 0.0
    end: float = 0.0
    points: tuple[tuple[float, float], ...] = ()


def make_schedule(spec: Schedule, total_steps: int) -> Shape:
    """``step -> factor`` for a run of `total_steps`.

    After the warm-up (0 to 1), ``u`` runs from 0 to 1: linear ``1 + (end - 1) u``, cosine
    ``end + (1 - end)(1 + cos(pi u)) / 2``, exponential ``end^u``; piecewise holds each factor of
    `points` from its percentage onwards.

    Raises:
      KdError: a percentage outside 0 to 100, points out of order or missing, a non-positive end of
        an exponential, True or False for a number, a field that changes nothing at this shape.
    """
    _check_types(spec)
    if not 0 <= spec.warmup_percent < 100:
        raise KdError(f"schedule.warmup_percent must lie in [0, 100), got {spec.warmup_percent}")
    if spec.end < 0 or any(factor < 0 for _, factor in spec.points):
        raise KdError(
            "a schedule's factors, schedule.end and those of schedule.points, must be 0 or more"
        )
    warmup = round(total_steps * spec.warmup_percent / 100)
    main = _main(spec, max(total_steps - warmup, 1), total_steps, warmup)
    _check_effect(spec)
    if warmup == 0:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), main], [warmup])


def _check_types(spec: Schedule) -> None:
    for name, value in (("warmup_percent", spec.warmup_percent), ("end", spec.end)):
        if isinstance(value, bool):
            raise KdError(f"schedule.{name} must be a number, got {value}")
    if any(isinstance(number, bool) for point in spec.points for number in point):
        raise KdError(f"schedule.points must be pairs of numbers, got {spec.points}")


def _check_effect(spec: Schedule) -> None:
    """Raise a `KdError` for a field that the shape does not read, or a shape that stays at 1."""
    if spec.points and spec.shape != "piecewise":
        raise KdError(
            f"schedule.points change nothing where schedule.shape is {spec.shape}; set it to "
            "piecewise, or leave them out"
        )
    if spec.end and spec.shape in ("constant", "piecewise"):
        raise KdError(
            f"schedule.end changes nothing where schedule.shape is {spec.shape}; leave it out"
        )
    level = spec.end == 1 if spec.shape != "piecewise" else {f for _, f in spec.points} == {1}
    if level and spec.shape != "constant":
        raise KdError(
            f"a {spec.shape} schedule that stays at 1 changes nothing; set schedule.shape to "
            "constant, or other factors"
        )


def _main(spec: Schedule, steps: int, total_steps: int, warmup: int) -> Shape:
    if spec.shape == "constant":
        return optax.constant_schedule(1.0)
    if spec.shape == "linear":
        return optax.linear_schedule(1.0, spec.end, steps)
    if spec.shape == "cosine":
        return optax.cosine_decay_schedule(1.0, steps, alpha=spec.end)
    if spec.shape == "exponential":
        if spec.end <= 0:
            raise KdError(f"an exponential schedule needs schedule.end > 0, got {spec.end}")
        return optax.exponential_decay(1.0, steps, spec.end)
    return _piecewise(spec.points, total_steps, warmup)


def _piecewise(points: tuple[tuple[float, float], ...], total_steps: int, warmup: int) -> Shape:
    percents = [percent for percent, _ in points]
    if (
        not points
        or any(a >= b for a, b in itertools.pairwise(percents))
        or not 0 <= percents[0] <= percents[-1] <= 100
    ):
        raise KdError(
            "a piecewise schedule needs schedule.points = ((percent, factor), ...) with rising "
            "percents"
        )
    # Percent of the whole run, and the steps that come here are counted from the end of the
    # warm-up.
    edges = jnp.asarray([round(total_steps * percent / 100) - warmup for percent in percents])
    factors = jnp.asarray([1.0, *(factor for _, factor in points)])
    return lambda step: factors[jnp.searchsorted(edges, step, side="right")]
