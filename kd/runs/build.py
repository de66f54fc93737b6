"""From a resolved config to the pieces of a run: model, teacher, task.

They are built here, and nowhere else.
"""

from __future__ import annotations

import inspect
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from kd import config as kd_config
from kd import data as kd_data
from kd.config import Spec, TeacherSpec
from kd.core.optim import make_optimizer, max_norm
from kd.core.types import Model, Teacher
from kd.data.seen import from_record
from kd.errors import KdError
from kd.lineage import despite
from kd.models import MODELS, as_model
from kd.models.abstract import shapes
from kd.models.precision import in_bfloat16, rematerialised
from kd.names import lookup
from kd.placement.ambient import pinned
from kd.runs.reading import verify
from kd.runs.splits import Examples, load_splits
from kd.runs.workdir import Workdir, find
from kd.teachers.answers import reading
from kd.teachers.trained import Trained
from kd.training import loop
from kd.training.task import Task, make_task

_TRIES = 5  # to read a checkpoint beside a run that removes old ones


def build_model(spec: Spec, num_classes: int) -> Model:
    """The student of a config, as wide as the data has classes unless ``student.classes`` says
    otherwise.
    """
    return _model(spec.student, num_classes, compute=spec.compute, remat=spec.remat)


def _model(given: Mapping[str, Any], num_classes: int, *, compute: str, remat: bool) -> Model:
    options = {key: value for key, value in given.items() if key != "name"}
    classes = options.pop("classes", None)
    function = lookup("model", given["name"], MODELS)
    by_layer = remat and "remat" in inspect.signature(function).parameters
    if by_layer:
        options["remat"] = True
    model = as_model(function(classes=num_classes if classes is None else classes, **options))
    model = rematerialised(model) if remat and not by_layer else model
    return in_bfloat16(model) if compute == "bfloat16" else model


def load_trained(
    path: str | pathlib.Path,
    *,
    allow_code: str | Iterable[str] = (),
    despite_changes: bool = False,
) -> Trained:
    """The newest whole checkpoint of a work directory, with the model it belongs to.

    Where the run names code of its own, ``package.module:name``, `allow_code` says which packages
    are trusted, beside those of the environment variable ``KD_ALLOW_CODE``. With `despite_changes`
    it is read although its code is not what was recorded, and its `changes` say what is different.

    Raises:
      KdError: no work directory, one without a checkpoint, one that names code that is not
        allowed, or one whose code has changed since.
    """
    workdir = find(path, allow_code)
    spec = workdir.spec
    return _trained(workdir, spec, _newest(path), verify(workdir, despite_changes=despite_changes))


def load_finished(
    path: str | pathlib.Path,
    who: str = "the run",
    *,
    allow_code: str | Iterable[str] = (),
    despite_changes: bool = False,
) -> Trained:
    """`load_trained` of a run that has arrived at its last step. Raises a `KdError` of one that has
    not.

    So it does where the last checkpoint is damaged or gone: the one before is another model under
    the same name.
    """
    workdir = find(path, allow_code)
    spec, changes = workdir.spec, verify(workdir, despite_changes=despite_changes)
    restored, evaluation = _newest(path), workdir.evaluation
    if evaluation is None:
        raise KdError(f"{who} in {path} has not finished training; finish that run first")
    last, step = evaluation.get("step"), int(np.max(restored["step"]))
    if last != step:
        raise KdError(
            f"{who} in {path} ended at step {last} and its newest whole checkpoint is of step "
            f"{step}; the same "
            "'kd train' command trains what is missing"
        )
    return _trained(workdir, spec, restored, changes)


def _newest(path: str | pathlib.Path) -> Mapping[str, Any]:
    """What the newest whole checkpoint holds.

    The run may still train, and take away what is being read: then again.
    """
    restored = None
    for tries_left in reversed(range(_TRIES)):
        try:
            checkpoints = find(path).checkpoints(read_only=True)
            restored = checkpoints.restore()
            checkpoints.close()
            break
        except (OSError, ValueError):  # Orbax and TensorStore raise either
            if not tries_left:
                raise
    if restored is None:
        raise KdError(f"{path} holds no whole checkpoint; finish that run first with 'kd train'")
    return restored


def _trained(
    workdir: Workdir, spec: Spec, restored: Mapping[str, Any], changes: tuple[str, ...]
) -> Trained:
    average = restored.get("ema")
    # a model may have one array and no names
    params = average if jax.tree.leaves(average) else restored["params"]
    heads = {
        name: own["exported"]
        for name, own in (restored.get("heads") or {}).items()
        if own.get("exported")
    }
    kept = {"params": params, "extra": restored.get("extra") or {}, "heads": heads}
    if restored.get(
        "best"
    ):  # with early stopping the result is the best state, not the last, once there is a best one
        seen = np.isfinite(restored["best"]["errors"])
        best = {
            "params": restored["best"]["params"],
            "extra": restored["best"].get("extra") or {},
            "heads": restored["best"].get("heads") or {},
        }
        kept = jax.tree.map(
            lambda b, n: np.where(seen.reshape(seen.shape + (1,) * (n.ndim - seen.ndim)), b, n),
            best,
            kept,
        )
    arrays = jax.tree.map(jnp.asarray, kept)
    model = build_model(spec, workdir.owner["num_classes"])
    members = spec.members.size is not None
    return Trained(
        model,
        arrays["params"],
        arrays["extra"],
        members,
        despite(workdir.fingerprint, changes),
        seen=from_record(workdir.owner.get("inputs")),
        changes=changes,
        heads=arrays["heads"],
    )


