"""The terms of an objective: a loss, its weight and numbers, and the features that it reads."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd.core.losses import LOSSES, LossInfo, Number
from kd.core.schedules import Schedule
from kd.core.types import Outputs
from kd.errors import KdError, unknown
from kd.names import lookup


@dataclasses.dataclass(frozen=True)
class Term:
    """One weighted loss of an objective. Build it with `term`, which checks the numbers."""

    name: str
    info: LossInfo
    numbers: Mapping[str, float]
    schedules: Mapping[str, Schedule]
    taps: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """The paths of the features that the loss reads: ``{its name: (student's, teacher's)}``."""


def term(
    loss: str | LossInfo | Callable[..., Any],
    weight: float = 1.0,
    *,
    name: str | None = None,
    weight_schedule: Schedule | None = None,
    temperature_schedule: Schedule | None = None,
    taps: Any = None,
    **numbers: float,
) -> Term:
    """A term ``weight * loss``, e.g. ``term("soft_targets", temperature=20.0)``.

    `loss` is a name of `LOSSES`, ``package.module:function``, a function, or a `LossInfo` where it
    needs no teacher; `numbers` are what that loss reads (temperature, beta, smoothing). A number
    that the loss never reads is an error: a temperature that does not reach its loss is the oldest
    silent bug of distillation. Where the loss reads inner features, `taps` say which they are, by
    the paths of modules: ``{"hidden": ("Dense_0", "Dense_1")}``, the student's and the teacher's,
    or one path where they are the same.

    Raises:
      KdError: an unknown loss, number or tap, or a number outside its interval.
    """
    if not isinstance(loss, (str, LossInfo)) and not callable(loss):
        raise KdError(f"a loss must be a name or a function, got {loss!r}; see 'kd list'")
    named = lookup("loss", loss, LOSSES) if isinstance(loss, str) else loss
    info = (
        named
        if isinstance(named, LossInfo)
        else LossInfo(named, numbers={k: Number(v) for k, v in numbers.items()})
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
    set_ones = {key: value for key, value in schedules.items() if value is not None}
    return Term(label, info, values, set_ones, _pairs_of_paths(label, info, taps))


def _pairs_of_paths(label: str, info: LossInfo, taps: Any) -> dict[str, tuple[str, str]]:
    """The taps of a term as pairs, the student's path and the teacher's."""
    if not isinstance(taps, Mapping | None):
        raise KdError(
            f"objective.{label}.taps must map the loss's names to paths, got {taps!r}; e.g. "
            "{'hidden': ('Dense_0', 'Dense_1')}"
        )
    paths = {} if taps is None else dict(taps)
    for name in paths:
        if name not in info.taps:
            raise unknown(f"tap in objective.{label}.taps:", name, info.taps or ["none"])
    for name in info.taps:
        if name not in paths:
            raise KdError(
                f"objective.{label} reads the inner features '{name}' and nothing says which they "
                f"are; set taps = {{'{name}': (path in the student, path in the teacher)}}"
            )
    return {name: _pair_of_paths(label, name, path) for name, path in paths.items()}


def _pair_of_paths(label: str, name: str, path: Any) -> tuple[str, str]:
    pair = (path, path) if isinstance(path, str) else path
    if isinstance(pair, (tuple, list)) and [type(part) for part in pair] == [str, str]:
        return (pair[0], pair[1])
    raise KdError(
        f"objective.{label}.taps.{name} must be a path or two, the student's and the teacher's, "
        f"got {path!r}"
    )


def student_taps(terms: Sequence[Term]) -> tuple[str, ...]:
    """The paths at which the terms look into the student."""
    return tuple(dict.fromkeys(pair[0] for t in terms for pair in t.taps.values()))


def teacher_taps(terms: Sequence[Term]) -> tuple[str, ...]:
    """The paths at which the terms look into the teacher."""
    taught = [t for t in terms if t.info.teacher]
    return tuple(dict.fromkeys(pair[1] for t in taught for pair in t.taps.values()))


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


def tapped(t: Term, student: Outputs, teacher: Outputs | None) -> tuple[Outputs, Outputs | None]:
    """The outputs as a term sees them: with the taps that it reads, by the names of its loss.

    Raises:
      KdError: an averaged ensemble, whose features have no average.
    """
    student = student.named({name: pair[0] for name, pair in t.taps.items()})
    if teacher is None or not t.info.teacher:
        return student, teacher
    if teacher.average not in (None, "per_member"):
        raise KdError(
            f"objective.{t.name} reads inner features, and those of an ensemble have no average; "
            "set teacher.average=per_member"
        )
    return student, teacher.named({name: pair[1] for name, pair in t.taps.items()})
