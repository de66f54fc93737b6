"""The dark-knowledge audit of a pair: how good both are, how much of the teacher is in the student,
what is missing.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from kd import evals
from kd.auditing.evaluate import as_taught, check_classes, every, load_labelled, pairs_of
from kd.auditing.missing import Members, check_missing, left_out, missing_probe, share_of
from kd.core.types import Average
from kd.data.examples import Examples, of_student
from kd.errors import KdError
from kd.evals.classify import Labels, Logits
from kd.placement.ambient import pinned
from kd.placement.mesh import is_whole
from kd.runs.load import load_finished
from kd.runs.reading import look
from kd.runs.splits import shown
from kd.runs.workdir import find
from kd.teachers.answers import check_data, check_inputs
from kd.teachers.make import check_average, predicts_by
from kd.teachers.trained import Trained

TEMPERATURES = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 40.0)
_TOP = 5


@pinned()
def audit(
    teacher: Trained,
    student: Trained,
    data: Examples,
    *,
    missing_classes: Sequence[int] = (),
    train: Examples | None = None,
    average: Average = "arithmetic",
    pairs: Sequence[int] | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
) -> dict[str, Any]:
    """Every measure of a teacher and a student on held-out `data`, as a plain dictionary that JSON
    can hold.

    Args:
      teacher: a population is an ensemble, averaged by `average`.
      student: of a population every member is measured by itself, and there is one entry per
        member.
      data: labelled examples that neither was trained on.
      missing_classes: classes that the student's transfer set lacked: they add
        `kd.auditing.missing.missing_probe`.
      train: the teacher's training data. The share of the missing classes in its labels is matched
        on its inputs by a bias offset; without it there is no matched offset.
      average: how the ensemble predicts.
      pairs: where every student had a teacher of its own, which member that was: student i is
        compared with member ``pairs[i]``, nothing is averaged, and members that taught nobody are
        left out.
      temperatures: at which the entropy of the targets is taken.

    Raises:
      KdError: no labels, other numbers of classes, inputs that a model cannot read, answers that
        are not finite, missing classes that are out of range or not in `data`, or pairs that are
        not one member for each student.
    """
    check_average(average)
    _check_trained(teacher=teacher, student=student)
    check_data(data)
    missing_classes = _whole("missing_classes", missing_classes)
    pairs = None if pairs is None else _whole("pairs", pairs)
    if not isinstance(temperatures, Iterable):
        raise KdError(
            f"temperatures must be several numbers, got {temperatures!r}; e.g. (1.0, 4.0)"
        )
    labels = _labels(data)
    taught = _answers("teacher", teacher, data.taught)
    learned = _answers("student", student, of_student(data))
    _check_classes(taught.shape[-1], learned.shape[-1], data.num_classes)
    _check_pairs(pairs, len(taught), len(learned))
    audited = measures(taught, learned, labels, temperatures, predicts_by(average), pairs)
    if data.class_names is not None:
        audited["class_names"] = list(data.class_names)
    if not missing_classes:
        return {**audited, "missing": None}
    check_missing(missing_classes, labels, learned.shape[-1])
    share = share_of(missing_classes, train)
    matched = [] if share is None else _matched(student, train, missing_classes, share)
    probe = missing_probe(learned, labels, missing_classes, matched)
    return {**audited, "missing": {"share": share, **probe}}


def _labels(data: Examples) -> np.ndarray:
    """The labels ``[n]`` of data that can be audited. Raises a `KdError` of any other."""
    if data.labels is None:
        raise KdError("an audit counts errors and needs labelled data; pass data with labels")
    check_classes("an audit is", data)
    if data.positions:
        raise KdError("an audit is about one answer for each example, and this data has several")
    if not data.has_label.all():
        raise KdError(
            "an audit needs a label for every example, and some have none; leave those out"
        )
    return data.labels


def _check_trained(**models: Any) -> None:
    for who, model in models.items():
        if not isinstance(model, Trained):
            raise KdError(
                f"{who} must be a trained model, got {type(model).__name__}; kd.fit and "
                "kd.load_trained return one"
            )


def _matched(
    student: Trained, train: Examples | None, missing_classes: Sequence[int], share: float
) -> list[float]:
    """Of each member the offset at which the missing classes have their share of the answers."""
    if train is None:
        return []
    answers = _answers("student", student, train)
    return [evals.match_frequency(member, missing_classes, share) for member in answers]


@pinned()
def audit_workdirs(
    teacher: str | pathlib.Path,
    student: str | pathlib.Path,
    *,
    split: str | None = None,
    data_dir: str | None = None,
    missing_classes: Sequence[int] = (),
    despite_changes: bool = False,
    allow_code: str | Iterable[str] = (),
) -> dict[str, Any]:
    """`audit` of two finished work directories, on a split of the student's data (its own held-out
    one by default).

    Where the student's members were each taught by a member of this very teacher, each is compared
    with its own.

    The missing classes are those that the student's config left out, unless they are given; they
    are matched on the training split of the teacher's config. ``shown`` names those of them that
    the student was trained on after all. With `despite_changes` runs and splits are read although
    they are not what was recorded, and ``despite_changes`` lists what is different. ``settings``
    say of each member what sets it apart besides seeds. `allow_code` are packages whose code either
    run may name: see `kd.config.allowed`.

    Raises:
      KdError: as `audit`; no work directory or an unfinished one, no such split, or one without
        labels; code or data that are not what was recorded; code that is not allowed.
    """
    go_on: dict[str, Any] = {"despite_changes": despite_changes}
    paths = {"teacher": teacher, "student": student}
    models = {
        who: load_finished(path, f"the {who}", allow_code=allow_code, **go_on)
        for who, path in paths.items()
    }
    learner, schooled = find(student, allow_code), find(teacher, allow_code)
    spec, taught = learner.spec, schooled.spec
    split, data, _, changes = load_labelled(learner, split, data_dir, **go_on)
    shared = taught.data.source == spec.data.source
    seen = look(schooled, split, data_dir, **go_on)[1] if shared else ()
    missing = tuple(dict.fromkeys(missing_classes)) or left_out(spec, learner.owner["num_classes"])
    train, trained_on = None, ()
    if missing:
        whole, trained_on = look(schooled, taught.data.train, data_dir, **go_on)
        train = shown(taught, whole)
    audited = audit(
        models["teacher"],
        models["student"],
        as_taught(learner, schooled, data, split, data_dir),
        missing_classes=missing,
        train=train,
        average=spec.teacher.average,
        pairs=pairs_of(learner, models["teacher"].fingerprint),
    )
    if audited["missing"] is not None:
        kept = spec.data.classes
        audited["missing"] |= {
            "matched_on": f"{taught.data.source} {taught.data.train}",
            "shown": [c for c in missing if kept is None or c in kept],
        }
    told = {
        "runs": {who: _named(path, models[who]) for who, path in paths.items()},
        "source": spec.data.source,
        "split": split,
        "settings": list(spec.members.settings),
    }
    everything = every(
        models["teacher"].changes, models["student"].changes, changes, seen, trained_on
    )
    return {**told, "despite_changes": everything, **audited}


def _named(path: str | pathlib.Path, model: Trained) -> dict[str, str]:
    return {"workdir": str(path), "fingerprint": model.fingerprint}


def measures(
    teacher: Float[np.ndarray, "e n v"],
    student: Members,
    labels: Labels,
    temperatures: Sequence[float],
    average: Literal["arithmetic", "geometric"],
    pairs: Sequence[int] | None = None,
) -> dict[str, Any]:
    """What logits alone say of both and of the pair: the teacher's members averaged, the student's
    one by one.

    With `pairs` the teacher's members are not averaged: student i is compared with member
    ``pairs[i]``, and the entropies are means over the members in use, whose metrics are listed
    under ``each``.

    Shapes: teacher ``[e n v]``, student ``[m n v]``, labels ``[n]``.
    """
    groups = [teacher] if pairs is None else [teacher[i : i + 1] for i in sorted(set(pairs))]
    taught = [evals.soft_log_probs(group, 1.0, average) for group in groups]
    own = (
        taught * len(student)
        if pairs is None
        else [taught[sorted(set(pairs)).index(i)] for i in pairs]
    )
    each = [evals.classify(answers, labels) for answers in taught]
    return {
        "examples": len(labels),
        "examples_per_class": np.bincount(labels, minlength=teacher.shape[-1]).tolist(),
        "teacher": {"members": len(teacher), **_of_teacher(each, average, pairs)},
        "student": {"members": [evals.classify(member, labels) for member in student]},
        "pair": {"members": [compare(*pair, labels) for pair in zip(student, own, strict=True)]},
        "entropy": {
            "temperatures": list(temperatures),
            "teacher": np.mean(
                [evals.entropy_of_targets(g, temperatures, average) for g in groups], axis=0
            ).tolist(),
            "student": [evals.entropy_of_targets(member, temperatures) for member in student],
        },
        "class_kl": _finite(
            np.mean(
                [evals.class_kl(*pair, labels) for pair in zip(student, own, strict=True)], axis=0
            )
        ),
    }


def compare(student: Logits, teacher: Logits, labels: Labels) -> dict[str, Any]:
    """`kd.evals.compare`, agreement at k = 1 ...

    5 as sets and in order, and the KL of each class.
    """
    ks = range(1, min(_TOP, teacher.shape[-1]) + 1)
    return {
        **evals.compare(student, teacher, labels),
        "agreement_at_k": [evals.agreement_at_k(student, teacher, k) for k in ks],
        "ordered_agreement_at_k": [
            evals.agreement_at_k(student, teacher, k, ordered=True) for k in ks
        ],
        "kl_per_class": _finite(evals.class_kl(student, teacher, labels).sum(axis=-1)),
    }


def _of_teacher(
    each: list[dict[str, object]], average: str, pairs: Sequence[int] | None
) -> dict[str, Any]:
    if pairs is None:
        return {"average": average, **each[0]}
    return {"pairs": list(pairs), "each": each}


def _whole(name: str, numbers: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(numbers, Iterable) or not all(is_whole(value) for value in numbers):
        raise KdError(f"{name} must be whole numbers from 0, got {numbers!r}; e.g. {name}=(3,)")
    return tuple(int(value) for value in numbers)


def _check_pairs(pairs: Sequence[int] | None, teachers: int, students: int) -> None:
    if pairs is None:
        return
    if len(pairs) != students:
        raise KdError(
            f"{len(pairs)} teachers are paired with {students} students; give one teacher per "
            "student"
        )
    for pair in pairs:
        if not 0 <= pair < teachers:
            raise KdError(
                f"a student is paired with teacher {pair} and there are {teachers}, from 0"
            )


def _answers(who: str, model: Trained, data: Examples) -> Members:
    check_inputs(model.teacher(), data, f"the {who}")
    return model.each(data)


def _check_classes(teacher: int, student: int, split: int) -> None:
    if teacher != student:
        raise KdError(
            f"the teacher answers with {teacher} classes and the student with {student}; audit a "
            "pair that was trained "
            "on the same classes"
        )
    if split > student:
        raise KdError(
            f"the split has {split} classes and both models answer with {student}; choose another "
            "split"
        )


def _finite(values: np.ndarray) -> list[Any]:
    """As nested lists, with None for the NaN of a class without examples, which JSON has no word
    for.
    """
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return plain.tolist()
