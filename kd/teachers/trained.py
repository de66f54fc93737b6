"""A trained model, or the trained members of a population: ask it for logits, or make it a
teacher.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kd import evals
from kd.core.types import Average, Model, PyTree, Targets, Teacher
from kd.data import Dataset, Stream
from kd.data.seen import Seen, scale_for
from kd.errors import KdError
from kd.placement.mesh import is_whole
from kd.teachers import make as kd_teacher
from kd.teachers.answers import answers, check_data, check_inputs, predict, reading
from kd.teachers.remembered import remembered_answers

_BATCH = 500


@dataclasses.dataclass(frozen=True)
class Trained:
    """Model and variables; with `members`, every leaf has a leading member axis.

    `changes` lists what has changed since the run was recorded, where it was read despite that; its
    `fingerprint` then says so too.
    """

    model: Model = dataclasses.field(repr=False)
    params: PyTree = dataclasses.field(repr=False)
    extra: PyTree = dataclasses.field(repr=False)
    members: bool = False
    fingerprint: str = ""
    seen: Seen | None = None
    """Inputs that it was trained on; it is shown others in the same unit."""
    changes: tuple[str, ...] = ()
    heads: Mapping[str, PyTree] = dataclasses.field(default_factory=dict, repr=False)
    """What a loss trained to stay with it, by the name of the term: see `kd.Heads`."""

    def logits(self, data: Dataset | Stream) -> np.ndarray:
        """Logits for every example, in evaluation mode: ``[n v]``, or ``[m n v]`` for a
        population; of a model with positions ``[n *p v]`` and ``[m n *p v]``.

        Raises:
          KdError: inputs that it cannot read, or of another range than it was trained on.
        """
        check_data(data)
        if self.seen is not None and self.seen.shape == data.seen.shape:
            data = data.scaled(scale_for(self.seen, data.seen, "the model"))
        try:
            return predict(
                self.model, self.params, self.extra, data, members=self.members, batch_size=_BATCH
            )
        except Exception:  # a model that was built for other inputs fails in its own words
            check_inputs(self.teacher(), data, "the model")
            raise

    def each(self, data: Dataset | Stream) -> np.ndarray:
        """The same with a member axis always: ``[m n v]``, where a single model is a population of
        one.

        Raises:
          KdError: answers that are not finite, which no metric can count.
        """
        logits = self.logits(data)
        logits = logits if self.members else logits[None]
        bad = ~np.isfinite(logits.max(axis=-1))
        if bad.all(axis=1).any():
            raise KdError(
                "the model's answers are not finite: its training diverged; lower "
                "optim.learning_rate"
            )
        if bad.any():
            raise KdError(
                f"the model's answers to {bad.any(axis=0).sum()} of {len(data)} examples, e.g. "
                f"{np.argwhere(bad)[0][1]}, are not finite; look at these, and at the model"
            )
        return logits

    def errors(self, data: Dataset | Stream) -> np.ndarray:
        """Number of labelled examples that it gets wrong: ``[]``, or ``[m]`` for a population.

        Raises:
          KdError: no labels to count by, labels that are numbers, or answers that are not finite.
        """
        return self.badness(data, "errors").astype(int)

    def badness(self, data: Dataset | Stream, metric: str) -> np.ndarray:
        """A metric of the labelled examples, its sign turned where more of it is better: ``[]``, or
        ``[m]`` for a population.

        Raises:
          KdError: no labels, a metric that they do not have, or answers that are not finite.
        """
        if data.labels is None:
            raise KdError(
                f"{metric} is counted against labels and there are none; pass data with labels"
            )
        rows, targets = data.has_label, data.targets
        labels = data.labels[rows]
        values = [evals.badness(metric, one[rows], labels, targets) for one in self.each(data)]
        return np.asarray(values if self.members else values[0])

    def teacher(
        self, average: Average = "arithmetic", *, pairs: Sequence[int] | None = None
    ) -> Teacher:
        """This as a teacher: an ensemble if it is a population, else one live model.

        With `pairs` a population is not one teacher but several: member i of the population that is
        trained learns from member ``pairs[i]`` of this one.

        Raises:
          KdError: pairs of a single model, or an unknown averaging rule.
        """
        kd_teacher.check_average(average)
        if pairs is not None:
            if not self.members:
                raise KdError(
                    "only a population has several teachers to pair students with; leave pairs out"
                )
            if not isinstance(pairs, Iterable) or not all(is_whole(pair) for pair in pairs):
                raise KdError(
                    f"pairs must be members of this population, whole numbers from 0, got {pairs!r}"
                )
            one = kd_teacher.live(self.model, self.params, self.extra, fingerprint=self.fingerprint)
            chosen = tuple(int(pair) for pair in pairs)
            return dataclasses.replace(one, pairs=chosen, seen=self.seen)
        make: Any = kd_teacher.live
        if self.members:
            make = functools.partial(kd_teacher.ensemble, average=average)
        made = make(self.model, self.params, self.extra, fingerprint=self.fingerprint)
        return dataclasses.replace(made, seen=self.seen)


def precompute(
    teacher: Teacher, data: Dataset | Stream, *, taps: Sequence[str] = (), on_disk: bool = False
) -> Teacher:
    """The same teacher with its logits for `data` computed once, to be gathered by
    ``batch["index"]``.

    For a fixed transfer set only: a student that sees augmented images needs the live teacher. The
    members of an ensemble are kept apart, so any temperature and averaging rule can still be asked
    of them. `taps` are paths of inner features that are kept beside the logits. With `on_disk` the
    answers are kept between runs too, those of data in memory: see `kd.teachers.remembered`.

    Raises:
      KdError: a teacher that cannot read these inputs, or whose answers are not finite; a stream
        of random crops or flips.
    """
    if not isinstance(teacher, Teacher):
        raise KdError(
            f"teacher must be a Teacher, got {type(teacher).__name__}; a trained model answers "
            ".teacher()"
        )
    check_data(data)
    if isinstance(data, Stream) and data.augmented:
        raise KdError(
            "answers are kept for examples as they are, and this stream shows others in every "
            "epoch (crop, flip); pass the teacher itself"
        )
    teacher = reading(teacher, data).tapped(tuple(taps))
    if on_disk and isinstance(data, Dataset):
        outputs = remembered_answers(teacher, data, batch_size=_BATCH)
    else:
        outputs = answers(teacher, data, batch_size=_BATCH)
    return kd_teacher.kept(
        outputs,
        teacher=teacher.fingerprint,
        data=data.fingerprint,
        pairs=teacher.pairs,
        kind="logits" if teacher.manifest is None else teacher.manifest.kind,
    )


def evaluation(run: Trained, data: Dataset | Stream) -> dict[str, Any]:
    """Every metric that fits the labels, per member, under ``members``, and the rows that each one
    gets wrong; of the examples that have a label.
    """
    if data.labels is None:
        return {"members": []}
    rows, judged = np.flatnonzero(data.has_label), data.has_label
    labels = data.labels[judged]
    members = [member_evaluation(one[judged], labels, data.targets) for one in run.each(data)]
    for member in members:
        if "wrong" in member:
            member["wrong"] = rows[member["wrong"]].tolist()
    return {"members": members}


def member_evaluation(
    logits: np.ndarray, labels: np.ndarray, targets: Targets = "classes"
) -> dict[str, Any]:
    """What is kept of one model: every metric that fits, and the rows that it gets wrong."""
    wrong = evals.wrong_rows(logits, labels, targets)
    told = evals.measured(logits, labels, targets)
    return told if wrong is None else {**told, "wrong": wrong.tolist()}
