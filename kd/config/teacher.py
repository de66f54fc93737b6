"""What a config says of the teacher."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, Literal

from kd.config.source import Source, parse
from kd.config.typed import build
from kd.core.manifest import Kind
from kd.errors import KdError
from kd.fields import later, outside_identity
from kd.system.paths import anywhere


@dataclasses.dataclass(frozen=True)
class TeacherSpec:
    """`source` is where it comes from: ``run:DIR`` of a finished run, one model or a population;
    ``hf:DIR`` of Hugging Face; ``weights:FILE`` of arrays with PyTorch's names; ``table:FILE`` of
    soft labels; ``package.module:function`` on NumPy arrays. `workdir` is another name for
    ``run:DIR``. `precompute` its logits on the transfer set or not, and keep them as numbers of the
    type `kept_as`.

    `kind` says what a table or a function answers with, where that does not say it itself, and
    `temperature` at which its probabilities were softened. The answers are part of who the run is,
    and these two with them.

    `image_size` is what ``data.image_size`` was when it was trained, in pixels, or "native" where
    that was none: a model or a function sees the same images at that size. None: it sees what the
    student sees.

    `classes` are those of its classes that are the student's, in the student's order, by number, or
    by name where they have names: what it says of them is renormalised. None: all of them.

    `model` is its architecture, spelled as `student` is: that of ``weights:FILE``, with the `mean`
    and `deviation` that its inputs are normalised by; and, with `members` for how many of them an
    ensemble has, for planning a run whose teacher is not trained yet: where there is a workdir,
    what is in it counts. `licence` is that of its weights or answers, recorded with the run.
    """

    workdir: str | None = None
    average: Literal["arithmetic", "geometric", "per_member"] = "arithmetic"
    precompute: bool = True
    kept_as: Literal["float32", "float16"] = later("float32")
    source: str | None = outside_identity(None)
    kind: Kind | None = outside_identity(None)
    temperature: float | None = outside_identity(None)
    classes: tuple[int, ...] | tuple[str, ...] | None = later(None)
    image_size: int | Literal["native"] | None = later(None)
    model: Mapping[str, Any] | None = outside_identity(None)
    members: int | None = outside_identity(None)
    licence: str = outside_identity("own")

    @property
    def origin(self) -> Source | None:
        """Where it comes from; None without a teacher."""
        if self.source is not None:
            return parse(self.source)
        return None if self.workdir is None else Source("run", self.workdir)

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """`classes` by number; None for all."""
        if self.classes is None:
            return None
        return tuple(number for number in self.classes if isinstance(number, int))

    @property
    def answers_once(self) -> bool:
        """Whether there is one answer for each example and no model to ask again."""
        return self.origin is not None and not self.origin.is_model


@dataclasses.dataclass(frozen=True)
class Part:
    """One of several teachers: where it comes from and how much it counts, by its share of all
    weights. `average` joins the members of a population; the other keys are those of
    `TeacherSpec`.
    """

    source: str
    weight: float = 1.0
    average: Literal["arithmetic", "geometric", "per_member"] = "arithmetic"
    kind: Kind | None = None
    temperature: float | None = None
    classes: tuple[int, ...] | tuple[str, ...] | None = None
    model: Mapping[str, Any] | None = None
    licence: str = "own"

    @property
    def spec(self) -> TeacherSpec:
        """The same as the only teacher."""
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del told["weight"]
        return TeacherSpec(**told)


def make_parts(teachers: Mapping[str, Any] | None, teacher: TeacherSpec) -> dict[str, Part]:
    """The several teachers of a config, in the order of their names, beside what it says of all.

    Raises:
      KdError: one that is not well-formed, a single one, a weight that is not above 0, or a teacher
        beside them.
    """
    parts: dict[str, Part] = {}
    for name, told in sorted((teachers or {}).items()):
        if told is None:  # --config.teachers.NAME=none drops one
            continue
        path = f"config.teachers.{name}"
        part = parts[name] = build(Part, told, path)
        if not 0 < part.weight <= sys.float_info.max:
            raise KdError(f"{path}.weight must be a number above 0, got {part.weight}")
        origin = parse(part.source, f"{path}.source")
        if origin.is_model and (part.kind or part.temperature):
            raise KdError(f"{path} is a model, which answers with logits; leave out its kind")
        if origin.scheme != "run" and part.average != Part.average:
            raise KdError(f"{path}.average changes nothing: {origin.text} has no members")
        if origin.scheme != "weights" and part.model is not None:
            raise KdError(f"{path}.model changes nothing: {origin.text} is no file of weights")
        check_teacher(part.spec)
    if len(parts) == 1:
        raise KdError("config.teachers mixes several and names one; set config.teacher.source")
    if parts and teacher.origin is not None:
        raise KdError(
            "config.teacher and config.teachers both say where teachers come from; leave one out"
        )
    return parts


def here(teacher: TeacherSpec) -> TeacherSpec:
    """The same with paths as this machine has them. Raises a `KdError` as `parse` does."""
    workdir, source = teacher.workdir, teacher.source
    return dataclasses.replace(
        teacher,
        workdir=str(anywhere(workdir, "config.teacher.workdir")) if workdir else workdir,
        source=None if source is None else parse(source).text,
    )


def check_teacher(teacher: TeacherSpec) -> None:
    """Raise a `KdError` for what no teacher can be."""
    if teacher.workdir is not None and teacher.source is not None:
        raise KdError(
            f"config.teacher.workdir={teacher.workdir} and config.teacher.source={teacher.source} "
            "both say where the teacher comes from; leave one out"
        )
    temperature = teacher.temperature
    if temperature is not None and not 0 < temperature <= sys.float_info.max:
        raise KdError(
            f"config.teacher.temperature must be a finite number above 0, got {temperature}"
        )
    if teacher.classes is not None:
        _check_classes(teacher)
    _check_model(teacher)
    if teacher.members is not None:
        _check_members(teacher)


def _check_classes(teacher: TeacherSpec) -> None:
    classes = teacher.classes or ()
    below = any(isinstance(number, int) and number < 0 for number in classes)
    if not classes or below or len(set(classes)) < len(classes):
        raise KdError(
            f"config.teacher.classes must be classes of the teacher, each once, got {classes}"
        )
    origin = teacher.origin
    if (origin is None or origin.scheme == "function") and isinstance(classes[0], str):
        raise KdError(
            f"config.teacher.classes={classes} are names, which a function has not; give the "
            "numbers of the teacher's classes, from 0"
        )


def _check_members(teacher: TeacherSpec) -> None:
    if not 0 < (teacher.members or 0) < 2**31:
        raise KdError(
            f"config.teacher.members must be 1 or more, got {teacher.members}; none is a "
            "single model"
        )
    if teacher.model is None:
        raise KdError(
            "config.teacher.members counts models and config.teacher.model declares none; declare "
            "it too"
        )


def _check_model(teacher: TeacherSpec) -> None:
    """Arrays alone say nothing of their network; a folder of Hugging Face does."""
    origin = teacher.origin
    if origin is None or origin.scheme not in ("hf", "weights"):
        return
    if teacher.members is not None:
        raise KdError(
            f"config.teacher.members={teacher.members} changes nothing: {origin.text} is a single "
            "model; leave it out"
        )
    if origin.scheme == "hf" and teacher.model is not None:
        raise KdError(f"{origin.text} says which network it is; leave config.teacher.model out")
    if origin.scheme == "weights" and teacher.model is None:
        raise KdError(
            f"{origin.text} holds arrays alone; name their network, e.g. config.teacher.model="
            "{'name': 'resnet', 'depth': 20}"
        )
