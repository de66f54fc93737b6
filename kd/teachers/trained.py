"""A trained model, or the trained members of a population: ask it for logits, or make it a
teacher.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from kd import evals, exporting
from kd.core.manifest import check_answers
from kd.core.types import Average, Model, PyTree, Teacher
from kd.data import Dataset, FixedViews, Stream
from kd.data.examples import Examples, judged_as, of_student
from kd.data.seen import Seen, scale_for
from kd.errors import KdError, unknown
from kd.lineage import Lineage
from kd.placement.ambient import pinned
from kd.placement.mesh import is_whole
from kd.system.paths import anywhere
from kd.teachers import make as kd_teacher
from kd.teachers import viewed
from kd.teachers.answers import check_data, check_inputs, predict, reading, word_scores
from kd.teachers.remembered import remembered_answers
from kd.teachers.viewed import KeptAs

_BATCH = 500
FORMATS = ("both", "safetensors", "stablehlo", "hf")


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
    class_names: tuple[str, ...] | None = None
    """The words for the classes, where its data had some."""
    lineage: Lineage | None = None
    """Where it comes from, where that was recorded."""
    heads: Mapping[str, PyTree] = dataclasses.field(default_factory=dict, repr=False)
    """What a loss trained to stay with it, by the name of the term: see `kd.Heads`."""

    def logits(self, data: Examples) -> np.ndarray:
        """Logits for every example, in evaluation mode: ``[n v]``, or ``[m n v]`` for a
        population; of a model with positions ``[n *p v]`` and ``[m n *p v]``.

        Raises:
          KdError: inputs that it cannot read, or of another range than it was trained on.
        """
        check_data(data)
        data = of_student(data)
        if self.seen is not None and self.seen.shape == data.seen.shape:
            data = data.scaled(scale_for(self.seen, data.seen, "the model"))
        try:
            return predict(
                self.model, self.params, self.extra, data, members=self.members, batch_size=_BATCH
            )
        except Exception:  # a model that was built for other inputs fails in its own words
            check_inputs(self.teacher(), data, "the model")
            raise

    def each(self, data: Examples) -> np.ndarray:
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

    def judged(self, data: Examples) -> np.ndarray:
        """What metrics of `data` read: the answers of `each`, ``[m n *p v]``; of hidden words, of
        which there are too many to keep all logits, their scores ``[m n l 2]``: see
        `kd.evals.hidden_words`.
        """
        if judged_as(data) != "words":
            return self.each(data)
        check_data(data)
        scale_for(self.seen, data.seen, "the model")
        told: dict[str, Any] = {"members": self.members, "batch_size": _BATCH}
        scores = word_scores(self.model, self.params, self.extra, data, **told)
        return scores if self.members else scores[None]

    def errors(self, data: Examples) -> np.ndarray:
        """Number of labelled examples that it gets wrong: ``[]``, or ``[m]`` for a population.

        Raises:
          KdError: no labels to count by, labels that are numbers, or answers that are not finite.
        """
        return self.badness(data, "errors").astype(int)

    def badness(self, data: Examples, metric: str) -> np.ndarray:
        """A metric of the labelled examples, its sign turned where more of it is better: ``[]``, or
        ``[m]`` for a population.

        Raises:
          KdError: no labels, a metric that they do not have, or answers that are not finite.
        """
        if data.labels is None:
            raise KdError(
                f"{metric} is counted against labels and there are none; pass data with labels"
            )
        rows, targets = data.has_label, judged_as(data)
        labels = data.labels[rows]
        values = [
            evals.badness(metric, answers[rows], labels, targets) for answers in self.judged(data)
        ]
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
            alone = kd_teacher.live(
                self.model, self.params, self.extra, fingerprint=self.fingerprint
            )
            chosen = tuple(int(pair) for pair in pairs)
            return dataclasses.replace(alone, pairs=chosen, seen=self.seen)
        make: Any = kd_teacher.live
        if self.members:
            make = functools.partial(kd_teacher.ensemble, average=average)
        made = make(self.model, self.params, self.extra, fingerprint=self.fingerprint)
        return dataclasses.replace(made, seen=self.seen)

    @property
    def count(self) -> int | None:
        """Members of a population; None of a single model."""
        return len(jax.tree.leaves(self.params)[0]) if self.members else None

    def member(self, i: int) -> Trained:
        """Member `i` of a population, from 0, as a model of its own.

        Raises:
          KdError: no such member, or a single model.
        """
        if self.count is None:
            raise KdError("this is a single model and has no members; leave the number out")
        if not is_whole(i) or not 0 <= i < self.count:
            raise KdError(f"there are {self.count} members, from 0, and none is {i!r}")
        own = (self.params, self.extra, self.heads)
        params, extra, heads = jax.tree.map(lambda leaf: leaf[i], own)
        name = of_member(self.fingerprint, int(i)) if self.fingerprint else ""
        return dataclasses.replace(
            self, params=params, extra=extra, heads=heads, members=False, fingerprint=name
        )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Keep this in a folder, model.safetensors and config.json: `kd.load` reads it back, bit
        for bit.

        Raises:
          KdError: a model is there already and `overwrite` is off, the folder holds a run or cannot
            be written, or nothing says which inputs this model reads.
        """
        self._write(path, exporting.arrays_of(self.params, self.extra, self.heads), None, overwrite)

    def export(
        self, path: str | os.PathLike[str], *, format: str = "both", overwrite: bool = False
    ) -> None:
        """Write this for where kd is not: what `save` writes, and model.stablehlo, a program from
        stored inputs ``[b ...]`` to logits ``[b *p v]`` for any b, as `jax.export` reads it.

        `format` is both of them, "safetensors" or "stablehlo" alone; or "hf", the folder of a
        network that Hugging Face has, under its names.

        Raises:
          KdError: as `save`, a population (export its members one by one), a model that cannot be
            written as a program, or one that Hugging Face does not have.
        """
        if not isinstance(format, str) or format not in FORMATS:
            raise unknown("format", str(format), FORMATS)
        if self.count is not None:
            raise KdError(
                f"this is a population of {self.count} members, and one of them is exported: say "
                f"which, 0 to {self.count - 1} (--member=0, in Python trained.member(0))"
            )
        if format == "hf":
            self._write_hugging_face(path, overwrite)
            return
        arrays = (
            exporting.arrays_of(self.params, self.extra, self.heads)
            if format != "stablehlo"
            else None
        )
        program = None
        if format != "safetensors":
            program = exporting.lowered(self.model, self.params, self.extra, self._known())
        self._write(path, arrays, program, overwrite)

    @pinned()
    def _write(
        self,
        path: str | os.PathLike[str],
        arrays: dict[str, np.ndarray] | None,
        program: tuple[bytes, tuple[str, ...]] | None,
        overwrite: bool,
    ) -> None:
        kept = exporting.Kept(
            made=self.model.made,
            seen=self._known(),
            width=exporting.declared(self.model, self._known()).outputs.width,
            members=self.count,
            fingerprint=self.fingerprint,
            changes=self.changes,
            class_names=self.class_names,
            lineage=self.lineage,
        )
        exporting.write(anywhere(path, "a folder"), kept, arrays, program, overwrite=overwrite)

    @pinned()
    def _write_hugging_face(self, path: str | os.PathLike[str], overwrite: bool) -> None:
        exporting.write_hugging_face(
            anywhere(path, "a folder"),
            self.model,
            self.params,
            self.extra,
            self._known(),
            self.class_names,
            overwrite=overwrite,
            lineage=self.lineage,
        )

    def _known(self) -> Seen:
        if self.seen is None:
            raise KdError(
                "nothing says which inputs this model reads; give them: dataclasses.replace("
                "trained, seen=data.seen)"
            )
        return self.seen


