"""Losses on features before their activation: which neurons are on, and how far.

Shapes: taps ``hidden`` ``[*b *g s]`` of the student and ``[*b *g t]`` of the teacher, of one grid
-> ``[*b]``. Name layers whose answer goes into the rectifier, not what comes out of it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.losses import maps
from kd.core.losses.features import projection
from kd.core.types import Batch, Heads, Hparams, Outputs

PerPosition = Float[Array, "*b"]


def activation_boundary(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """The student's neurons on where the teacher's are, off where they are off, by a margin.

    Formula: ``sum_i [h_t > 0] r(m - s)_i^2 + [h_t <= 0] r(m + s)_i^2`` over places and features i,
    r the rectifier, ``s = W h_s + c`` the connector, which is trained and dropped, and the margin
    ``m = hparams["margin"]``. Shapes: taps ``hidden`` ``[*b *g s]`` and ``[*b *g t]``, before their
    activation and of one grid -> ``[*b]``.

    Source: Heo et al. (2019), "Knowledge transfer via distillation of activation boundaries formed
    by hidden neurons", eq. 5 and 6.
    """
    del batch
    margin = hparams["margin"]
    own = maps.through(maps.hidden(student), heads.dropped, maps.ahead(student))
    missing = jnp.where(maps.hidden(teacher) > 0, margin - own, margin + own)
    return jnp.sum(jax.nn.relu(missing) ** 2, axis=maps.inner(student, missing))


def ofd(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> tuple[PerPosition, dict[str, Array]]:
    """Distance before the activation, where what the teacher switches off need only be low enough.

    Formula: ``sum_i d(max(h_t, m)_i, (W h_s + c)_i)`` over places and features i, where
    ``d(t, s) = 0`` if ``s <= t <= 0``, else ``(t - s)^2``. The margin m of a channel is the mean of
    the teacher's negative answers, over all that the run has seen so far, this batch included: the
    buffers ``sum[t]`` and ``count[t]``. W and c are trained and dropped. Shapes: taps ``hidden``
    ``[*b *g s]`` and ``[*b *g t]``, before their activation and of one grid -> ``[*b]``.

    Source: Heo et al. (2019), "A comprehensive overhaul of feature distillation", eq. 1 to 5.
    """
    del hparams
    answers = maps.hidden(teacher)
    buffers = _with_negatives(heads.buffers, answers, batch["weight"])
    margin = buffers["sum"] / jnp.maximum(buffers["count"], 1e-6)
    wanted = jnp.maximum(answers, jnp.broadcast_to(margin, answers.shape))
    own = maps.through(maps.hidden(student), heads.dropped, maps.ahead(student))
    counts = (own > wanted) | (wanted > 0)
    distance = jnp.where(counts, wanted - own, 0.0) ** 2
    return jnp.sum(distance, axis=maps.inner(student, distance)), buffers


def connector_and_margins(
    key: jax.Array, student: Outputs, teacher: Outputs, examples: int
) -> Heads:
    """What `ofd` owns: a connector, and the sum and count of negative answers, none so far.

    Raises:
      KdError: hidden layers whose axes before the last are not the same.
    """
    nothing = jnp.zeros(teacher.taps["hidden"].shape[-1], jnp.float32)
    connector = projection(key, student, teacher, examples)
    return dataclasses.replace(connector, buffers={"sum": nothing, "count": nothing})


def _with_negatives(
    buffers: dict[str, Array], answers: Array, weight: Float[Array, "*b"]
) -> dict[str, Array]:
    """Sum and count of negative answers of each channel, with those of a batch."""
    axes = tuple(range(answers.ndim - 1))
    weight = weight.reshape(*weight.shape, *(1,) * (answers.ndim - weight.ndim))
    negative = weight * (answers < 0)
    return {
        "sum": buffers["sum"] + jnp.sum(negative * answers, axis=axes),
        "count": buffers["count"] + jnp.sum(negative, axis=axes),
    }
