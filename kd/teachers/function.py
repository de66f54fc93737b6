"""A function on NumPy arrays as a teacher, whatever library is behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kd.calling import check_takes
from kd.core.manifest import Kind
from kd.core.types import Teacher
from kd.data import Stream, as_stream, prepare
from kd.data.examples import Examples
from kd.errors import KdError, cause
from kd.teachers.classes import choose
from kd.teachers.make import table_shapes
from kd.teachers.mixture import Mixture
from kd.teachers.soft_labels import soft_labels

Function = Callable[[np.ndarray], Any]
"""``function(inputs[b ...]) -> [b v]`` (or ``[b *p v]``)."""
Count = Callable[[int], None]
"""Told how many examples are answered so far."""

_FEW = 2  # examples that tell the shape of all answers


@dataclasses.dataclass(frozen=True)
class Unasked(Teacher):
    """A teacher whose answers are known by their shape alone, until `complete` asks for them."""

    ask: Callable[[Count], Teacher] = dataclasses.field(repr=False, kw_only=True)


def is_unasked(teacher: Teacher) -> bool:
    """Whether `complete` has still to ask for some of its answers."""
    if isinstance(teacher, Mixture):
        return any(map(is_unasked, teacher.parts))
    return isinstance(teacher, Unasked)


def complete(teacher: Teacher, count: Count = lambda _: None) -> Teacher:
    """The teacher with all of its answers; one that has them is itself."""
    if isinstance(teacher, Mixture):
        return teacher.of([complete(part, count) for part in teacher.parts])
    return teacher.ask(count) if isinstance(teacher, Unasked) else teacher


def function_teacher(
    function: Function,
    data: Examples,
    *,
    kind: Kind | None = None,
    temperature: float | None = None,
    classes: Sequence[int] | None = None,
    fingerprint: str = "",
    batch_size: int = 100,
) -> Unasked:
    """The teacher that answers what `function` says of each example of `data`.

    It is called with NumPy arrays ``[b ...]`` of what a model sees, ``stored * scale`` in float32,
    or of what is stored where it has a true attribute ``stored``; the last batch may be smaller. It
    answers with logits ``[b v]``, or with what `kind` says; `classes` are those of its classes that
    are the student's. Here it is asked about the first examples alone; `complete` asks about each,
    once, and keeps a table as `kd.soft_labels` does.

    Raises:
      KdError: answers that are no numbers ``[b v]``. What the function itself raises is its own.
    """
    check_takes("the teacher's function", function, "(inputs[b ...])", None)
    kind = kind or "logits"
    first = next(_batches(data, _FEW, getattr(function, "stored", False)))
    answer = _asked(function, first)
    if answer.ndim < 2:
        raise KdError(
            f"the teacher answers {len(first)} examples with shape {list(answer.shape)}; its "
            "function must return a number per class for each, [b v]"
        )

    if classes is not None:
        answer = choose(answer, classes, kind)

    def ask(count: Count) -> Teacher:
        values = np.empty((len(data), *answer.shape[1:]), np.float32)
        done = 0
        for inputs in _batches(data, batch_size, getattr(function, "stored", False)):
            part = _asked(function, inputs)
            part = part if classes is None else choose(part, classes, kind)
            if part.shape[1:] != answer.shape[1:]:
                raise KdError(
                    f"the teacher answers with {list(part.shape[1:])} from example {done}, and "
                    f"with {list(answer.shape[1:])} before; it must answer alike for each"
                )
            values[done : done + len(part)] = part
            done += len(part)
            count(done)
        labels: dict[str, Any] = {kind: values, "temperature": temperature or 1.0}
        table = soft_labels(data=data, **labels)
        assert table.manifest is not None
        who = fingerprint or table.fingerprint
        manifest = dataclasses.replace(table.manifest, teacher=who)
        return dataclasses.replace(table, fingerprint=who, manifest=manifest)

    told = table_shapes(len(data), *answer.shape[1:])
    return Unasked(told.variables, told.apply, fingerprint, told.manifest, ask=ask)


def _asked(function: Function, inputs: np.ndarray) -> np.ndarray:
    answers = function(inputs)
    try:
        answer = np.asarray(answers)
    except Exception as error:  # rows of several lengths, a tensor on a device, ...
        raise KdError(
            f"the teacher answers {len(inputs)} examples with {type(answers).__name__}, which is "
            f"no array ({cause(error)}); its function must return a row of numbers for each, [b v]"
        ) from error
    if answer.dtype.kind not in "fiub" or answer.shape[:1] != (len(inputs),):
        raise KdError(
            f"the teacher answers {len(inputs)} examples with {answer.dtype}{list(answer.shape)}; "
            "its function must return a row of numbers for each, [b v]"
        )
    return answer


def _batches(data: Examples, size: int, stored: bool) -> Iterator[np.ndarray]:
    data = data.taught
    stream = data if isinstance(data, Stream) else as_stream(data)
    for start in range(0, len(data), size):
        inputs, _ = stream.read(range(start, min(start + size, len(data))))
        yield inputs if stored else prepare(inputs, data.unit)
