"""A teacher's answers to a fixed set of views of every example, and how they are kept."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kd.core.types import Answer, Batch, Outputs, PyTree, Teacher
from kd.data import FixedViews, example_batch
from kd.data.examples import Examples
from kd.errors import KdError
from kd.system import kept
from kd.system.memory import check_fits, size
from kd.teachers.answers import answers, applied

KeptAs = Literal["float32", "float16"]
Answers = tuple[Outputs, float]
"""Answers as they are kept, and the largest error of that."""


def asked(
    teacher: Teacher,
    data: Examples,
    *,
    views: FixedViews | None,
    kept_as: KeptAs,
    batch_size: int,
) -> Answers:
    """A teacher's answers for every example of `data`, or for all `views` of them.

    Shapes: those of `kd.teachers.answers.answers`; with `views` the axis of examples is followed by
    theirs.

    Raises:
      KdError: as `answers` and `rounded`.
    """

    def ask(teacher: Teacher) -> Answers:
        return rounded(answers(teacher, data, batch_size=batch_size), kept_as)

    return ask(teacher) if views is None else _of_views(ask, looking(teacher, views), views)


def looking(teacher: Teacher, views: FixedViews) -> Teacher:
    """The teacher of view 0 of every example; `at` gives the others. Its program is the same for
    all of them.
    """

    def through(apply: Answer) -> Answer:
        def answer(variables: PyTree, batch: Batch) -> Outputs:
            numbers = jnp.broadcast_to(variables["view"], batch["index"].shape)
            return apply(variables["teacher"], views.shown(batch, numbers))

        return answer

    return at(dataclasses.replace(teacher, variables={"teacher": teacher.variables}), 0).wrapped(
        through
    )


def at(teacher: Teacher, number: int) -> Teacher:
    """A teacher that is `looking`, at view `number`."""
    own = teacher.variables["teacher"]
    axes = () if teacher.pairs is None else jax.tree.leaves(own)[0].shape[:1]
    number_of_each = jnp.full(axes, number, jnp.int32)
    return dataclasses.replace(teacher, variables={"teacher": own, "view": number_of_each})


def _of_views(ask: Callable[[Teacher], Answers], teacher: Teacher, views: FixedViews) -> Answers:
    """Answers to all `views` of a teacher that is `looking`: ``[*a n k ...]``, where *a are the
    axes of several teachers and of an ensemble's members.
    """
    outputs, rounding = ask(at(teacher, 0))
    ahead = 1 + (teacher.pairs is not None) + (outputs.average is not None)
    table = jax.tree.map(
        lambda leaf: np.empty((*leaf.shape[:ahead], views.count, *leaf.shape[ahead:]), leaf.dtype),
        outputs,
    )
    for number in range(views.count):
        if number:
            outputs, error = ask(at(teacher, number))
            rounding = max(rounding, error)
        for kept_leaf, leaf in zip(*map(jax.tree.leaves, (table, outputs)), strict=True):
            kept_leaf[(*(slice(None),) * ahead, number)] = leaf
    return table, rounding


def rounded(outputs: Outputs, kept_as: KeptAs) -> Answers:
    """The answers in the type that they are kept in, and the largest error that this makes.

    Raises:
      KdError: a finite number that the type has no place for.
    """
    if kept_as == "float32":
        return outputs, 0.0
    errors = [0.0]

    def narrow(leaf: np.ndarray) -> np.ndarray:
        if leaf.dtype != np.float32:
            return leaf
        with np.errstate(over="ignore"):
            few = leaf.astype(kept_as)
        finite = np.isfinite(leaf)
        if not np.isfinite(few[finite]).all():
            raise KdError(
                f"the teacher answers with {np.abs(leaf[finite]).max():.3g}, and {kept_as} ends "
                f"at {np.finfo(kept_as).max:.3g}; keep its answers in float32"
            )
        errors.append(float(np.max(np.abs(few[finite] - leaf[finite]), initial=0.0)))
        return few

    return jax.tree.map(narrow, outputs), max(errors)


def bytes_needed(
    teacher: Teacher, data: Examples, views: FixedViews | None, kept_as: KeptAs
) -> int:
    """Bytes of all answers; nothing is computed."""
    answer = jax.eval_shape(applied(teacher), teacher.variables, example_batch(data, 1))
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(answer))
    count = 1 if views is None else views.count
    return len(data) * count * numbers * np.dtype(kept_as).itemsize


def check_memory(needed: int, data: Examples, views: FixedViews | None) -> None:
    """Raise a `KdError` unless there is memory for so many bytes of answers, twice: as they are
    fetched, and on the device.
    """
    fewer = "keep them in float16, or set fewer data.views" if views else "keep them in float16"
    fix = f"{fewer}, or let the teacher answer live (precompute=false)"
    check_fits(2 * needed, _what(data, views), fix)


def check_disk(needed: int, data: Examples, views: FixedViews) -> None:
    """Raise a `KdError` unless so many bytes of answers can be kept on disk."""
    place = kept.folder("answers")
    if place is None or needed > kept.LIMITS["answers"] // 2:
        return
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise KdError(
            f"{_what(data, views)} takes {size(needed)} and {size(free)} are free in {place}; free "
            "some, set KD_CACHE_DIR to another disk, or to off"
        )


def _what(data: Examples, views: FixedViews | None) -> str:
    what = f"keeping the teacher's answers to {len(data):,} examples"
    return what if views is None else f"{what} in {views.count:,} views"


def said(teacher: Teacher) -> str:
    """What is known of kept answers, for a line above a run; "" of a live teacher."""
    manifest: Any = teacher.manifest
    if manifest is None or not (manifest.views or manifest.rounding):
        return ""
    views = f" to {manifest.view}" if manifest.views else ""
    error = f", in float16, off by {manifest.rounding:.2g} at most" if manifest.rounding else ""
    most = kept.LIMITS["answers"] // 2
    large = f"; more than {size(most)} are asked for anew in every run"
    told = f"the teacher's answers{views} are kept: {size(manifest.bytes)}{error}"
    return told + (large if manifest.bytes > most else "")
