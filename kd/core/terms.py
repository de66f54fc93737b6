"""The terms of an objective: a loss, its weight and numbers, and the features that it reads."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd.calling import check_takes
from kd.core.losses import LOSSES, LossInfo, Number
from kd.core.losses.pairs import over_pairs
from kd.core.schedules import Schedule
from kd.core.types import Outputs
from kd.errors import KdError, unknown
from kd.names import lookup

Pair = tuple[str, str]
"""Paths of two layers, the student's and the teacher's."""


@dataclasses.dataclass(frozen=True)
class Term:
    """One weighted loss of an objective. Build it with `term`, which checks the numbers."""

    name: str
    info: LossInfo
    numbers: Mapping[str, float]
    schedules: Mapping[str, Schedule]
    taps: Mapping[str, tuple[Pair, ...]] = dataclasses.field(default_factory=dict)
    """The paths of the features that the loss reads: ``{its name: (a pair, ...)}``."""


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
    or one path where they are the same. Several pairs, ``{"hidden": (("a", "a"), ("b", "d"))}``,
    make the sum over pairs, or whatever a loss that is `fused` makes of them.

    Raises:
      KdError: an unknown loss, number or tap, or a number outside its interval.
    """
    if not isinstance(loss, (str, LossInfo)) and not callable(loss):
        raise KdError(f"a loss must be a name or a function, got {loss!r}; see 'kd list'")
    named = lookup("loss", loss, LOSSES) if isinstance(loss, str) else loss
    _check_takes(loss, named)
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
    layers = _pairs_of_paths(label, info, taps)
    pairs = max(map(len, layers.values()), default=1)
    if pairs > 1 and not info.fused:
        info = over_pairs(info, pairs)
    return Term(label, info, values, set_ones, layers)


def _check_takes(loss: Any, named: Any) -> None:
    owns = isinstance(named, LossInfo) and named.init is not None
    takes = ["student", "teacher", "batch", "hparams", *(["heads"] if owns else [])]
    function = named.loss if isinstance(named, LossInfo) else named
    check_takes(f"loss {loss!r:.80}", function, f"({', '.join(takes)})", *takes)


def _pairs_of_paths(label: str, info: LossInfo, taps: Any) -> dict[str, tuple[Pair, ...]]:
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
    pairs = {name: _pairs_of(label, name, path) for name, path in paths.items()}
    counts = {name: len(several) for name, several in pairs.items()}
    if len(set(counts.values())) > 1:
        raise KdError(f"objective.{label}.taps must all name as many pairs of layers, got {counts}")
    return pairs


def _pairs_of(label: str, name: str, paths: Any) -> tuple[Pair, ...]:
    """One pair or several, of a path, two paths, or pairs of paths."""
    if isinstance(paths, str):
        return ((paths, paths),)
    if _is_pair(paths):
        return ((paths[0], paths[1]),)
    if isinstance(paths, (tuple, list)) and paths and all(map(_is_pair, paths)):
        return tuple((pair[0], pair[1]) for pair in paths)
    raise KdError(
        f"objective.{label}.taps.{name} must be a path or two, the student's and the teacher's, or "
        f"several such pairs, got {paths!r}"
    )


def _is_pair(paths: Any) -> bool:
    return isinstance(paths, (tuple, list)) and [type(path) for path in paths] == [str, str]


def student_taps(terms: Sequence[Term]) -> tuple[str, ...]:
    """The paths at which the terms look into the student."""
    return tuple(dict.fromkeys(path for t in terms for path in _side(t, 0)))


def teacher_taps(terms: Sequence[Term]) -> tuple[str, ...]:
    """The paths at which the terms look into the teacher."""
    return tuple(dict.fromkeys(path for t in terms if t.info.teacher for path in _side(t, 1)))


def _side(t: Term, side: int) -> list[str]:
    """All paths of a term in the student (0) or in the teacher (1)."""
    return [pair[side] for pairs in t.taps.values() for pair in pairs]


def check_whole_batch(terms: Sequence[Term], parts: int) -> None:
    """Raise a `KdError` where a batch is cut into `parts` and a term compares its examples."""
    for t in terms:
        if parts > 1 and t.info.whole_batch:
            raise KdError(
                f"objective.{t.name} compares the examples of a batch with each other and "
                f"accumulate={parts} cuts it into parts; leave accumulate out, or take a smaller "
                "data.batch_size"
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


def tapped(t: Term, student: Outputs, teacher: Outputs | None) -> tuple[Outputs, Outputs | None]:
    """The outputs as a term sees them: with the taps that it reads, by the names of its loss; those
    of several pairs, and of a fused loss, as tuples.

    Raises:
      KdError: an averaged ensemble, whose features have no average.
    """
    student = student.named(_names(t, 0))
    if teacher is None or not t.info.teacher:
        return student, teacher
    if teacher.average not in (None, "per_member"):
        raise KdError(
            f"objective.{t.name} reads inner features, and those of an ensemble have no average; "
            "set teacher.average=per_member"
        )
    return student, teacher.named(_names(t, 1))


def _names(t: Term, side: int) -> dict[str, str | tuple[str, ...]]:
    """The paths of each tap on one side: one where it is one pair, else a tuple."""
    paths = {name: tuple(pair[side] for pair in pairs) for name, pairs in t.taps.items()}
    if t.info.fused:
        return dict(paths)
    return {name: several[0] if len(several) == 1 else several for name, several in paths.items()}
