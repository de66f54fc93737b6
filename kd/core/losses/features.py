"""Losses on inner features. Each returns one value per position, as those on logits do."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.types import Batch, Heads, Hparams, Outputs
from kd.errors import KdError


def hidden_mse(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> Float[Array, "*b"]:
    """Squared distance of a hidden layer from the teacher's, after a learnt projection.

    Formula: ``mean_d (W h_s + c - h_t)_d^2`` over all features d of a position; W and c are trained
    with the student and dropped with the run. Shapes: taps ``hidden`` ``[*b ... s]`` of the student
    and ``[*b ... t]`` of the teacher, whose axes between must be the same -> ``[*b]``.

    Source: Romero et al. (2015), "FitNets", eq. 3, as a mean and without its factor of 1/2.
    """
    del hparams
    hidden, wanted = (outputs.taps["hidden"].astype(jnp.float32) for outputs in (student, teacher))
    projected = hidden @ heads.dropped["kernel"]
    projected += jnp.broadcast_to(heads.dropped["bias"], projected.shape)
    inner = tuple(range(batch["weight"].ndim, wanted.ndim))
    return jnp.mean((projected - wanted) ** 2, axis=inner)


def projection(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
    """First weights of the projection of `hidden_mse`: ``kernel[s t]`` and ``bias[t]``.

    Raises:
      KdError: hidden layers whose axes before the last are not the same.
    """
    del examples
    hidden, wanted = student.taps["hidden"], teacher.taps["hidden"]
    if hidden.shape[:-1] != wanted.shape[:-1]:
        raise KdError(
            f"the student's hidden layer is {list(hidden.shape)} and the teacher's "
            f"{list(wanted.shape)}: only the last axis may differ; name layers of one grid"
        )
    width, target = hidden.shape[-1], wanted.shape[-1]
    kernel = jax.random.normal(key, (width, target), jnp.float32) / math.sqrt(width)
    return Heads(dropped={"kernel": kernel, "bias": jnp.zeros(target, jnp.float32)})
