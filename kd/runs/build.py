"""From a resolved config to the task of a run, which is built here and nowhere else."""

from __future__ import annotations

import dataclasses

import jax
from jax.sharding import Mesh

from kd import data as kd_data
from kd.config import Spec, parse_layers
from kd.core.optim import make_optimizer, max_norm
from kd.core.step import View
from kd.core.types import Teacher
from kd.data.examples import Examples
from kd.errors import KdError
from kd.placement.ambient import pinned
from kd.runs.first import init_source, load_init
from kd.runs.longer import total_steps
from kd.runs.models import build_model
from kd.runs.splits import load_splits
from kd.runs.teachers import as_teacher, load_teacher, planned_teacher
from kd.teachers.trained import Trained
from kd.training import loop
from kd.training.task import Task, make_task


def build_task(
    spec: Spec,
    data: Examples,
    teacher: Teacher | None,
    mesh: Mesh | None = None,
    init: Trained | None = None,
) -> Task:
    """Everything a run is made of, on `mesh` or on the one that it describes.

    Raises a `KdError` where the parts do not fit.
    """
    return make_task(
        build_model(spec, data.num_classes),
        data,
        spec.terms,
        spec.members,
        batch_size=spec.data.batch_size,
        steps=total_steps(spec, len(data)),
        optimizer=make_optimizer(spec.optim),
        freeze=spec.optim.freeze,
        teacher=teacher,
        init=init,
        init_source=init_source(spec),
        layers=parse_layers(spec.student),
        view=_view(spec, data),
        constraint=max_norm(spec.optim.max_norm),
        learning_rate_schedule=spec.optim.learning_rate_schedule,
        early_stopping=spec.early_stopping is not None,
        patience=spec.patience,
        accumulate=spec.accumulate,
        ema=spec.ema,
        mesh=spec.mesh if mesh is None else mesh,
        members_by=spec.mesh.members_by,
        sharding=spec.sharding,
    )


def _view(spec: Spec, examples: Examples) -> View | None:
    """What is done to a batch on the device, before anybody sees it."""
    data = spec.data
    if data.text.masked:
        return kd_data.masking(examples, data.text.masked, data.text.rare)
    # a stream is turned round while it is read
    flip = kd_data.flip() if data.flip and not data.stream else None
    jitter = kd_data.jitter(data.jitter_pixels)
    if data.views is not None:
        return kd_data.fixed_views(jitter, flip, count=data.views)
    return kd_data.chain(jitter, kd_data.mixup() if data.mixup else None, flip)


@pinned()
def check_spec(spec: Spec, teacher: Spec | None = None) -> Task:
    """The task of a run, of which all is known to be right that can be known before its teacher is
    trained. Raises a `KdError` for what is wrong.

    `teacher` is the config of that teacher, whose shapes stand in for it; without one the run's own
    is looked at. The splits are loaded, nothing is computed.
    """
    data, _, _ = load_splits(spec)
    taught = (
        load_teacher(spec, data) if teacher is None else as_teacher(untrained(teacher), spec, data)
    )
    task = build_task(spec, data, taught, init=load_init(spec))
    loop.check(task)
    return task


def untrained(spec: Spec) -> Trained:
    """What a config will train, with shapes in the place of arrays.

    Raises a `KdError` as `check_spec` does.
    """
    task = build_task(spec, load_splits(spec)[0], None)
    state = jax.eval_shape(lambda: loop.initial_state(task))
    return Trained(task.model, state.params, state.extra, task.is_population, seen=task.data.seen)


@pinned()
def planned(spec: Spec, mesh: Mesh | None = None) -> Task:
    """The task of a config for which nothing need be there yet: for compiling and for looking at,
    not for training.

    Without the data, its shapes are those that `data.image_size`, `data.examples` and
    `student.classes` declare; without a trained teacher, those of `teacher.model` and
    `teacher.members`. `mesh` may be of devices that are not here.

    Raises:
      KdError: what neither is there nor declared, and all that `kd.training.loop.check` finds.
    """
    data = _declared(spec) or _found(spec)
    task = build_task(spec, data, planned_teacher(spec, data), mesh)
    loop.check(task)
    return task


def _found(spec: Spec) -> Examples:
    told = {"image_size": spec.data.image_size, "examples": spec.data.examples}
    missing = [f"config.data.{name}" for name, value in told.items() if value is None]
    missing += ["config.student.classes"] if spec.student.get("classes") is None else []
    try:
        return load_splits(spec)[0]
    except KdError as error:
        if len(missing) == 3:
            raise
        raise KdError(
            f"{error}; or, to plan without the data, declare {' and '.join(missing)} too"
        ) from error


def _declared(spec: Spec) -> kd_data.Stream | None:
    size, examples, classes = spec.data.image_size, spec.data.examples, spec.student.get("classes")
    other = spec.teacher.image_size
    if size is None or examples is None or classes is None or isinstance(other, str):
        return None
    data = kd_data.described(examples, (size, size, 3), classes)
    if other is None:
        return data
    shown = kd_data.described(examples, (other, other, 3), classes)
    return dataclasses.replace(data, teacher_inputs=shown)
