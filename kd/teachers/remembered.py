"""A teacher's answers for a data set, computed once and kept on disk between runs."""

from __future__ import annotations

import functools
import hashlib
import os

import jax
import numpy as np

from kd.core.types import Teacher
from kd.data import Dataset, FixedViews
from kd.evidence import machine
from kd.processes import group
from kd.system import kept
from kd.teachers.answers import program_of
from kd.teachers.make import digest
from kd.teachers.viewed import Answers, KeptAs, asked, bytes_needed, check_disk, looking


def remembered_answers(
    teacher: Teacher,
    data: Dataset,
    *,
    views: FixedViews | None,
    kept_as: KeptAs,
    batch_size: int,
) -> Answers:
    """`kd.teachers.viewed.asked`, taken from disk where the same program has answered for the same
    arrays before; else computed, and kept: see `kd.system.kept`.

    Several processes compute them anew: the disks of their hosts need not hold the same.

    Raises:
      KdError: as `asked`, or less room on the disk than answers to `views` take.
    """
    ask = functools.partial(
        asked, teacher, data, views=views, kept_as=kept_as, batch_size=batch_size
    )
    if kept.folder("answers") is None or group.count() > 1:
        return ask()
    looked = teacher if views is None else looking(teacher, views)
    text, shapes = program_of(looked, data, batch_size=batch_size)
    key = _key(looked, data, text, kept_as, None if views is None else views.identity)
    leaves, tree = jax.tree.flatten(shapes)
    stored = kept.read("answers", key)
    if stored is not None and len(stored) == len(leaves) + 1:
        answers = jax.tree.unflatten(tree, [stored[f"leaf-{i}"] for i in range(len(leaves))])
        return answers, float(stored["rounding"][0])
    if views is not None:
        check_disk(bytes_needed(teacher, data, views, kept_as), data, views)
    outputs, rounding = ask()
    named = {f"leaf-{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(outputs))}
    kept.write("answers", key, {**named, "rounding": np.asarray([rounding])})
    return outputs, rounding


def _key(teacher: Teacher, data: Dataset, text: str, kept_as: str, views: str | None) -> str:
    """Who the answers are: all that their bits depend on.

    The text of the program holds the teacher's code and kd's, how an ensemble is averaged, and the
    devices that it is split over; the libraries and the processor turn it into numbers.
    """
    how = () if (kept_as, views) == ("float32", None) else (kept_as, views)
    return kept.key_of(
        hashlib.sha256(text.encode()).hexdigest(),
        digest(teacher.variables),
        teacher.fingerprint,
        data.fingerprint,
        teacher.pairs,
        jax.default_backend(),
        machine(),
        os.environ.get("XLA_FLAGS", ""),
        *how,
    )
