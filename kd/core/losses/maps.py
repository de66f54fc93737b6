"""Inner features on a grid, ``[*b *g d]``: pooling, lengths, and the heads that losses put on them.

``*g`` are the axes between positions and features: height and width of a map, the tokens of a
sequence, or none. `ahead` is how many axes stand before them.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.types import Outputs
from kd.errors import KdError

TINY = 1e-30
"""A squared length below this is none: what has no length has no direction, and no gradient."""

ROUNDING = 1e-6
"""Of a unit vector in float32."""

Head = dict[str, Array]
"""``kernel[s t]``, or ``kernel[*k s t]`` of a convolution, and ``bias[t]``."""


def hidden(outputs: Outputs, name: str = "hidden") -> Array:
    """The features of a tap in float32, or wider where they are."""
    values = outputs.taps[name]
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def ahead(outputs: Outputs) -> int:
    """How many axes stand before the grid: those of the positions."""
    return len(outputs.positions)


def grid(outputs: Outputs, name: str = "hidden") -> tuple[int, ...]:
    """The shape of the grid of a tap."""
    return tuple(outputs.taps[name].shape[ahead(outputs) : -1])


def inner(outputs: Outputs, values: Array) -> tuple[int, ...]:
    """The axes after the positions, which a value per position sums over."""
    return tuple(range(ahead(outputs), values.ndim))


def mean_place(outputs: Outputs, values: Array) -> Float[Array, "*b"]:
    """The mean over the grid of a value per place, ``[*b *g] -> [*b]``; of the places that hold
    something, where `outputs` say which: padding of texts counts for nothing.
    """
    places, axes = outputs.places, inner(outputs, values)
    if places is None or not axes or places.shape != values.shape:
        return jnp.mean(values, axis=axes)
    total = jnp.sum(jnp.where(places, values, 0.0), axis=axes)
    return total / jnp.maximum(jnp.sum(places, axis=axes), 1)


def flat(values: Array, ahead: int) -> Float[Array, "*b g d"]:
    """The grid as one axis."""
    return values.reshape(*values.shape[:ahead], -1, values.shape[-1])


def common_grid(student: Outputs, teacher: Outputs, name: str = "hidden") -> tuple[int, ...]:
    """The smaller of both grids along every axis.

    Raises:
      KdError: grids of different numbers of axes, such as a map and tokens.
    """
    own, other = grid(student, name), grid(teacher, name)
    if len(own) != len(other):
        raise KdError(
            f"the student's layer has a grid of {list(own)} and the teacher's one of "
            f"{list(other)}; name two maps, or two layers of tokens"
        )
    return tuple(map(min, own, other))


def check_same_grid(student: Outputs, teacher: Outputs, name: str = "hidden") -> None:
    """Raise a `KdError` unless both layers have one grid: only the last axis may differ."""
    own, other = (outputs.taps[name].shape for outputs in (student, teacher))
    if own[:-1] != other[:-1]:
        raise KdError(
            f"the student's hidden layer is {list(own)} and the teacher's "
            f"{list(other)}: only the last axis may differ; name layers of one grid"
        )


def check_has_grid(student: Outputs, teacher: Outputs, name: str = "hidden") -> None:
    """Raise a `KdError` unless both layers have a grid: maps or tokens, not one vector."""
    for who, outputs in (("student", student), ("teacher", teacher)):
        if not grid(outputs, name):
            raise KdError(
                f"the {who}'s layer is {list(outputs.taps[name].shape)}, one vector, and this loss "
                "compares places of a map; name a layer of maps [b h w c] or of tokens [b t d]"
            )


def pooled(values: Array, ahead: int, size: tuple[int, ...]) -> Array:
    """The mean of every cell of a grid of `size`: cell i of m along an axis of n covers the places
    ``floor(i n / m)`` to ``ceil((i + 1) n / m)``. A grid twice as large repeats the nearest place.
    """
    for axis, cells in enumerate(size, start=ahead):
        places = values.shape[axis]
        if cells != places:
            means = jnp.tensordot(
                _covered(places, cells), values, (1, axis), precision=jax.lax.Precision.HIGHEST
            )
            values = jnp.moveaxis(means, 0, axis)
    return values


def _covered(places: int, cells: int) -> Float[Array, "m n"]:
    cell, place = jnp.arange(cells)[:, None], jnp.arange(places)[None]
    first, end = cell * places // cells, -((-(cell + 1) * places) // cells)
    covered = ((place >= first) & (place < end)).astype(jnp.float32)
    return covered / covered.sum(axis=1, keepdims=True)


def unit(values: Array, axis: int | tuple[int, ...]) -> Array:
    """The values at length 1 along `axis`; 0, with gradient 0, where they have no length."""
    squared = jnp.sum(values**2, axis=axis, keepdims=True)
    some = squared > TINY
    return values * jnp.where(some, jax.lax.rsqrt(jnp.where(some, squared, 1.0)), 0.0)


def distance(a: Array, b: Array, axis: int | tuple[int, ...]) -> Array:
    """The distance of vectors of length 1 along `axis`; 0, with gradient 0, where no more than
    rounding lies between them.
    """
    squared = jnp.sum((a - b) ** 2, axis=axis)
    some = squared > ROUNDING**2
    return jnp.where(some, jnp.sqrt(jnp.where(some, squared, 1.0)), 0.0)


def head(key: jax.Array, width: int, target: int, kernel: tuple[int, ...] = ()) -> Head:
    """First weights of a linear map of features, or of a convolution with a kernel of this size."""
    shape = (*(kernel if math.prod(kernel) > 1 else ()), width, target)
    scale = 1 / math.sqrt(math.prod(shape[:-1]))
    drawn = jax.random.normal(key, shape, jnp.float32) * scale
    return {"kernel": drawn, "bias": jnp.zeros(target, jnp.float32)}


def through(values: Array, head: Head, ahead: int, padding: str = "SAME") -> Array:
    """The features through a head: a linear map of each place, or a convolution over the grid."""
    kernel = head["kernel"]
    if kernel.ndim == 2:
        mapped = values @ kernel
    else:
        axes = kernel.ndim - 2
        images = values.reshape(-1, *values.shape[ahead:])
        last = (0, axes + 1, *range(1, axes + 1))
        numbers = jax.lax.ConvDimensionNumbers(last, (axes + 1, axes, *range(axes)), last)
        mapped = jax.lax.conv_general_dilated(
            images, kernel, (1,) * axes, padding, dimension_numbers=numbers
        )
        mapped = mapped.reshape(*values.shape[:ahead], *mapped.shape[1:])
    return mapped + jnp.broadcast_to(head["bias"], mapped.shape)
