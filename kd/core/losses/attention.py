"""Losses on where a layer is active, which need no common width and own nothing.

Shapes: taps ``hidden`` ``[*b *g s]`` of the student and ``[*b *g t]`` of the teacher -> ``[*b]``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.losses import maps
from kd.core.types import Batch, Hparams, Outputs

PerPosition = Float[Array, "*b"]


def attention_transfer(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams
) -> PerPosition:
    """Distance of attention maps: at which places features are large.

    Formula: ``1/2 | Q_s/|Q_s| - Q_t/|Q_t| |`` with ``Q = sum_c a_c^2`` at every place and ``| |``
    the length over places, not squared; where the grids differ, the attention maps are averaged
    over the cells of the smaller. Shapes: taps ``hidden`` ``[*b *g s]`` and ``[*b *g t]``, of
    widths and grids that may differ -> ``[*b]``.

    Raises:
      KdError: a layer without a grid, or a map beside tokens.

    Source: Zagoruyko & Komodakis (2017), "Paying more attention to attention", eq. 2, with F^2_sum
    and p = 2.
    """
    del batch, hparams
    maps.check_has_grid(student, teacher)
    size = maps.common_grid(student, teacher)
    own, wanted = (_attention(outputs, size) for outputs in (student, teacher))
    return 0.5 * maps.distance(own, wanted, -1)


def nst(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Neuron selectivity: the distribution of channels, each a pattern over places, by the maximum
    mean discrepancy.

    Formula: ``1/2 (mean_tt' k(f_t, f_t') + mean_ss' k(f_s, f_s') - 2 mean_ts k(f_t, f_s))`` over
    pairs of channels, f a channel's values over all places at length 1, ``k(x, y) = (x'y)^2``.
    Where the grids differ, maps are averaged over the cells of the smaller. Shapes: taps ``hidden``
    ``[*b *g s]`` and ``[*b *g t]``, of widths and grids that may differ -> ``[*b]``.

    Raises:
      KdError: a layer without a grid, or a map beside tokens.

    Source: Huang & Wang (2017), "Like what you like: knowledge distill via neuron selectivity
    transfer", eq. 4 and 5, with the polynomial kernel of degree 2.
    """
    del batch, hparams
    maps.check_has_grid(student, teacher)
    size, ahead = maps.common_grid(student, teacher), maps.ahead(student)
    own, wanted = (
        maps.unit(maps.flat(maps.pooled(maps.hidden(outputs), ahead, size), ahead), -2)
        for outputs in (student, teacher)
    )
    alike = _kernel(wanted, wanted) + _kernel(own, own) - 2.0 * _kernel(wanted, own)
    return 0.5 * alike


def _attention(outputs: Outputs, size: tuple[int, ...]) -> Float[Array, "*b g"]:
    energy = jnp.sum(maps.hidden(outputs) ** 2, axis=-1, keepdims=True)
    ahead = maps.ahead(outputs)
    return maps.unit(maps.flat(maps.pooled(energy, ahead, size), ahead)[..., 0], -1)


def _kernel(a: Float[Array, "*b g c"], b: Float[Array, "*b g d"]) -> PerPosition:
    """The mean of ``(x'y)^2`` over all channels x of a and y of b."""
    products = jnp.einsum("...gc,...gd->...cd", a, b, precision="highest")
    return jnp.mean(products**2, axis=(-2, -1))
