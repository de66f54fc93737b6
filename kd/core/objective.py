"""The objective: weighted terms, each a per-example loss, averaged once over the weights of the
global batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core import rng
from kd.core.heads import OwnedHeads
from kd.core.schedules import make_schedule
from kd.core.targets import masked_labels, where_labelled, with_label_share
from kd.core.terms import Term, tapped
from kd.core.types import Batch, Heads, Hparams, Outputs
from kd.errors import KdError

Objective = Callable[
    ..., tuple[Float[Array, "*b"], dict[str, Float[Array, "*b"]], OwnedHeads | None]
]
"""See `make_objective`."""


def make_objective(terms: Sequence[Term], total_steps: int = 1) -> Objective:
    """``objective(student, teacher, batch, hparams, step, heads, key) ->
    (total[*b], {name: value[*b]}, heads)``.

    ``total = sum_k weight_k(step) * loss_k``, where every number is ``hparams["terms"][name]``
    times its schedule's shape. A teacher that is a per-member ensemble answers with the mean of the
    losses against each member. Where ``batch["weight"]`` is 0 the logits and labels are replaced by
    zeros first, so whatever they hold, NaN included, reaches neither value nor gradient. Where only
    a part of a batch is labelled, the values of a loss that reads labels carry the label share of
    `kd.core.targets`: its mean is one over the labelled examples. `heads` are what the terms own,
    None where they own nothing; they come back with their buffers as they are next. `key` is that
    of the seed, for terms that need random numbers.

    Raises:
      KdError: no terms, or two of the same name.
    """
    names = [t.name for t in terms]
    if not names or len(set(names)) != len(names):
        raise KdError(
            f"an objective needs terms with distinct names, got {names}; name one with term(..., "
            "name=...)"
        )
    shapes = {
        t.name: {k: make_schedule(s, total_steps) for k, s in t.schedules.items()} for t in terms
    }

    def objective(
        student: Outputs,
        teacher: Outputs | None,
        batch: Batch,
        hparams: Hparams,
        step: jax.Array,
        heads: OwnedHeads | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Float[Array, "*b"], dict[str, Float[Array, "*b"]], OwnedHeads | None]:
        check_positions("student", student, batch)
        batch = with_label_share(masked_labels(batch))
        student = student.masked(batch["weight"])
        if teacher is not None:
            check_positions("teacher", teacher, batch)
            teacher = teacher.masked(batch["weight"])
        values, total = {}, jnp.zeros(batch["weight"].shape, jnp.float32)
        later = dict(heads or {})
        for t in terms:
            numbers = dict(hparams["terms"][t.name])
            for number, shape in shapes[t.name].items():
                numbers[number] = numbers[number] * shape(step)
            own, seen = later.get(t.name), _with_keys(t, batch, key, step)
            if own is None:
                values[t.name] = _against_teacher(t, student, teacher, seen, numbers)
            else:
                values[t.name], later[t.name] = _with_heads(t, student, teacher, seen, numbers, own)
            _check_values(t.name, values[t.name], batch["weight"].shape)
            total = total + numbers["weight"] * values[t.name]
        return total, values, None if heads is None else later

    return objective


def check_widths(student: int, teacher: int | None, terms: Sequence[Term], labelled: bool) -> None:
    """Check before the first step that student, teacher and data fit the terms.

    Raises:
      KdError: a term needs a teacher, labels or classes that are not there, no term reads the
        teacher that is there, or the class counts differ (both are shown).
    """
    if teacher is not None and not any(t.info.teacher for t in terms):
        raise KdError(
            "there is a teacher and no term of the objective reads it; add e.g. soft_targets, or "
            "leave the teacher out"
        )
    for t in terms:
        if student < t.info.classes:
            raise KdError(
                f"objective.{t.name} compares distributions over {t.info.classes} classes or more "
                f"and the student answers with {student}: nothing can be learnt; give the student "
                "an output per class, or take mse or soft_mse for regression, bce or soft_bce for "
                "one yes or no"
            )
        if t.info.teacher and teacher is None:
            raise KdError(
                f"objective.{t.name} needs a teacher and there is none; set teacher.workdir, or "
                "drop the term"
            )
        if t.info.labels and not labelled:
            raise KdError(
                f"objective.{t.name} needs labels and the transfer set has none; drop the term"
            )
    alike = any("same classes" in t.info.needs for t in terms)
    if teacher is not None and alike and student != teacher:
        raise KdError(
            f"the student answers with {student} classes and the teacher with {teacher}; "
            "train both on the same label set, or set student.classes"
        )


def _with_keys(t: Term, batch: Batch, key: jax.Array | None, step: jax.Array) -> Batch:
    """The batch with ``keys[b]`` where the loss needs random numbers: a function of seed, step,
    term and example, wherever in a batch the example stands.
    """
    if "random" not in t.info.needs:
        return batch
    assert key is not None
    stream = rng.stream(key, step, f"loss/{t.name}")
    return {**batch, "keys": jax.vmap(jax.random.fold_in, (None, 0))(stream, batch["index"])}


def _with_heads(
    t: Term,
    student: Outputs,
    teacher: Outputs | None,
    batch: Batch,
    numbers: Hparams,
    heads: Heads,
) -> tuple[Array, Heads]:
    """The values of a term that owns something, and what it owns with its buffers moved on."""
    answer = _against_teacher(t, student, teacher, batch, numbers, heads)
    if not jax.tree.leaves(heads.buffers):
        return answer, heads
    if teacher is not None and teacher.average == "per_member":
        raise KdError(
            f"objective.{t.name} owns buffers for one teacher and there are several; take one "
            "model as teacher"
        )
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise KdError(
            f"objective.{t.name} owns buffers, so it must answer with its values and with the "
            "buffers as they are next"
        )
    return answer[0], dataclasses.replace(heads, buffers=jax.lax.stop_gradient(answer[1]))


def _against_teacher(
    t: Term,
    student: Outputs,
    teacher: Outputs | None,
    batch: Batch,
    numbers: Hparams,
    *heads: Heads,
) -> Any:
    if t.taps:
        student, teacher = tapped(t, student, teacher)

    def loss(student: Outputs, teacher: Outputs | None, batch: Batch) -> Any:
        if teacher is None or not t.info.teacher or teacher.average != "per_member":
            return t.info.loss(student, teacher, batch, numbers, *heads)
        members = [teacher.member(i) for i in range(len(teacher.logits))]
        losses = [t.info.loss(student, member, batch, numbers, *heads) for member in members]
        if any(isinstance(values, tuple) for values in losses):
            return losses[0]
        return teacher.mean(jnp.stack(losses))

    return where_labelled(t.name, t.info, loss, student, teacher, batch)


def _check_values(name: str, values: Any, positions: tuple[int, ...]) -> None:
    if isinstance(values, (tuple, list, dict)):
        raise KdError(
            f"objective.{name} answers with a {type(values).__name__}; a loss must return one array"
        )
    if jnp.shape(values) != positions:
        raise KdError(
            f"objective.{name} answers with shape {jnp.shape(values)}; a loss must return one "
            "value per position, "
            f"{positions}, and neither average nor keep the classes"
        )
    if not jnp.issubdtype(
        values.dtype, jnp.floating
    ):  # such as an argmax: nothing would be learnt from it
        raise KdError(
            f"objective.{name} answers with {values.dtype}, which has no gradient; a loss must "
            "return floats"
        )


def check_positions(who: str, outputs: Outputs, batch: Batch) -> None:
    """Raise a `KdError` unless `outputs` answer for every position of the batch, ``weight[*b]``.

    Broadcasting would compare every example with one and the same answer.
    """
    if outputs.positions != batch["weight"].shape:
        raise KdError(
            f"the {who} answers for positions {outputs.positions} and the batch has "
            f"{batch['weight'].shape}; they must match"
        )
