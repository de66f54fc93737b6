"""The teacher of a run: from where its config, or a caller of the library, says it comes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from kd import config as kd_config
from kd.calling import check_takes, guarded
from kd.config import Part, Source, Spec, TeacherSpec, fingerprint_of
from kd.config.teacher import check_teacher
from kd.core.manifest import Kind
from kd.core.types import Average, Teacher
from kd.data.examples import Examples
from kd.errors import KdError
from kd.hints import checked
from kd.models.abstract import shapes
from kd.names import lookup
from kd.placement.ambient import pinned
from kd.runs.load import load_finished
from kd.runs.models import make_model
from kd.runs.pretrained import checked_model, load_pretrained
from kd.system.copies import brought
from kd.system.paths import anywhere
from kd.teachers.answers import check_data, reading
from kd.teachers.classes import numbers_of, of_classes
from kd.teachers.function import complete, function_teacher
from kd.teachers.make import table_shapes
from kd.teachers.mixture import mixture
from kd.teachers.table import table_teacher
from kd.teachers.trained import Trained
from kd.user_code import reached


@pinned()
@checked
def teacher(
    source: Any,
    *,
    data: Any = None,
    model: Mapping[str, Any] | None = None,
    kind: Kind | None = None,
    temperature: float | None = None,
    classes: Sequence[int] | Sequence[str] | None = None,
    average: Average | None = None,
    batch_size: int = 500,
    allow_code: str | Iterable[str] = (),
    despite_changes: bool = False,
) -> Teacher:
    """The teacher that `source` names, spelled as ``config.teacher.source`` is: ``run:DIR``,
    ``hf:DIR``, ``weights:FILE``, ``table:FILE``, ``package.module:function``; or the function
    itself.

    A table or a function answers for each example of `data`, once, with logits or with what `kind`
    says; `temperature` is that at which probabilities were softened. `classes` are those of the
    teacher's classes that are the student's, by number, or by name where they have names. A
    function is called with ``[b ...]`` NumPy arrays, see `kd.teachers.function`. `model` names the
    network of a file of weights, as in `kd.load`. A run is a model or a population, whose members
    `average` joins; `allow_code` and `despite_changes` are as in `kd.load_trained`.

    Raises:
      KdError: no such teacher, one that does not fit `data`, or an argument that changes nothing.
    """
    told = TeacherSpec(
        source=source if isinstance(source, str) else None,
        kind=kind,
        temperature=temperature,
        classes=None if classes is None else tuple(classes),  # pyright: ignore[reportArgumentType]
        model=checked_model(model),
    )
    check_teacher(told)
    if not isinstance(source, str):
        if not callable(source):
            raise KdError(f"a teacher comes from {kd_config.KNOWN} or a function, got {source!r}")
        _refuse_idle("a function", average=average, allow_code=allow_code, model=model)
        return complete(
            function_teacher(
                source,
                _needed(data),
                kind=kind,
                temperature=temperature,
                classes=told.numbers,
                batch_size=batch_size,
            )
        )
    origin = kd_config.parse(source, "source")
    if origin.scheme != "weights":
        _refuse_idle(f"{origin.scheme}:, no file of weights", model=model)
    if origin.is_model:
        _refuse_idle("a model", kind=kind, temperature=temperature)
        doors = {"allow_code": allow_code, "despite_changes": despite_changes}
        run = load_model(origin, told.model, **doors)
        if average is not None and not run.members:
            raise KdError(f"average={average} changes nothing: {source} is a single model")
        chosen = numbers_of(told.classes, run.class_names)
        return of_classes(run.teacher(average or "arithmetic"), chosen)
    _refuse_idle("a table or a function", average=average, allow_code=allow_code)
    return complete(_answering(origin, told, _needed(data), batch_size))


def _needed(data: Any) -> Examples:
    check_data(data)
    return data


def _refuse_idle(what: str, **options: Any) -> None:
    for name, value in options.items():
        if value not in (None, ()):
            raise KdError(f"{name}={value!r} changes nothing: the teacher is {what}; leave it out")


def load_teacher(spec: Spec, data: Examples, *, despite_changes: bool = False) -> Teacher | None:
    """The teacher that a config names, live or of a table, or None. Of a function the shape of its
    answers alone is known: `kd.teachers.function.complete` asks for them.

    Raises:
      KdError: no such work directory or an unfinished one, one whose code has changed since (see
        `kd.load_trained`), no such table or function, a teacher that cannot read these inputs, or
        answers that are kept for a student that sees jittered images.
    """
    origins = spec.origins
    if spec.members.teachers is not None and [origin.scheme for origin in origins] != ["run"]:
        told = f"{origins[0].text} has none; leave it out" if origins else "there is none"
        raise KdError(
            f"population.teacher names members of a teacher, and {told}; set teacher.source=run:DIR"
        )
    if not origins:
        return None
    _check_views(spec)
    if not spec.parts:
        return _one(spec, data, despite_changes=despite_changes)
    several = [
        (_one(_only(spec, part), data, despite_changes=despite_changes), part.weight)
        for part in spec.parts.values()
    ]
    who = [
        [taught.fingerprint, weight, part.average, *([part.classes] if part.classes else [])]
        for (taught, weight), part in zip(several, spec.parts.values(), strict=True)
    ]
    return mixture(several, average=spec.teacher.average, fingerprint=fingerprint_of(who))


def _only(spec: Spec, part: Part) -> Spec:
    """The config with one of its several teachers as the only one."""
    teacher = dataclasses.replace(part.spec, precompute=spec.teacher.precompute)
    return dataclasses.replace(spec, teacher=teacher, teachers=None)


def _one(spec: Spec, data: Examples, *, despite_changes: bool) -> Teacher:
    origin = spec.teacher.origin
    assert origin is not None
    if not origin.is_model:
        return _answering(origin, spec.teacher, data, spec.data.batch_size)
    # what the student's own config names was typed by the caller
    allowed = (*spec.allow_code, *kd_config.code_names(spec))
    doors = {"allow_code": allowed, "despite_changes": despite_changes}
    return as_teacher(load_model(origin, spec.teacher.model, **doors), spec, data)


def teacher_fingerprint(spec: Spec) -> str:
    """Who teaches a run, where that is weights from outside; "" for any other teacher, and for
    none. Raises a `KdError` as `load_pretrained` does.
    """
    origin = spec.teacher.origin
    if origin is None or origin.scheme not in ("hf", "weights"):
        return ""
    return load_model(origin, spec.teacher.model).fingerprint


def load_model(origin: Source, model: Mapping[str, Any] | None, **doors: Any) -> Trained:
    """The trained model that a source of one names: a finished run, or weights from outside, of the
    network `model` where they are arrays alone. `doors` are those of `load_finished`.

    Raises a `KdError` as `load_finished` and `load_pretrained` do.
    """
    if origin.scheme == "run":
        return load_finished(origin.place, "the teacher", **doors)
    return load_pretrained(origin, model, "config.teacher.model")


def _answering(origin: Source, told: TeacherSpec, data: Examples, batch_size: int) -> Teacher:
    """A table, or a function that is not asked yet."""
    options: dict[str, Any] = {"kind": told.kind, "temperature": told.temperature}
    if origin.scheme == "table":
        table = brought(anywhere(origin.place))
        return table_teacher(table, data, classes=told.classes, **options)
    options["classes"] = told.numbers
    function = lookup("teacher", origin.place, {})
    what = f"teacher '{origin.place}'"
    check_takes(what, function, "(inputs[b ...])", None)
    function = guarded(what, function)
    code = reached([origin.place.partition(":")[0]])
    who = fingerprint_of([origin.place, code, told.kind, told.temperature])
    return function_teacher(function, data, fingerprint=who, batch_size=batch_size, **options)


def as_teacher(run: Trained, spec: Spec, data: Examples) -> Teacher:
    """A finished run, or shapes in its place, as the teacher of a config. Raises a `KdError` as
    `load_teacher` does.
    """
    _check_precompute(spec)
    pairs = spec.members.teachers
    if spec.teacher.average != TeacherSpec.average and (pairs is not None or not run.members):
        whole = "each student has one of its own" if run.members else "it is a single model"
        raise KdError(
            f"config.teacher.average={spec.teacher.average} changes nothing: it averages the "
            f"members of a teacher, and {whole}; leave it out"
        )
    taught = reading(run.teacher(spec.teacher.average, pairs=pairs), data)
    return of_classes(taught, numbers_of(spec.teacher.classes, run.class_names))


def _check_views(spec: Spec) -> None:
    """Raise a `KdError` where a table or a function teaches a student that sees an example in
    several ways.
    """
    once = [origin.text for origin in spec.origins if not origin.is_model]
    if once and spec.data.augmentations:
        raise KdError(
            f"the teacher {once[0]} answers once for each example, and every epoch shows other "
            f"images ({', '.join(spec.data.augmentations)}); leave that out, or let a run teach"
        )


def _check_precompute(spec: Spec) -> None:
    why = spec.data.why_not_kept
    if spec.teacher.precompute and why:
        raise KdError(
            "config.teacher.precompute keeps one answer for each example in memory, and "
            f"{why}; set one of them off"
        )


def planned_teacher(spec: Spec, data: Examples) -> Teacher | None:
    """The teacher of a run that is only planned: where it is not there yet, the shapes of
    `teacher.model` and `teacher.members`, or of the answers of a table or a function.

    Raises:
      KdError: it is neither there nor declared.
    """
    if any(not origin.is_model for origin in spec.origins):
        return table_shapes(len(data), data.num_classes)
    origin = spec.teacher.origin
    there = origin is not None and anywhere(origin.place).exists()
    if there or spec.teacher.model is None:
        try:
            return load_teacher(spec, data, despite_changes=True)  # only shapes are asked
        except KdError as error:
            if there or origin is None or origin.scheme == "hf":
                raise
            raise KdError(
                f"{error}; or, to plan without it, declare config.teacher.model"
            ) from error
    model = make_model(spec.teacher.model, data.num_classes, compute=spec.compute, remat=False)
    declared = shapes(model, data.taught.first)
    params, extra = declared.params, declared.extra
    members, pairs = spec.teacher.members, spec.members.teachers
    if members is None and pairs is not None:  # a population of them, as large as the pairs say
        members = max(pairs) + 1
    if members is not None:
        params, extra = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype), (params, extra)
        )
    return as_teacher(Trained(model, params, extra, members is not None), spec, data)
