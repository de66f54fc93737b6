"""Logits of a model, or of every member of a population, for a whole data set."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kd.data import Dataset, gather, padded_rows, to_device
from kd.types import Model, Outputs, PyTree, Teacher


@functools.partial(jax.jit, static_argnames=("model", "members"))
def _logits(model: Model, members: bool, variables: tuple[PyTree, PyTree], table: PyTree, rows: jax.Array) -> jax.Array:
    def one(params: PyTree, extra: PyTree, inputs: jax.Array) -> jax.Array:
        return model.apply(params, extra, inputs, train=False)[0].logits

    apply = jax.vmap(one, in_axes=(0, 0, None)) if members else one
    return jax.lax.map(lambda batch_rows: apply(*variables, gather(table, batch_rows)["inputs"]), rows)


def predict(
    model: Model, params: PyTree, extra: PyTree, data: Dataset, *, members: bool, batch_size: int
) -> np.ndarray:
    """Logits in evaluation mode. Shapes: ``[n v]``, or ``[m n v]`` when every leaf of `params` has a member axis."""
    rows = padded_rows(len(data), min(batch_size, len(data)))
    logits = _logits(model, members, (params, extra), to_device(data), jnp.asarray(rows))
    return _examples(np.asarray(logits), members, len(data))


def answers(teacher: Teacher, data: Dataset, *, batch_size: int = 500) -> Outputs:
    """A teacher's outputs for every example of `data`, in order: what `precomputed` wants as its table.

    Shapes: logits ``[n v]``, or ``[e n v]`` for an ensemble and for several teachers to be paired with students.
    """
    several = teacher.pairs is not None
    apply = jax.vmap(teacher.apply, in_axes=(0, None)) if several else teacher.apply

    @jax.jit
    def run(variables: PyTree, table: PyTree, rows: jax.Array) -> Outputs:
        return jax.lax.map(lambda batch_rows: apply(variables, gather(table, batch_rows)), rows)

    rows = padded_rows(len(data), min(batch_size, len(data)))
    outputs = run(teacher.variables, to_device(data), jnp.asarray(rows))
    members = several or outputs.average is not None
    return Outputs(_examples(np.asarray(outputs.logits), members, len(data)), outputs.average)


def _examples(logits: np.ndarray, members: bool, examples: int) -> np.ndarray:
    """``[batches b v] -> [n v]``, ``[batches m b v] -> [m n v]``: batches in a row, without the padding of the last."""
    if members:
        logits = np.moveaxis(logits, 0, 1)
    return logits.reshape(*logits.shape[:-3], -1, logits.shape[-1])[..., :examples, :]
