"""Teachers: live, ensemble, precomputed.

All of them are ``Teacher(variables, apply)`` and look alike to the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from kd.errors import unknown
from kd.types import Average, Batch, Model, Outputs, PyTree, Teacher

AVERAGES: tuple[Average, ...] = ("arithmetic", "geometric", "per_member")


def live(
    model: Model, params: PyTree, extra: PyTree | None = None, *, fingerprint: str = ""
) -> Teacher:
    """One model, run in evaluation mode on whatever the student sees.

    Sees ``batch["teacher_inputs"]`` where the batch has them, else ``batch["inputs"]``.
    """
    model_extra = {} if extra is None else extra

    def apply(variables: PyTree, batch: Batch) -> Outputs:
        inputs = batch["teacher_inputs"] if "teacher_inputs" in batch else batch["inputs"]
        return model.apply(variables["params"], variables["extra"], inputs, train=False)[0]

    return Teacher({"params": params, "extra": model_extra}, apply, fingerprint)


def ensemble(
    model: Model,
    params: PyTree,
    extra: PyTree | None = None,
    *,
    average: Average = "arithmetic",
    fingerprint: str = "",
) -> Teacher:
    """The members of a population as one teacher: every leaf of `params` has a leading axis ``e``.

    `average`: arithmetic or geometric mean of the members' softened distributions, or
    ``per_member``: the loss is computed against each member and averaged.

    Raises:
      KdError: an unknown averaging rule.

    Source: Hinton, Vinyals & Dean (2015), section 2, on ensembles.
    """
    check_average(average)
    one = live(model, params, extra, fingerprint=fingerprint)

    def apply(variables: PyTree, batch: Batch) -> Outputs:
        members = jax.vmap(one.apply, in_axes=(0, None))(variables, batch)
        return Outputs(members.logits, average)

    return Teacher(one.variables, apply, fingerprint, stacked=1)


def precomputed(
    logits: np.ndarray, *, average: Average | None = None, fingerprint: str = ""
) -> Teacher:
    """Logits computed beforehand for a fixed transfer set, gathered by ``batch["index"]``.

    Shapes: ``logits[n v]``, or ``logits[e n v]`` with `average`: members are kept apart, so that
    any temperature and any averaging rule can still be asked of them.

    Raises:
      KdError: an unknown averaging rule.
    """
    if average is None:
        return gathered(jnp.asarray(logits), fingerprint=fingerprint)
    check_average(average)
    table = jnp.asarray(np.moveaxis(np.asarray(logits), 0, 1))
    return gathered(table, average=average, fingerprint=fingerprint)


def gathered(table: PyTree, *, average: Average | None = None, fingerprint: str = "") -> Teacher:
    """`precomputed` of a table that lies as it is gathered, or of its shape alone.

    Shapes: ``table[n v]``, or ``table[n e v]`` with `average`: one example's logits lie together,
    and gathering reads them in one go.
    """
    if average is None:
        return Teacher(table, lambda table, batch: Outputs(table[batch["index"]]), fingerprint)
    return Teacher(
        table,
        lambda table, batch: Outputs(jnp.moveaxis(table[batch["index"]], -2, 0), average),
        fingerprint,
    )


def unpaired_answer(teacher: Teacher) -> Callable[[PyTree, Batch], Outputs]:
    """``answer(variables, batch)`` of the first of several paired teachers, or of any other teacher
    as it is.
    """
    if teacher.pairs is None:
        return teacher.apply
    return lambda variables, batch: teacher.apply(
        jax.tree.map(lambda leaf: leaf[0], variables), batch
    )


def predicts_by(average: Average) -> Literal["arithmetic", "geometric"]:
    """The rule by which an ensemble predicts: its own, or arithmetic where the losses are taken
    member by member.
    """
    return "arithmetic" if average == "per_member" else average


def check_average(average: str | None) -> None:
    """Raise a `KdError` unless `average` is an averaging rule."""
    if not isinstance(average, str | None) or average not in AVERAGES:
        raise unknown("teacher.average", average, AVERAGES)
