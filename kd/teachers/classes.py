"""Maps between class lists: which of a teacher's classes are the student's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from kd.core.manifest import Kind
from kd.core.types import Answer, Outputs, Teacher
from kd.errors import KdError, unknown


def of_classes(teacher: Teacher, classes: Sequence[int] | None) -> Teacher:
    """The live teacher restricted to `classes`, its own by their numbers, in the student's order:
    its probabilities for these, renormalised, ``softmax(z[classes] / T)``. None: as it is.

    The members of an ensemble are restricted one by one, before they are averaged.

    Raises:
      KdError: where it is asked, a class that it does not have.
    """
    if classes is None:
        return teacher
    chosen = np.asarray(classes)

    def restricted(apply: Answer) -> Answer:
        def answer(variables: object, batch: object) -> Outputs:
            outputs = apply(variables, batch)  # pyright: ignore[reportArgumentType]
            check_range(classes, outputs.width)
            return dataclasses.replace(outputs, logits=outputs.logits[..., chosen])

        return answer

    return teacher.wrapped(restricted)


def numbers_of(
    classes: Sequence[int] | Sequence[str] | None, names: Sequence[str] | None
) -> tuple[int, ...] | None:
    """`classes` of a teacher by number, where they are words those that `names` them so.

    Raises:
      KdError: a word for no class, or for several; words, and the teacher has none.
    """
    if classes is None:
        return None
    return tuple(k if isinstance(k, int) else _number(k, names) for k in classes)


def _number(word: str, names: Sequence[str] | None) -> int:
    if names is None:
        raise KdError(
            f"teacher.classes names {word!r:.80}, and this teacher has no words for its classes; "
            "give their numbers, from 0"
        )
    if word not in names:
        raise unknown("class of the teacher:", word, names)
    if list(names).count(word) > 1:
        raise KdError(f"the teacher has several classes {word!r:.80}; give the number of one")
    return list(names).index(word)


def choose(values: np.ndarray, classes: Sequence[int], kind: Kind) -> np.ndarray:
    """The columns `classes` of a table ``[n *p v]``, probabilities renormalised.

    Raises:
      KdError: a class that it does not have, or a row without probability for any of these.
    """
    check_range(classes, values.shape[-1])
    values = values[..., list(classes)]
    if kind == "logits":
        return values
    sums = values.sum(axis=-1, keepdims=True)
    if not (sums > 0).all():
        row = int(np.argwhere(~(sums > 0))[0][0])
        raise KdError(
            f"the teacher gives no probability to teacher.classes in row {row}; leave that example "
            "out, or smooth the probabilities"
        )
    return values / sums


def check_range(classes: Sequence[int], width: int) -> None:
    """Raise a `KdError` unless a teacher of so many classes has these."""
    missing = [number for number in classes if number >= width]
    if missing:
        raise KdError(
            f"teacher.classes names class {missing[0]}, and the teacher answers with {width}, from "
            "0; a class that it lacks cannot be learnt from it"
        )
