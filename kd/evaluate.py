"""Finished runs on held-out data: how good each member is, and how much of its teacher is in it."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Int

from kd import evals
from kd.ambient import pinned
from kd.build import load_finished, load_trained
from kd.config import Spec
from kd.errors import KdError
from kd.population import paired_teachers
from kd.predict import answers, reading
from kd.splits import Examples, open_split
from kd.teacher import predicts_by
from kd.types import Teacher
from kd.workdir import Workdir, find


@pinned()
def evaluate_workdir(
    path: str | pathlib.Path,
    *,
    split: str | None = None,
    teacher: str | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Evaluate a run, or what there is of it so far: `split`, and under ``members`` the metrics of
    each member.

    With a teacher (the run's own by default, if it has one) also the measures of the pair.

    Raises:
      KdError: no such run, data or split; a teacher that is not trained to the end, or of another
        number of classes.
    """
    run, spec = load_trained(path), find(path).spec
    split, data, labels = load_labelled(spec, split, data_dir)
    logits = run.each(data)
    members = [evals.classify(one, labels) for one in logits]
    teacher = teacher or spec.teacher.workdir
    if teacher is None:
        return {"split": split, "members": members}
    model = load_finished(teacher, "the teacher")
    taught = model.teacher(
        predicts_by(spec.teacher.average), pairs=pairs_of(find(path), model.fingerprint)
    )
    answered = answer_each(taught, data, len(members))
    if answered[0].shape[-1] != logits.shape[-1]:
        raise KdError(
            f"{path} answers with {logits.shape[-1]} classes and its teacher with "
            f"{answered[0].shape[-1]}"
        )
    compared = [evals.compare(*pair, labels) for pair in zip(logits, answered, strict=True)]
    return {
        "split": split,
        "members": [{**one, **pair} for one, pair in zip(members, compared, strict=True)],
    }


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
    own = student.owner["identity"]["teacher"]["workdir"] == teacher
    return paired_teachers(student.spec.population) if own else None


def load_labelled(
    spec: Spec, split: str | None, data_dir: str | None
) -> tuple[str, Examples, Int[np.ndarray, " n"]]:
    """A split of a config's data, its own held-out one by default: name, data, labels.

    `KdError` if it has none.
    """
    split = split or spec.data.eval
    data = open_split(spec, split, data_dir)
    if data.labels is None:
        raise KdError(f"split '{split}' has no labels to evaluate against; choose a labelled split")
    return split, data, data.labels
