"""Knowledge review: the student's deep layers help its shallow ones to learn the teacher's."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core import rng
from kd.core.losses import maps
from kd.core.types import Batch, Heads, Hparams, Outputs

PerPosition = Float[Array, "*b"]

CONTEXTS = (4, 2, 1)
"""Cells along each axis at which maps are compared, besides the map itself."""


def review(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """Every level of the teacher, learnt from that level of the student and all deeper ones.

    Formula: ``sum_j H(h_t^j, W_j * U_j)``, ``U_n = V_n h_s^n``, ``U_j = a V_j h_s^j + b U_{j+1}``:
    from the deepest level n to the first, a and b sigmoids of a linear map of both at each place,
    the deeper one repeated to the grid of the shallower; V are linear maps of each place and W
    convolutions over 3 places along each axis, trained and dropped. H is the mean squared
    difference of the maps and of their means over 4, 2 and 1 cells along each axis, where these are
    fewer than the places, weighted 1, 1/2, 1/4, 1/8 and divided by the sum of the weights. Shapes:
    several taps ``hidden`` ``[*b *g s]`` and ``[*b *g t]`` from shallow to deep -> ``[*b]``.

    Source: Chen et al. (2021), "Distilling knowledge via knowledge review", eq. 6 and 7, sections
    3.3 and 3.4.
    """
    del batch, hparams
    ahead, values, deeper = maps.ahead(student), jnp.zeros((), jnp.float32), None
    for number, (own, wanted) in reversed(list(enumerate(_levels(student, teacher)))):
        level = heads.dropped[str(number)]
        deeper = _fused(level, maps.hidden(own), deeper, ahead)
        answer = maps.pooled(deeper, ahead, maps.grid(wanted))
        answer = maps.through(answer, level["answer"], ahead)
        values = values + _hierarchical(answer, maps.hidden(wanted), ahead)
    return values


def fusions(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
    """First weights of `review`, by level: into the common width, the fusion, the answer.

    The common width is that of the teacher's widest level.

    Raises:
      KdError: levels without a grid, or grids of different numbers of axes.
    """
    del examples
    levels = _levels(student, teacher)
    for own, wanted in levels:
        maps.check_has_grid(own, wanted)
        maps.common_grid(own, wanted)
    common = max(_width(wanted) for _, wanted in levels)
    dropped: dict[str, Any] = {}
    for number, (own, wanted) in enumerate(levels):
        around, level = (3,) * len(maps.grid(wanted)), rng.named(key, str(number))
        dropped[str(number)] = {
            "into": maps.head(rng.named(level, "into"), _width(own), common),
            "answer": maps.head(rng.named(level, "answer"), common, _width(wanted), around),
        }
        if number < len(levels) - 1:
            dropped[str(number)]["fuse"] = maps.head(rng.named(level, "fuse"), 2 * common, 2)
    return Heads(dropped=dropped)


def _levels(student: Outputs, teacher: Outputs) -> list[tuple[Outputs, Outputs]]:
    """Both outputs with the tap of each level alone, from shallow to deep."""

    def alone(outputs: Outputs, number: int) -> Outputs:
        return dataclasses.replace(outputs, taps={"hidden": outputs.taps["hidden"][number]})

    numbers = range(len(student.taps["hidden"]))
    return [(alone(student, number), alone(teacher, number)) for number in numbers]


def _fused(level: dict[str, maps.Head], own: Array, deeper: Array | None, ahead: int) -> Array:
    own = maps.through(own, level["into"], ahead)
    if deeper is None:
        return own
    deeper = maps.pooled(deeper, ahead, own.shape[ahead:-1])
    both = jnp.concatenate([own, deeper], axis=-1)
    share = jax.nn.sigmoid(maps.through(both, level["fuse"], ahead))
    return share[..., :1] * own + share[..., 1:] * deeper


def _hierarchical(answer: Array, wanted: Array, ahead: int) -> PerPosition:
    grid = wanted.shape[ahead:-1]
    scales = [grid, *((cells,) * len(grid) for cells in CONTEXTS if cells < min(grid))]
    weights = [0.5**i for i in range(len(scales))]
    inner = tuple(range(ahead, wanted.ndim))
    values = jnp.zeros(wanted.shape[:ahead], jnp.float32)
    for weight, size in zip(weights, scales, strict=True):
        difference = maps.pooled(answer, ahead, size) - maps.pooled(wanted, ahead, size)
        values = values + weight * jnp.mean(difference**2, axis=inner)
    return values / sum(weights)


def _width(outputs: Outputs) -> int:
    return outputs.taps["hidden"].shape[-1]
