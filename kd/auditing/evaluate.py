"""Finished runs on held-out data: how good each member is, and how much of its teacher is in it."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from kd import evals
from kd.config import Source, Spec
from kd.core.types import Teacher
from kd.data.examples import Examples, judged_as
from kd.errors import KdError
from kd.lineage import recorded
from kd.placement.ambient import pinned
from kd.runs.load import load_trained
from kd.runs.reading import look
from kd.runs.splits import open_split, with_teacher_inputs
from kd.runs.teachers import load_model, load_teacher
from kd.runs.workdir import Workdir, find
from kd.teachers.answers import answers, reading
from kd.teachers.classes import numbers_of, of_classes
from kd.teachers.function import complete
from kd.teachers.make import predicts_by
from kd.teachers.trained import Trained


@pinned()
def evaluate_workdir(
    path: str | pathlib.Path,
    *,
    split: str | None = None,
    teacher: str | None = None,
    data_dir: str | None = None,
    despite_changes: bool = False,
    allow_code: str | Iterable[str] = (),
) -> dict[str, Any]:
    """Evaluate a run, or what there is of it so far: `split`, and under ``members`` the metrics of
    each member.

    With a teacher (the run's own by default, if it has one) also the measures of the pair, where
    labels are classes. Examples without a label are left out. Nothing is written. With
    `despite_changes` runs and split are read although they are not what was recorded, and
    ``despite_changes`` lists what is different. `allow_code` are packages whose code either run may
    name: see `kd.config.allowed`.

    Raises:
      KdError: no such run, data or split; a teacher that is not trained to the end, or of another
        number of classes; code or data that are not what was recorded; code that is not allowed.
    """
    doors: dict[str, Any] = {"allow_code": allow_code, "despite_changes": despite_changes}
    run, workdir = load_trained(path, **doors), find(path, allow_code)
    split, data, labels, changes = load_labelled(
        workdir, split, data_dir, despite_changes=despite_changes
    )
    rows = data.has_label
    logits, kind = run.judged(data)[:, rows], judged_as(data)
    members = [evals.measured(answers, labels, kind) for answers in logits]
    spec = workdir.spec
    if teacher is not None:
        check_classes("the measures of a pair are", data)
    own, origin = teacher is None, None if teacher is None else Source("run", teacher)
    if own and kind == "classes":
        origin = spec.teacher.origin
    if origin is None or not origin.is_model:
        return {"split": split, "despite_changes": [*changes], "members": members}
    model = load_model(origin, spec.teacher.model, **doors)
    if own:
        changes = every(changes, _of_its_teacher(workdir, model, despite_changes))
    pairs = pairs_of(workdir, model.fingerprint)
    classes = numbers_of(spec.teacher.classes if own else None, model.class_names)
    taught = of_classes(model.teacher(predicts_by(spec.teacher.average), pairs=pairs), classes)
    schooled = find(origin.place, allow_code) if origin.scheme == "run" else None
    shown = as_taught(workdir, schooled, data, split, data_dir)
    answered = [answer[rows] for answer in answer_each(taught, shown, len(members))]
    if answered[0].shape[-1] != logits.shape[-1]:
        raise KdError(
            f"{path} answers with {logits.shape[-1]} classes and its teacher with "
            f"{answered[0].shape[-1]}"
        )
    compared = [evals.compare(*pair, labels) for pair in zip(logits, answered, strict=True)]
    return {
        "split": split,
        "despite_changes": every(changes, model.changes),
        "members": [{**member, **pair} for member, pair in zip(members, compared, strict=True)],
    }


@pinned()
def evaluate_teacher(
    spec: Spec, split: str | None = None, *, despite_changes: bool = False
) -> dict[str, Any]:
    """Evaluate the teacher of a config, wherever it comes from, on a split of its data, by default
    the held-out one: `split`, and under ``members`` its metrics.

    Raises:
      KdError: no teacher, no such data or split, a split without labels, or with labels that are no
        classes.
    """
    split = split or spec.data.eval
    data = with_teacher_inputs(spec, open_split(spec, split), split, spec.teacher.image_size)
    if data.labels is None:
        raise _unlabelled(split)
    check_classes("the metrics of a teacher are", data)
    teacher = load_teacher(spec, data, despite_changes=despite_changes)
    if teacher is None:
        raise KdError("this config names no teacher; set config.teacher.source")
    outputs = answers(complete(teacher), data)
    plain = outputs.average is None
    logits = np.asarray(outputs.logits if plain else outputs.log_probs())
    rows = data.has_label
    each = logits if teacher.pairs is not None else logits[None]
    labels = data.labels[rows]
    members = [evals.measured(answer[rows], labels, data.targets) for answer in each]
    return {"split": split, "despite_changes": [], "members": members}


def _of_its_teacher(student: Workdir, teacher: Trained, despite_changes: bool) -> list[str]:
    """Whether the run that taught a student is another one now, such as a longer one, in words.

    Raises a `KdError` where it is and `despite_changes` is off.
    """
    was = recorded(student.owner["identity"]["teacher"]["workdir"])
    now = recorded(teacher.fingerprint)
    if was == now:
        return []
    change = f"{student.path} has another teacher now (was {was[:8]}.., now {now[:8]}..)"
    if not despite_changes:
        raise KdError(
            f"{change}: restore it, name one with --teacher=DIR, or add --despite_changes (in "
            "Python despite_changes=True)"
        )
    return [change]


def as_taught(
    student: Workdir, teacher: Workdir | None, data: Examples, split: str, data_dir: str | None
) -> Examples:
    """A split of a student's data, which a teacher that was trained on images of another size sees
    at that size; where it does not say which, at the one at which it taught the student.
    """
    trained_on = None if teacher is None else teacher.spec.data.image_size
    size = trained_on or student.spec.teacher.image_size
    return with_teacher_inputs(student.spec, data, split, size, data_dir)


def answer_each(teacher: Teacher, data: Examples, students: int) -> list[np.ndarray]:
    """What each of so many students was to learn: the log-probabilities ``[n v]`` of its teacher,
    shared or its own.

    Raises:
      KdError: a teacher that cannot read these inputs.
    """
    outputs = answers(reading(teacher, data), data)
    if teacher.pairs is None:
        return [np.asarray(outputs.log_probs())] * students
    own = np.asarray(outputs.log_probs())
    return [own[pair] for pair in teacher.pairs]


def pairs_of(student: Workdir, teacher: str) -> tuple[int, ...] | None:
    """Which member of the teacher of that fingerprint taught each student; None where it did not
    teach them so.
    """
    # an identity knows the teacher by fingerprint
    own = recorded(student.owner["identity"]["teacher"]["workdir"]) == recorded(teacher)
    return student.spec.members.teachers if own else None


def check_classes(what: str, data: Examples) -> None:
    """Raise a `KdError` unless the labels of `data` are classes. `what` is what is about them."""
    kind = judged_as(data)
    if kind != "classes":
        raise KdError(
            f"{what} about classes, and the labels are {kind}; 'kd eval' has the metrics of the "
            "model alone"
        )


def every(*changes: Iterable[str]) -> list[str]:
    """All that has changed, each once."""
    return list(dict.fromkeys(itertools.chain(*changes)))


def load_labelled(
    run: Workdir, split: str | None, data_dir: str | None, *, despite_changes: bool = False
) -> tuple[str, Examples, np.ndarray, tuple[str, ...]]:
    """A split of a run's data, its own held-out one by default: name, data, the labels of those
    examples that have one, and what has changed.

    `KdError` if it has no labels, or as `kd.runs.reading.look`.
    """
    split = split or run.spec.data.eval
    data, changes = look(run, split, data_dir, despite_changes=despite_changes)
    if data.labels is None:
        raise _unlabelled(split)
    return split, data, data.labels[data.has_label], changes


def _unlabelled(split: str) -> KdError:
    return KdError(f"split '{split}' has no labels to evaluate against; choose a labelled split")
