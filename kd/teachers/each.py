"""What each of several models answers to the same examples."""

from __future__ import annotations

from typing import Any

import jax

from kd.core.types import Answer, Batch, Outputs, PyTree
from kd.models.abstract import convolves


def of_each(answer: Answer, axis: str | None = None) -> Answer:
    """`answer` of several models: their variables, and what they answer, have a leading axis of
    them, which may be split over the mesh's `axis`.

    They are computed at once; convolutions one model after another on a CPU, where a vmap of them
    is one grouped convolution and takes several times as long (docs/scaling.md). The numbers agree
    but for rounding.
    """
    at_once = jax.vmap(answer, in_axes=(0, None), spmd_axis_name=axis)

    def answers(variables: PyTree, batch: Batch) -> Outputs:
        if not _on_one_cpu() or not _convolves(answer, variables, batch):
            return at_once(variables, batch)
        return jax.lax.map(lambda own: answer(own, batch), variables)

    return answers


def _on_one_cpu() -> bool:
    mesh = jax.sharding.get_abstract_mesh()
    return jax.default_backend() == "cpu" and (mesh.empty or mesh.size == 1)


def _convolves(answer: Answer, variables: PyTree, batch: Batch) -> bool:
    def shape(leaf: Any, axes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape[axes:], leaf.dtype)

    alone = jax.tree.map(lambda leaf: shape(leaf, 1), variables)
    return convolves(answer, alone, jax.tree.map(lambda leaf: shape(leaf, 0), dict(batch)))
