"""How a run is read: as it was recorded, or with a refusal that names what has changed since."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax

from kd import lineage
from kd.config import Spec, TeacherSpec, code_of
from kd.core.types import Teacher
from kd.data.examples import Examples
from kd.errors import KdError
from kd.lineage import DataSet, Lineage, Weights
from kd.runs.splits import open_split
from kd.runs.workdir import Workdir, find
from kd.system.paths import anywhere
from kd.teachers.function import Unasked
from kd.teachers.make import digest
from kd.teachers.mixture import Mixture
from kd.training.task import Task
from kd.user_code import reached


def verify(
    workdir: Workdir, splits: Mapping[str, str] | None = None, *, despite_changes: bool = False
) -> tuple[str, ...]:
    """What of a run's code, and of `splits` by their fingerprints, is not what was recorded.

    What a run of an earlier version did not record cannot be compared, and passes.

    Raises:
      KdError: something is not what was recorded, and `despite_changes` is off.
    """
    code, data = _changes_of_code(workdir), _changes_of_data(workdir, splits or {})
    if not (code or data) or despite_changes:
        return (*code, *data)
    what = " and ".join(["code"] * bool(code) + ["data"] * bool(data))
    raise KdError(
        f"{workdir.path} was recorded with other {what}: {'; '.join([*code, *data])}; go back to "
        "it, or add --despite_changes (in Python despite_changes=True)"
    )


def look(
    workdir: Workdir, split: str, data_dir: str | None = None, *, despite_changes: bool = False
) -> tuple[Examples, tuple[str, ...]]:
    """A split of a run's data to evaluate on, and what has changed: see `verify`.

    A split that nobody has looked at before is noted beside the run.

    Raises:
      KdError: as `verify`, or no such split.
    """
    data = open_split(workdir.spec, split, data_dir)
    changes = verify(workdir, {split: data.fingerprint}, despite_changes=despite_changes)
    workdir.note_split(split, data.fingerprint)
    return data, changes


def lineage_of(spec: Spec, splits: Mapping[str, str], task: Task) -> Lineage:
    """Where a run that begins now comes from.

    `splits` are the fingerprints of all that it looks at.
    """
    data, teacher = task.data, task.teacher
    place = "" if spec.data.data_dir is None else str(anywhere(spec.data.data_dir).resolve())
    return Lineage(
        data=(DataSet(spec.data.source, place, data.fingerprint, splits, spec.data.licence),),
        code=code_of(spec),
        stack=lineage.stack(jax.default_backend()),
        teacher=None if teacher is None or spec.parts else _weights(spec.teacher, teacher),
        init=None if task.first is None else task.first.record,
        teachers=tuple(
            _weights(part.spec, taught)
            for part, taught in zip(spec.parts.values(), _parts(teacher), strict=True)
        ),
    )


def _parts(teacher: Teacher | None) -> tuple[Teacher, ...]:
    return teacher.parts if isinstance(teacher, Mixture) else ()


def _weights(told: TeacherSpec, teacher: Teacher) -> Weights:
    origin = told.origin
    assert origin is not None
    place = origin.place
    if origin.scheme != "function":
        place = str(anywhere(place).resolve())
    return Weights(
        source=dataclasses.replace(origin, place=place).text,
        fingerprint=teacher.fingerprint,
        # a function is told by its code, before it is asked
        digest=teacher.fingerprint if isinstance(teacher, Unasked) else digest(teacher.variables),
        licence=told.licence,
        changes=verify(find(place), despite_changes=True) if origin.scheme == "run" else (),
    )


def _changes_of_code(workdir: Workdir) -> list[str]:
    recorded = {} if workdir.lineage is None else workdir.lineage.code
    now = reached(recorded)
    return [
        _change(f"module {name}", recorded.get(name), now.get(name))
        for name in sorted({*recorded, *now})
        if recorded.get(name) != now.get(name)
    ]


def _changes_of_data(workdir: Workdir, splits: Mapping[str, str]) -> list[str]:
    recorded = workdir.splits
    return [
        _change(f"split {name}", recorded[name], seen)
        for name, seen in splits.items()
        if recorded.get(name, seen) != seen
    ]


def _change(what: str, was: str | None, now: str | None) -> str:
    if now is None:
        return f"{what} is not there any more; is its folder on PYTHONPATH?"
    if was is None:
        return f"{what} has come since"
    return f"{what} has changed since (was {was[:8]}.., now {now[:8]}..)"
