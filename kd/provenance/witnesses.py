"""Suspects, teachers and controls from where they lie: what each answers to the probe set, and what
is recorded of it.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from kd.config import Source, parse
from kd.core.types import PyTree
from kd.data.examples import Examples
from kd.data.slices import parse_split, split_rows
from kd.errors import KdError
from kd.lineage import Lineage
from kd.provenance.answers import Answers, answers_of
from kd.provenance.tables import of_classes, table_answers, table_of_controls
from kd.runs.loading import load_whole
from kd.runs.splits import open_split
from kd.runs.teachers import load_model
from kd.runs.workdir import Workdir, find
from kd.system import words
from kd.system.paths import anywhere
from kd.teachers.answers import answers, reading
from kd.teachers.make import digest
from kd.teachers.trained import Trained, of_member

Doors = Mapping[str, Any]
"""``allow_code`` and ``despite_changes``, as `kd.load` takes them."""


@dataclasses.dataclass(frozen=True)
class Witness:
    """One model: its `name`, its `answers`, the `digest` of its weights ("" of a table), and where
    it comes from, where that was recorded.
    """

    name: str
    answers: Answers
    digest: str = ""
    fingerprint: str = ""
    lineage: Lineage | None = None

    @property
    def trained_on(self) -> str:
        """The fingerprint of the examples that it was trained on; "" where nothing says."""
        return "" if self.lineage is None else self.lineage.data[0].train


def witness(
    text: str,
    data: Examples,
    doors: Doors,
    *,
    model: Mapping[str, Any] | None = None,
    member: int | None = None,
    ensemble: bool = False,
) -> Witness:
    """The model that `text` names, a folder or ``run:DIR``, ``hf:DIR``, ``weights:FILE`` or
    ``table:FILE``, and its answers to `data`.

    `model` is the network of a file of weights, `member` one of a population; with `ensemble` a
    population answers as one model.

    Raises:
      KdError: no such model, one that cannot read the probe set, a population of which no member is
        named, or a `member` or `model` of something that has none.
    """
    source = _source(text)
    if source.scheme == "table":
        _refuse(text, member=member, model=model)
        return Witness(text, table_answers(anywhere(source.place), data))
    trained = _trained(source, model, doors)
    if member is not None:
        trained = trained.member(member)
    if trained.members and not ensemble:
        raise KdError(
            f"{text} is a population of {trained.count} models; name one of them with --member=0 "
            f"to --member={(trained.count or 1) - 1}"
        )
    return Witness(
        text,
        _together(trained, data, text) if trained.members else _alone(trained, data, text),
        digest(_arrays(trained)),
        trained.fingerprint,
        trained.lineage,
    )


def controls(text: str, data: Examples, doors: Doors) -> Iterator[Witness]:
    """The models of a folder, a population or several below it, or of ``table:FILE``, one by one.

    Raises a `KdError` as `witness` does.
    """
    source = _source(text)
    if source.scheme == "table":
        for i, control in enumerate(table_of_controls(anywhere(source.place), data)):
            yield Witness(f"control {i} of {text}", control)
        return
    for folder in folders(text):
        words.say(f"asking the controls in {folder}")
        trained = _trained(Source("run", str(folder)), None, doors)
        arrays, lineage = _arrays(trained), trained.lineage
        for i, answered in enumerate(_each(trained, data, str(folder))):
            if not trained.members:
                who = trained.fingerprint
                yield Witness(str(folder), answered, digest(arrays), who, lineage)
                continue
            own, who = _of_member(arrays, i), of_member(trained.fingerprint, i)
            yield Witness(f"member {i} of {folder}", answered, digest(own), who, lineage)


def folders(text: str) -> list[pathlib.Path]:
    """The work directories that `text` names: itself, or those right below it.

    Raises a `KdError` where there is none.
    """
    source = _source(text)
    if source.scheme != "run":
        return []
    folder = anywhere(source.place)
    below = sorted(file.parent for file in folder.glob("*/run.json")) if folder.is_dir() else []
    return below if below and not (folder / "run.json").exists() else [find(folder).path]


def overlap(workdir: Workdir, split: str) -> bool:
    """Whether a run was trained on examples of `split` of its data."""
    spec = workdir.spec
    trained, probed = parse_split(spec.data.train)[0], parse_split(split)[0]
    if trained != probed:
        return False
    examples = len(open_split(spec, trained))
    ours, theirs = split_rows(spec.data.train, examples), split_rows(split, examples)
    return min(ours.stop, theirs.stop) > max(ours.start, theirs.start)


def check_controls(
    pool: Sequence[Witness], suspect: Witness, teachers: Sequence[Witness]
) -> tuple[str, ...]:
    """What must be said of the controls besides.

    Raises:
      KdError: they hold the suspect or a teacher, one was taught by a teacher, or they were trained
        on other data than a teacher.
    """
    for control in pool:
        for who in (suspect, *teachers):
            if control.digest and control.digest == who.digest:
                raise KdError(
                    f"{control.name} has the very weights of {who.name} (digest {control.digest}): "
                    "it is no control; leave it out"
                )
        for teacher in teachers:
            taught_by = [] if control.lineage is None else control.lineage.taught_by
            if teacher.fingerprint in [weights.fingerprint for weights in taught_by]:
                raise KdError(
                    f"{control.name} was taught by {teacher.name}: it is no control; leave it out"
                )
            if control.trained_on and teacher.trained_on not in ("", control.trained_on):
                raise KdError(
                    f"{control.name} was trained on other data ({control.trained_on}) than "
                    f"{teacher.name} ({teacher.trained_on}), and looks further from it for that "
                    "alone; train controls on the teacher's data (--train_controls)"
                )
    silent = [who.name for who in teachers if not who.trained_on]
    silent += ["the controls"] * any(not control.trained_on for control in pool)
    return tuple(
        f"nothing is recorded of the data of {name}, so that nobody can tell whether teacher and "
        "controls were trained on the same"
        for name in dict.fromkeys(silent)
    )


def _source(text: str) -> Source:
    scheme, colon, _ = text.partition(":")
    known = colon and scheme in ("run", "hf", "weights", "table")
    spelled = known and not os.path.exists(text)
    return parse(text, "a model") if spelled else Source("run", text)


def _trained(source: Source, model: Mapping[str, Any] | None, doors: Doors) -> Trained:
    if source.scheme != "weights":
        _refuse(source.text, model=model)
    if source.scheme == "run":
        return load_whole(source.place, **doors)
    return load_model(source, model)


def _refuse(text: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise KdError(f"--{name} changes nothing: {text} has none to choose; leave it out")


def _arrays(trained: Trained) -> PyTree:
    return {"params": jax.device_get(trained.params), "extra": jax.device_get(trained.extra)}


def _of_member(arrays: PyTree, i: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[i], arrays)


def _alone(trained: Trained, data: Examples, who: str) -> Answers:
    return _each(trained, data, who)[0]


def _each(trained: Trained, data: Examples, who: str) -> list[Answers]:
    return [answers_of(of_classes(logits, data, who), who) for logits in trained.each(data)]


def _together(trained: Trained, data: Examples, who: str) -> Answers:
    outputs = answers(reading(trained.teacher(), data), data)
    return answers_of(of_classes(np.asarray(outputs.log_probs()), data, who), who)