def load_teacher(spec: Spec, data: Examples, *, despite_changes: bool = False) -> Teacher | None:
    """The teacher that a config names, live, or None. Nothing is computed yet.

    Raises:
      KdError: no such work directory or an unfinished one, one whose code has changed since (see
        `load_trained`), a teacher that cannot read these inputs, or a precomputed teacher of a
        student that sees jittered images.
    """
    if spec.teacher.workdir is None:
        if spec.members.teachers is not None:
            raise KdError(
                "population.teacher names members of a teacher and there is none; set "
                "teacher.workdir"
            )
        return None
    # what the student's own config names was typed by the caller
    allowed = (*spec.allow_code, *kd_config.code_names(spec))
    run = load_finished(
        spec.teacher.workdir,
        "the teacher",
        allow_code=allowed,
        despite_changes=despite_changes,
    )
    return _as_teacher(run, spec, data)


def _as_teacher(run: Trained, spec: Spec, data: Examples) -> Teacher:
    _check_precompute(spec)
    pairs = spec.members.teachers
    if spec.teacher.average != TeacherSpec.average and (pairs is not None or not run.members):
        whole = "each student has one of its own" if run.members else "it is a single model"
        raise KdError(
            f"config.teacher.average={spec.teacher.average} changes nothing: it averages the "
            f"members of a teacher, and {whole}; leave it out"
        )
    return reading(run.teacher(spec.teacher.average, pairs=pairs), data)


def _check_precompute(spec: Spec) -> None:
    why = spec.data.why_not_kept
    if spec.teacher.precompute and why:
        raise KdError(
            "config.teacher.precompute keeps one answer for each example in memory, and "
            f"{why}; set one of them off"
        )


def build_task(
    spec: Spec, data: Examples, teacher: Teacher | None, mesh: Mesh | None = None
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
        teacher=teacher,
        view=kd_data.chain(
            kd_data.jitter(spec.data.jitter_pixels), kd_data.mixup() if spec.data.mixup else None
        ),
        constraint=max_norm(spec.optim.max_norm),
        learning_rate_schedule=spec.optim.learning_rate_schedule,
        early_stopping=spec.early_stopping is not None,
        accumulate=spec.accumulate,
        ema=spec.ema,
        mesh=spec.mesh if mesh is None else mesh,
        members_by=spec.mesh.members_by,
        sharding=spec.sharding,
    )


def total_steps(spec: Spec, examples: int) -> int:
    """Length of the run in steps."""
    if spec.total_steps is not None:
        return spec.total_steps
    return kd_data.steps_of(spec.total_epochs or 0, examples, spec.data.batch_size)


@pinned()
def check_spec(spec: Spec, teacher: Spec | None = None) -> Task:
    """The task of a run, of which all is known to be right that can be known before its teacher is
    trained. Raises a `KdError` for what is wrong.

    `teacher` is the config of that teacher, whose shapes stand in for it; without one the run's own
    is looked at. The splits are loaded, nothing is computed.
    """
    data, _, _ = load_splits(spec)
    taught = (
        load_teacher(spec, data) if teacher is None else _as_teacher(untrained(teacher), spec, data)
    )
    task = build_task(spec, data, taught)
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
    task = build_task(spec, data, _planned_teacher(spec, data), mesh)
    loop.check(task)
    return task


def _planned_teacher(spec: Spec, data: Examples) -> Teacher | None:
    there = spec.teacher.workdir is not None and pathlib.Path(spec.teacher.workdir).exists()
    if there or spec.teacher.model is None:
        try:
            return load_teacher(spec, data, despite_changes=True)  # only shapes are asked
        except KdError as error:
            if there or spec.teacher.workdir is None:
                raise
            raise KdError(
                f"{error}; or, to plan without it, declare config.teacher.model"
            ) from error
    model = _model(spec.teacher.model, data.num_classes, compute=spec.compute, remat=False)
    declared = shapes(model, data.first)
    params, extra = declared.params, declared.extra
    members, pairs = spec.teacher.members, spec.members.teachers
    if members is None and pairs is not None:  # a population of them, as large as the pairs say
        members = max(pairs) + 1
    if members is not None:
        params, extra = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype), (params, extra)
        )
    return _as_teacher(Trained(model, params, extra, members is not None), spec, data)


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
    if size is None or examples is None or classes is None:
        return None
    return kd_data.described(examples, (size, size, 3), classes)