def of_member(fingerprint: str, i: int) -> str:
    """The fingerprint of member `i` of a population."""
    return f"{fingerprint}-member-{i}"


def load_saved(path: str | os.PathLike[str], model: Any = None) -> Trained:
    """What `Trained.save` has kept in a folder, bit for bit; reading it runs no code.

    `model` is the module, where it is one of the user's own.

    Raises:
      KdError: no such folder, a damaged file in it, no `model` where one is needed, or one whose
        arrays are others.
    """
    folder: pathlib.Path = anywhere(path, "a folder")
    kept, arrays = exporting.read(folder)
    built = exporting.model_of(kept, model, folder)
    params, extra, heads = exporting.trees_of(built, kept, arrays, folder)
    return Trained(
        built,
        params,
        extra,
        kept.members is not None,
        kept.fingerprint,
        kept.seen,
        kept.changes,
        kept.class_names,
        kept.lineage,
        heads,
    )


def precompute(
    teacher: Teacher,
    data: Examples,
    *,
    taps: Sequence[str] = (),
    views: FixedViews | None = None,
    kept_as: KeptAs = "float32",
    on_disk: bool = False,
) -> Teacher:
    """The same teacher with its logits for `data` computed once, to be gathered by
    ``batch["index"]``.

    A student that sees augmented images needs the live teacher, or `views`, a fixed set of them:
    then it answers once to each view of each example, and `kd.fit` is given the same views. The
    members of an ensemble are kept apart, so any temperature and averaging rule can still be asked
    of them. `taps` are paths of inner features that are kept beside the logits. In float16 they
    take half the room; ``manifest.rounding`` says the error. With `on_disk` the answers are kept
    between runs too, those of data in memory: see `kd.teachers.remembered`.

    Raises:
      KdError: a teacher that cannot read these inputs, or whose answers are not finite; a stream
        of random crops or flips, or one beside `views`; less memory, or room on the disk, than all
        answers take.
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
    if views is not None and isinstance(data, Stream):
        raise KdError(
            "a fixed set of views is of examples in memory, and these are streamed; set "
            "data.stream=false, or let the teacher answer live"
        )
    check_answers(teacher.manifest, data, view="" if views is None else views.identity)
    if views is not None and teacher.manifest is not None:
        return teacher
    teacher = reading(teacher, data).tapped(tuple(taps))
    needed = viewed.bytes_needed(teacher, data, views, kept_as)
    viewed.check_memory(needed, data, views)
    how: dict[str, Any] = {"views": views, "kept_as": kept_as, "batch_size": _BATCH}
    if on_disk and isinstance(data, Dataset):
        outputs, rounding = remembered_answers(teacher, data, **how)
    else:
        outputs, rounding = viewed.asked(teacher, data, **how)
    return kd_teacher.kept(
        outputs,
        teacher=teacher.fingerprint,
        data=data.fingerprint,
        pairs=teacher.pairs,
        kind="logits" if teacher.manifest is None else teacher.manifest.kind,
        views=views,
        rounding=rounding,
    )


def evaluation(run: Trained, data: Examples) -> dict[str, Any]:
    """Every metric that fits the labels, per member, under ``members``, and the rows that each one
    gets wrong; of the examples that have a label.
    """
    if data.labels is None:
        return {"members": []}
    rows, judged = np.flatnonzero(data.has_label), data.has_label
    labels = data.labels[judged]
    members = [
        member_evaluation(answers[judged], labels, judged_as(data)) for answers in run.judged(data)
    ]
    for member in members:
        if "wrong" in member:
            member["wrong"] = rows[member["wrong"]].tolist()
    return {"members": members}


def member_evaluation(
    logits: np.ndarray, labels: np.ndarray, targets: str = "classes"
) -> dict[str, Any]:
    """What is kept of one model: every metric that fits, and the rows that it gets wrong."""
    wrong = evals.wrong_rows(logits, labels, targets)
    told = evals.measured(logits, labels, targets)
    return told if wrong is None else {**told, "wrong": wrong.tolist()}
