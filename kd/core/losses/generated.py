"""Losses in which something that is learnt beside the student makes what is compared.

Shapes: taps ``hidden`` ``[*b *g s]`` of the student and ``[*b *g t]`` of the teacher -> ``[*b]``.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core import rng
from kd.core.losses import maps
from kd.core.types import Batch, Heads, Hparams, Outputs

PerPosition = Float[Array, "*b"]

LEAST_VARIANCE = 1e-5
FIRST_VARIANCE = 5.0


def vid(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """Variational information: how likely the teacher's features are, given the student's, under a
    normal distribution whose mean and variances are learnt.

    Formula: ``sum_i ((h_t - u(h_s))_i^2 / (2 v_c) + 1/2 log v_c)`` over places and features i, c
    the channel of i, ``v_c = log(1 + exp(a_c)) + 1e-5``; u are three linear maps of each place with
    rectifiers between them, trained and dropped, as a is. The constant of the normal distribution
    is left out. It can be negative. Shapes: taps ``hidden`` ``[*b *g s]`` and ``[*b *g t]``, of
    one grid -> ``[*b]``.

    Source: Ahn et al. (2019), "Variational information distillation for knowledge transfer", eq. 4
    to 6.
    """
    del batch, hparams
    ahead, own = maps.ahead(student), maps.hidden(student)
    for layer in ("first", "second"):
        own = jax.nn.relu(maps.through(own, heads.dropped[layer], ahead))
    mean = maps.through(own, heads.dropped["mean"], ahead)
    variance = jax.nn.softplus(heads.dropped["variance"]) + LEAST_VARIANCE
    variance = jnp.broadcast_to(variance, mean.shape)
    unlikely = 0.5 * ((maps.hidden(teacher) - mean) ** 2 / variance + jnp.log(variance))
    return jnp.sum(unlikely, axis=maps.inner(student, unlikely))


def normal_distribution(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
    """First weights of `vid`: three linear maps as wide as the teacher, and a variance of 5.

    Raises:
      KdError: hidden layers whose axes before the last are not the same.
    """
    del examples
    maps.check_same_grid(student, teacher)
    width, target = (outputs.taps["hidden"].shape[-1] for outputs in (student, teacher))
    softplus_of = math.log(math.expm1(FIRST_VARIANCE - LEAST_VARIANCE))
    return Heads(
        dropped={
            "first": maps.head(rng.named(key, "first"), width, target),
            "second": maps.head(rng.named(key, "second"), target, target),
            "mean": maps.head(rng.named(key, "mean"), target, target),
            "variance": jnp.full(target, softplus_of, jnp.float32),
        }
    )


def mgd(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """Masked generation: the student's map with places left out must do to make the teacher's.

    Formula: ``|h_t - G(M (W h_s + c))|^2`` summed over places and features; M is 0 at each place
    with the chance ``hparams["mask_ratio"]``, else 1, drawn anew for every example at every step;
    ``G(x) = W_2 * r(W_1 * x)`` are two convolutions over 3 places along each axis, r the rectifier.
    W, c and G are trained and dropped. Shapes: taps ``hidden`` ``[*b *g s]`` and ``[*b *g t]``, of
    one grid, ``batch["keys"][b]`` -> ``[*b]``.

    Raises:
      KdError: a layer without a grid.

    Source: Yang et al. (2022), "Masked generative distillation", eq. 1 to 4.
    """
    ahead = maps.ahead(student)
    aligned = maps.through(maps.hidden(student), heads.dropped["align"], ahead)
    places = (*aligned.shape[1:-1], 1)
    drawn = jax.vmap(lambda key: jax.random.uniform(key, places))(batch["keys"])
    seen = jnp.where(drawn < hparams["mask_ratio"], 0.0, aligned)
    inside = jax.nn.relu(maps.through(seen, heads.dropped["first"], ahead))
    difference = maps.through(inside, heads.dropped["second"], ahead) - maps.hidden(teacher)
    return jnp.sum(difference**2, axis=maps.inner(student, difference))


def generator(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
    """First weights of `mgd`: the alignment of widths, and two convolutions.

    Raises:
      KdError: hidden layers whose axes before the last are not the same, or that have no grid.
    """
    del examples
    maps.check_has_grid(student, teacher)
    maps.check_same_grid(student, teacher)
    width, target = (outputs.taps["hidden"].shape[-1] for outputs in (student, teacher))
    around = (3,) * len(maps.grid(student))
    return Heads(
        dropped={
            "align": maps.head(rng.named(key, "align"), width, target),
            "first": maps.head(rng.named(key, "first"), target, target, around),
            "second": maps.head(rng.named(key, "second"), target, target, around),
        }
    )


def factor_transfer(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """The student's translation of its features against the teacher's paraphrase of its own.

    Formula: ``| F_t/|F_t| - F_s/|F_s| |_1 + mean_i (h_t - D(F_t))_i^2``, ``F_t = E(h_t)`` the
    paraphraser's factors, which the first part takes as they are, ``F_s = R(h_s)`` the
    translator's, at the mean over cells of the smaller grid; E, D and R are linear maps of each
    place, E and R with a leaky rectifier of 0.1. The first part trains student and translator, the
    second the paraphraser alone, on the teacher alone. Shapes: taps ``hidden`` ``[*b *g s]`` and
    ``[*b *g t]``, of grids that may differ -> ``[*b]``.

    Source: Kim, Park & Kwak (2018), "Paraphrasing complex network", eq. 1 to 3, with p = 1 and
    factors of half the teacher's channels.
    """
    del batch, hparams
    ahead, size = maps.ahead(student), maps.common_grid(student, teacher)
    own, answers = (maps.pooled(maps.hidden(side), ahead, size) for side in (student, teacher))
    factors = jax.nn.leaky_relu(maps.through(answers, heads.dropped["paraphrase"], ahead), 0.1)
    again = maps.through(factors, heads.dropped["again"], ahead)
    translated = jax.nn.leaky_relu(maps.through(own, heads.dropped["translate"], ahead), 0.1)
    axes = maps.inner(student, factors)
    wanted = maps.unit(jax.lax.stop_gradient(factors), axes)
    apart = jnp.sum(jnp.abs(maps.unit(translated, axes) - wanted), axis=axes)
    return apart + jnp.mean((again - answers) ** 2, axis=axes)


def paraphraser(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
    """First weights of paraphraser and translator of `factor_transfer`.

    Raises:
      KdError: grids of different numbers of axes.
    """
    del examples
    maps.common_grid(student, teacher)
    width, target = (outputs.taps["hidden"].shape[-1] for outputs in (student, teacher))
    factors = max(1, target // 2)
    return Heads(
        dropped={
            "paraphrase": maps.head(rng.named(key, "paraphrase"), target, factors),
            "again": maps.head(rng.named(key, "again"), factors, target),
            "translate": maps.head(rng.named(key, "translate"), width, factors),
        }
    )
