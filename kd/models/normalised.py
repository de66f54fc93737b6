"""Models that are shown numbers in a unit of their own: ``(x - mean) / deviation``, by channels."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from kd.core.types import Model, Outputs, PyTree
from kd.errors import KdError


def normalised(model: Model, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Model:
    """`model`, which sees ``(x - mean) / deviation`` of its inputs ``x[b ... c]``: a number for
    each channel, or one for all. It is a part of the model, and goes with it.

    Raises:
      KdError: as `check_normalisation`; when it is applied, inputs of another number of channels.
    """
    check_normalisation(mean, deviation)

    def see(params: PyTree, extra: PyTree, inputs: Any) -> tuple[PyTree, PyTree, Any]:
        if len(mean) not in (1, inputs.shape[-1]):
            raise KdError(
                f"mean={mean} is of {len(mean)} channels and inputs are "
                f"{list(inputs.shape[1:])}; give one number for each channel, or one for all"
            )
        middle, unit = (_by_channel(values, inputs) for values in (mean, deviation))
        return params, extra, (inputs - middle) / unit

    def answer(outputs: Outputs, updated: PyTree, extra: PyTree) -> tuple[Outputs, PyTree]:
        del extra
        return outputs, updated

    made = model.made and dataclasses.replace(model.made, mean=mean, deviation=deviation)
    return dataclasses.replace(model.between(see, answer), made=made)


def _by_channel(values: tuple[float, ...], inputs: Any) -> jax.Array:
    return jnp.asarray(values, inputs.dtype).reshape((1,) * (inputs.ndim - 1) + (-1,))


def check_normalisation(mean: Any, deviation: Any, path: str = "") -> None:
    """Raise a `KdError` unless both are numbers for the same channels, the deviation above 0.
    `path` is that of their keys in a config.
    """
    for name, values in (("mean", mean), ("deviation", deviation)):
        if not isinstance(values, tuple) or not values or not all(map(_is_finite, values)):
            raise KdError(
                f"{path}{name} must be numbers, one for each channel, got {values!r}; mean and "
                "deviation go together, e.g. (0.5,) and (0.5,)"
            )
    if len(mean) != len(deviation) or min(deviation) <= 0:
        raise KdError(
            f"{path}mean={mean} and {path}deviation={deviation} must be of the same channels, and "
            "deviations above 0"
        )


def _is_finite(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)
