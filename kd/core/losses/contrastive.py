"""Contrastive distillation: an example is told from all others by a memory of their features."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.losses.rows import products, rows, unit
from kd.core.types import Batch, Heads, Hparams, Outputs
from kd.errors import KdError

WIDTH = 128
"""Numbers of an embedding, as in the paper."""


def crd(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> tuple[Float[Array, " b"], dict[str, Array]]:
    """Contrastive representation distillation: which of the student's and the teacher's features
    are of one example?

    Formula: ``-log h(t_i, s_i) - N/2 mean_j (log(1 - h(t_j, s_i)) + log(1 - h(t_i, s_j)))``
    with ``h(t, s) = e / (e + N/M)``, ``e = exp(f(t)' g(s) / tau)``; f and g are linear maps to 128
    numbers of length 1, trained with the student and dropped with the run. j runs over all other
    examples that were seen so far, of the M of the data, by the memory: ``v <- r v + (1 - r) f(t)``
    of length 1, moved after each step; ``r = hparams["momentum"]``, ``N = hparams["negatives"]``.
    Shapes: taps ``hidden`` ``[b ...] -> [b]``, in nats, and the memories ``[M 128]``.

    Raises:
      KdError: examples with several positions.

    Source: Tian et al. (2020), "Contrastive representation distillation", eq. 10 to 19, with the
    mean over all negatives in the place of N drawn ones.
    """
    if batch["weight"].ndim != 1:
        raise KdError(
            "crd remembers one feature of each example and this data has positions; take a loss "
            "that compares positions, such as similarity_preserving"
        )
    own = {"student": _embedded(student, "student", batch, heads)}
    own["teacher"] = _embedded(teacher, "teacher", batch, heads)
    memories, index = heads.buffers, batch["index"]
    bias = jnp.log(hparams["negatives"] / len(memories["teacher"]))
    positive = jnp.sum(own["student"] * own["teacher"], axis=1) / hparams["tau"]
    loss = -jax.nn.log_sigmoid(positive - bias)
    for anchor, memory in (("student", "teacher"), ("teacher", "student")):
        scores = products(own[anchor], memories[memory]) / hparams["tau"]
        rejected = _mean_of_others(jax.nn.log_sigmoid(bias - scores), memories[memory], index)
        loss -= hparams["negatives"] / 2 * rejected
    later = {
        side: _remembered(memories[side], own[side], batch, hparams["momentum"]) for side in own
    }
    return loss, later


def memory(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
    """First weights of the embeddings of `crd`, and memories that have seen nothing: zeros."""
    dropped = {}
    for side, outputs in (("student", student), ("teacher", teacher)):
        key, draw = jax.random.split(key)
        width = math.prod(outputs.taps["hidden"].shape[1:])
        kernel = jax.random.normal(draw, (width, WIDTH), jnp.float32) / math.sqrt(width)
        dropped[side] = {"kernel": kernel, "bias": jnp.zeros(WIDTH, jnp.float32)}
    empty = {side: jnp.zeros((examples, WIDTH), jnp.float32) for side in dropped}
    return Heads(dropped=dropped, buffers=empty)


def _embedded(outputs: Outputs, side: str, batch: Batch, heads: Heads) -> Float[Array, "b e"]:
    weights = heads.dropped[side]
    return unit(rows(outputs, "hidden", batch) @ weights["kernel"] + weights["bias"][None])


def _mean_of_others(
    values: Float[Array, "b m"], remembered: Float[Array, "m e"], index: Array
) -> Float[Array, " b"]:
    """The mean over the other examples that were seen so far; 0 before any was."""
    seen = jnp.any(remembered != 0, axis=1)
    others = seen[None, :] & (jnp.arange(len(remembered))[None, :] != index[:, None])
    count = jnp.maximum(jnp.sum(others, axis=1), 1)
    return jnp.sum(jnp.where(others, values, 0.0), axis=1) / count


def _remembered(
    remembered: Float[Array, "m e"], features: Float[Array, "b e"], batch: Batch, momentum: Array
) -> Float[Array, "m e"]:
    """The memory after this batch; examples of weight 0 are not in it."""
    index = batch["index"]
    moved = unit(momentum * remembered[index] + (1.0 - momentum) * features)
    place = jnp.where(batch["weight"] > 0, index, len(remembered))
    return remembered.at[place].set(moved, mode="drop")
