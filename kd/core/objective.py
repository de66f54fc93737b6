"""The objective: weighted terms, each a per-example loss, averaged once over the weights of the
global batch.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.losses import LOSSES, LossInfo, Number
from kd.core.schedules import Schedule, make_schedule
from kd.core.types import Batch, Hparams, Outputs
from kd.errors import KdError, unknown
from kd.names import lookup

Objective = Callable[
    [Outputs, Outputs | None, Batch, Hparams, jax.Array],
    tuple[Float[Array, "*b"], dict[str, Float[Array, "*b"]]],
]


@dataclasses.dataclass(frozen=True)
class Term:
    """One weighted loss of an objective. Build it with `term`, which checks the numbers."""

    name: str
    info: LossInfo
    numbers: Mapping[str, float]
    schedules: Mapping[str, Schedule]


def term(
    loss: str | LossInfo | Callable[..., Any],
    weight: float = 1.0,
    *,
    name: str | None = None,
    weight_schedule: Schedule | None = None,
    temperature_schedule: Schedule | None = None,
    **numbers: float,
) -> Term:
    """A term ``weight * loss``, e.g. ``term("soft_targets", temperature=20.0)``.

    `loss` is a name of `LOSSES`, ``package.module:function``, a function, or a `LossInfo` where it
    needs no teacher; `numbers` are what that loss reads (temperature, beta, smoothing). A number
    that the loss never reads is an error: a temperature that does not reach its loss is the oldest
    silent bug of distillation.

    Raises:
      KdError: an unknown loss or number, or a number outside its interval.
    """
    if not isinstance(loss, (str, LossInfo)) and not callable(loss):
        raise KdError(f"a loss must be a name or a function, got {loss!r}; see 'kd list'")
    found = lookup("loss", loss, LOSSES) if isinstance(loss, str) else loss
    info = (
        found
        if isinstance(found, LossInfo)
        else LossInfo(found, numbers={k: Number(v) for k, v in numbers.items()})
    )
    if not isinstance(name, str | None):
        raise KdError(f"a term's name is text, got {name!r}; e.g. name='soft'")
    label = name or getattr(info.loss, "__name__", "loss")
    values = {key: number.default for key, number in info.numbers.items()}
    for key, value in {"weight": weight, **numbers}.items():
        check_number(label, info, key, value)
        values[key] = float(value)
    schedules = {"weight": weight_schedule, "temperature": temperature_schedule}
    if temperature_schedule is not None and "temperature" not in values:
        raise KdError(
            f"objective.{label} has no temperature, so temperature_schedule would do nothing; "
            "remove it"
        )
    if temperature_schedule is not None and _reaches_zero(temperature_schedule):
        raise KdError(
            f"objective.{label}.temperature_schedule reaches 0, in its warm-up or at one of its "
            "points, and no "
            "distribution has temperature 0; leave the warm-up out, and keep factors above 0"
        )
    return Term(
        label, info, values, {key: value for key, value in schedules.items() if value is not None}
    )


def _reaches_zero(schedule: Schedule) -> bool:
    return schedule.warmup_percent > 0 or any(factor == 0 for _, factor in schedule.points)


def check_number(label: str, info: LossInfo, key: str, value: float) -> None:
    """Raise a `KdError` unless the loss reads the number `key` and `value` lies in its interval."""
    if key == "weight":
        if isinstance(value, bool) or not (
            isinstance(value, (int, float)) and 0 <= value <= sys.float_info.max
        ):
            raise KdError(f"objective.{label}.weight must be a number of 0 or more, got {value!r}")
        return
    if key not in info.numbers:
        raise unknown(f"key in objective.{label}:", key, ["weight", *info.numbers])
    number = info.numbers[key]
    if isinstance(value, bool) or not (
        isinstance(value, (int, float)) and number.above < value < number.below
    ):
        raise KdError(
            f"objective.{label}.{key} must lie between {number.above:g} and {number.below:g}, got "
            f"{value!r}"
        )


def make_objective(terms: Sequence[Term], total_steps: int = 1) -> Objective:
    """``objective(student, teacher, batch, hparams, step) -> (total[*b], {name: value[*b]})``.

    ``total = sum_k weight_k(step) * loss_k``, where every number is ``hparams["terms"][name]``
    times its schedule's shape. A teacher that is a per-member ensemble answers with the mean of the
    losses against each member. Where ``batch["weight"]`` is 0 the logits and labels are replaced by
    zeros first, so whatever they hold, NaN included, reaches neither value nor gradient.

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
        student: Outputs, teacher: Outputs | None, batch: Batch, hparams: Hparams, step: jax.Array
    ) -> tuple[Float[Array, "*b"], dict[str, Float[Array, "*b"]]]:
        check_positions("student", student, batch)
        student, batch = student.masked(batch["weight"]), _masked_labels(batch)
        if teacher is not None:
            check_positions("teacher", teacher, batch)
            teacher = teacher.masked(batch["weight"])
        values, total = {}, jnp.zeros(batch["weight"].shape, jnp.float32)
        for t in terms:
            numbers = dict(hparams["terms"][t.name])
            for key, shape in shapes[t.name].items():
                numbers[key] = numbers[key] * shape(step)
            values[t.name] = _against_teacher(t, student, teacher, batch, numbers)
            _check_values(t.name, values[t.name], batch["weight"].shape)
            total = total + numbers["weight"] * values[t.name]
        return total, values

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
                "an output per class, or for regression a loss of your own"
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
    if teacher is not None and student != teacher:
        raise KdError(
            f"the student answers with {student} classes and the teacher with {teacher}; "
            "train both on the same label set, or set student.classes"
        )


def _against_teacher(
    t: Term, student: Outputs, teacher: Outputs | None, batch: Batch, numbers: Hparams
) -> Array:
    if teacher is None or not t.info.teacher or teacher.average != "per_member":
        return t.info.loss(student, teacher, batch, numbers)
    members = [teacher.member(i) for i in range(len(teacher.logits))]
    losses = [t.info.loss(student, member, batch, numbers) for member in members]
    return jnp.mean(jnp.stack(losses), axis=0)


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


def _masked_labels(batch: Batch) -> Batch:
    if "labels" not in batch:
        return batch
    return {**batch, "labels": jnp.where(batch["weight"] > 0, batch["labels"], 0)}
