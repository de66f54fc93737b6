"""Losses on how the channels of a layer, or of two, go together in one example. Each returns one
value per position; no example is compared with another.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.losses.rows import maps, products
from kd.core.types import Batch, Heads, Hparams, Outputs
from kd.errors import KdError

PerPosition = Float[Array, "*b"]


def fsp(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Flow of the solution: how the channels of one layer go with those of a later one.

    Formula: ``sum_ij (G(s)_ij - G(t)_ij)^2`` with ``G_ij = 1/M sum_x F_xi E_xj`` over the M places
    x of a map, F and E the taps ``first`` and ``second`` of a side. Where the grids of the two
    differ, the finer map is max-pooled to the coarser. Permuting the places of both changes
    nothing. Shapes: taps ``[*b ... i]`` and ``[*b ... j]``, of as many channels on both sides,
    ``-> [*b]``.

    Raises:
      KdError: taps of other numbers of channels, or grids of which one does not divide the other.

    Source: Yim et al. (2017), "A gift from knowledge distillation", eq. 1 and 2.
    """
    del hparams

    def flow(outputs: Outputs) -> Array:
        pair = [maps(outputs, tap, batch) for tap in ("first", "second")]
        grid = tuple(map(min, *(features.shape[1:-1] for features in pair)))
        first, second = (_channels(_pooled(features, grid)) for features in pair)
        return products(first, second) / first.shape[-1]

    return _apart("fsp", flow(student), flow(teacher)).reshape(batch["weight"].shape)


def gram(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Gram matrices: which channels of a layer are active together.

    Formula: ``1/(4 N^2) sum_ij (G(s)_ij - G(t)_ij)^2`` with ``G_ij = 1/M sum_x F_xi F_xj`` over the
    M places x of a map of N channels. Permuting the places changes nothing. Shapes: taps ``hidden``
    ``[*b ... n]``, of as many channels on both sides, ``-> [*b]``.

    Raises:
      KdError: taps of other numbers of channels.

    Source: Gatys et al. (2016), "Image style transfer using convolutional neural networks", eq. 3
    and 4.
    """
    del hparams

    def matrix(outputs: Outputs) -> Array:
        channels = _channels(maps(outputs, "hidden", batch))
        return products(channels, channels) / channels.shape[-1]

    own, taught = matrix(student), matrix(teacher)
    apart = _apart("gram", own, taught) / (4 * own.shape[-1] ** 2)
    return apart.reshape(batch["weight"].shape)


def icc(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """Inter-channel correlation (ICKD): channels are as alike, or as diverse, as the teacher's.

    Formula: ``1/c^2 sum_ij (G(P s)_ij - G(t)_ij)^2`` with ``G_ij = sum_x F_xi F_xj`` over the
    places x of a map of c channels. P is a linear map to the teacher's channels, trained with the
    student and dropped with the run, where the student has another number of them. Permuting the
    places changes nothing. Shapes: taps ``hidden`` ``[*b ... s]`` and ``[*b ... c] -> [*b]``.

    Raises:
      KdError: taps without the positions of the batch.

    Source: Liu et al. (2021), "Exploring inter-channel correlation for diversity-preserved
    knowledge distillation", eq. 2 to 4, without the batch normalisation behind the map.
    """
    del hparams
    own = maps(student, "hidden", batch)
    if "kernel" in heads.dropped:
        own = own @ heads.dropped["kernel"]
    own, taught = (_channels(features) for features in (own, maps(teacher, "hidden", batch)))
    apart = _apart("icc", products(own, own), products(taught, taught)) / taught.shape[1] ** 2
    return apart.reshape(batch["weight"].shape)


def to_channels(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
    """First weights of the map of `icc`, ``kernel[s c]``; none where both have as many channels."""
    del examples
    width, target = (outputs.taps["hidden"].shape[-1] for outputs in (student, teacher))
    if width == target:
        return Heads()
    kernel = jax.random.normal(key, (width, target), jnp.float32) / math.sqrt(width)
    return Heads(dropped={"kernel": kernel})


def _channels(features: Float[Array, "n ... c"]) -> Float[Array, "n c x"]:
    """The channels of a map, each a vector over its places."""
    return jnp.swapaxes(features.reshape(len(features), -1, features.shape[-1]), 1, 2)


def _pooled(features: Float[Array, "n ... c"], grid: tuple[int, ...]) -> Float[Array, "n ... c"]:
    """The map on a coarser grid, the largest of each cell."""
    sizes = features.shape[1:-1]
    pairs = list(zip(sizes, grid, strict=False))
    if len(sizes) != len(grid) or any(size % count for size, count in pairs):
        raise KdError(
            f"fsp compares two layers of a side on one grid, and {list(sizes)} cannot be pooled to "
            f"{list(grid)}; name layers of which one grid divides the other"
        )
    cells = [part for size, count in pairs for part in (count, size // count)]
    split = features.reshape(len(features), *cells, features.shape[-1])
    return split.max(axis=tuple(range(2, 2 + 2 * len(grid), 2)))


def _apart(name: str, own: Float[Array, "n i j"], taught: Float[Array, "n k l"]) -> Array:
    """Squared distance of two matrices of each example."""
    if own.shape != taught.shape:
        raise KdError(
            f"{name} compares matrices of channels, the student's {list(own.shape[1:])} and the "
            f"teacher's {list(taught.shape[1:])}, and has no projection; name layers with as many "
            "channels on both sides"
        )
    return jnp.sum((own - taught) ** 2, axis=(1, 2))
