"""From a resolved config to a finished work directory: the pieces are built here, and nowhere else."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd import config as kd_config
from kd import data as kd_data
from kd import evals, train, writers
from kd.config import Spec
from kd.errors import KdError
from kd.models import MODELS, as_model
from kd.optim import make_optimizer, max_norm
from kd.population import check_population, init_seeds, numbers, paired_teachers, population_size
from kd.registry import lookup
from kd.state import State
from kd.teacher import unpaired_answer
from kd.trained import Trained, evaluation, precompute
from kd.types import Model, Outputs, PyTree, Teacher
from kd.workdir import Workdir, claim, find, made


def build_model(spec: Spec, num_classes: int) -> Model:
    """The student of a config, as wide as the data has classes unless ``student.classes`` says otherwise."""
    options = {key: value for key, value in spec.student.items() if key != "name"}
    classes = options.pop("classes", None)
    function = lookup("model", spec.student["name"], MODELS)
    return as_model(function(classes=num_classes if classes is None else classes, **options))


def load_trained(path: str | pathlib.Path) -> Trained:
    """The newest whole checkpoint of a work directory, with the model it belongs to.

    Raises:
      KdError: no work directory, or one without a checkpoint.
    """
    workdir = find(path)
    checkpoints = workdir.checkpoints(read_only=True)  # that run may still be training
    restored = checkpoints.restore()
    checkpoints.close()
    if restored is None:
        raise KdError(f"{path} holds no whole checkpoint; finish that run first with 'kd train'")
    kept = restored.get("best") or restored  # with early stopping the result is the best state, not the last
    arrays = jax.tree.map(jnp.asarray, {"params": kept["params"], "extra": kept.get("extra") or {}})
    model = build_model(workdir.spec, workdir.owner["num_classes"])
    members = population_size(workdir.spec.population) is not None
    return Trained(model, arrays["params"], arrays["extra"], members, workdir.fingerprint)


def load_finished(path: str | pathlib.Path, who: str = "the run") -> Trained:
    """`load_trained` of a run that has arrived at its last step. Raises a `KdError` of one that has not."""
    run = load_trained(path)
    if find(path).read("evaluation.json") is None:
        raise KdError(f"{who} in {path} has not finished training; finish that run first")
    return run


def load_teacher(spec: Spec, data: kd_data.Dataset) -> Teacher | None:
    """The teacher that a config names, live, or None. Nothing is computed yet.

    Raises:
      KdError: no such work directory or an unfinished one, a teacher that cannot read these inputs, or a
        precomputed teacher of a student that sees jittered images.
    """
    if spec.teacher.workdir is None:
        if paired_teachers(spec.population) is not None:
            raise KdError("population.teacher names members of a teacher and there is none; set teacher.workdir")
        return None
    return _as_teacher(load_finished(spec.teacher.workdir, "the teacher"), spec, data)


def _as_teacher(run: Trained, spec: Spec, data: kd_data.Dataset) -> Teacher:
    if spec.teacher.precompute and spec.data.jitter_pixels:
        raise KdError(
            "config.teacher.precompute answers for unshifted images and config.data.jitter_pixels shifts the "
            "student's; set one of them off"
        )
    teacher = run.teacher(spec.teacher.average, pairs=paired_teachers(spec.population))
    check_inputs(teacher, data)
    return teacher


def build_task(spec: Spec, data: kd_data.Dataset, teacher: Teacher | None) -> train.Task:
    """Everything a run is made of. Raises a `KdError` where the parts do not fit."""
    terms = kd_config.make_terms(spec)
    seeds, hparams = numbers(terms, spec.optim.learning_rate, spec.population, spec.seed)
    return train.Task(
        model=build_model(spec, data.num_classes),
        data=data,
        terms=terms,
        optimizer=make_optimizer(spec.optim),
        total_steps=total_steps(spec, len(data)),
        batch_size=spec.data.batch_size,
        seeds=seeds,
        hparams=hparams,
        teacher=teacher,
        view=kd_data.jitter(spec.data.jitter_pixels),
        constraint=max_norm(spec.optim.max_norm),
        learning_rate_schedule=spec.optim.learning_rate_schedule,
        early_stopping=spec.early_stopping is not None,
        init_seeds=init_seeds(spec.population),
    )


def check_spec(spec: Spec, teacher: Spec | None = None) -> None:
    """Raise a `KdError` for all that can be known to be wrong with a run before its teacher is trained.

    `teacher` is the config of that teacher, whose shapes stand in for it; without one the run's own is looked at. The
    splits are loaded, nothing is computed.
    """
    check_population(spec.population, kd_config.make_terms(spec))
    data, _, _ = load_splits(spec)
    taught = load_teacher(spec, data) if teacher is None else _as_teacher(untrained(teacher), spec, data)
    train.check(build_task(spec, data, taught), spec.mesh.devices)


def untrained(spec: Spec) -> Trained:
    """What a config will train, with shapes in the place of arrays. Raises a `KdError` as `check_spec` does."""
    task = build_task(spec, load_splits(spec)[0], None)
    state = jax.eval_shape(lambda: train.initial_state(task))
    return Trained(task.model, state.params, state.extra, task.members is not None)


def total_steps(spec: Spec, examples: int) -> int:
    """Length of the run in steps."""
    if spec.total_steps is not None:
        return spec.total_steps
    return kd_data.steps_of(spec.total_epochs or 0, examples, spec.data.batch_size)


def train_workdir(
    spec: Spec, path: str | pathlib.Path, *, title: str = "train", tensorboard: bool = False
) -> dict[str, Any]:
    """Train a config into a work directory, resuming what is there, and return its evaluation.

    The evaluation has one entry per member: see `evaluation`. It is also in ``evaluation.json``.

    Raises:
      KdError: anything a user can mend. kd.signals.Interrupted: asked to stop; the state was saved.
    """
    path = pathlib.Path(path)
    data, held_out, validation = load_splits(spec)
    teacher = load_teacher(spec, data)
    task = build_task(spec, data, teacher)
    train.check(task, spec.mesh.devices)
    with made(path).locked():  # first of all: who does not hold it must not say whose folder this is
        workdir = claim(path, spec, data, "" if teacher is None else teacher.fingerprint)
        if teacher is not None and spec.teacher.precompute:
            task = dataclasses.replace(task, teacher=precompute(teacher, data))
        state = _train_in(workdir, spec, task, held_out, validation, title, tensorboard)
        outcome = evaluation(train.result(task, state), held_out)
        if state.best is not None:
            outcome["best_step"] = np.asarray(state.best.step).tolist()
        workdir.write("evaluation.json", outcome)
    return outcome


def load_splits(spec: Spec) -> tuple[kd_data.Dataset, kd_data.Dataset, kd_data.Dataset | None]:
    """The examples to train on, those to evaluate on, and those that early stopping looks at.

    Raises:
      KdError: a split that is not there, without the classes or labels asked for, or of another kind than the others.
    """

    def load(split: str) -> kd_data.Dataset:
        return kd_data.load(spec.data.source, split, spec.data.data_dir)

    data, held_out = load(spec.data.train), load(spec.data.eval)
    validation = None if spec.early_stopping is None else load(spec.early_stopping)
    if spec.data.classes is not None:
        data = kd_data.of_classes(data, spec.data.classes)
    _check_held_out("data.eval", held_out, data)
    if validation is not None:
        _check_held_out("early_stopping", validation, data)
        if validation.labels is None:
            raise KdError(f"early stopping counts errors and '{spec.early_stopping}' has no labels; name another split")
    return data, held_out, validation


def _train_in(
    workdir: Workdir,
    spec: Spec,
    task: train.Task,
    held_out: kd_data.Dataset,
    validation: kd_data.Dataset | None,
    title: str,
    tensorboard: bool,
) -> State:
    checkpoints = workdir.checkpoints()
    with writers.Progress(title, task.total_steps, task.batch_size * (task.members or 1)) as progress:

        def start_writing(resumed_at: int) -> list[writers.Write]:
            progress.resume(resumed_at)
            sinks = [writers.jsonl(workdir.metrics, resumed_at), progress.write]
            return [*sinks, writers.tensorboard(workdir.path / "tensorboard")] if tensorboard else sinks

        state = train.run(
            task,
            cadence=_cadence(spec, len(task.data), task.total_steps),
            devices=spec.mesh.devices,
            checkpoints=checkpoints,
            evaluate=lambda state: _held_out(train.latest(task, state), held_out),
            validate=None if validation is None else lambda state: train.latest(task, state).errors(validation),
            start_writing=start_writing,
        )
    checkpoints.close()
    return state


def _held_out(run: Trained, data: kd_data.Dataset) -> dict[str, Any]:
    if data.labels is None:
        return {}
    metrics = [evals.classify(one, data.labels) for one in run.each(data)]
    values = {f"eval/{name}": [m[name] for m in metrics] for name in ("accuracy", "errors", "nll")}
    return values if run.members else {name: value[0] for name, value in values.items()}


def _check_held_out(key: str, held_out: kd_data.Dataset, data: kd_data.Dataset) -> None:
    shapes, classes = (held_out.first.shape[1:], data.first.shape[1:]), (held_out.num_classes, data.num_classes)
    if shapes[0] != shapes[1] or classes[0] > classes[1]:
        raise KdError(
            f"config.{key} has inputs of shape {shapes[0]} and {classes[0]} classes, config.data.train {shapes[1]} "
            f"and {classes[1]}; evaluate on a split of the same kind"
        )


def _cadence(spec: Spec, examples: int, total: int) -> train.Cadence:
    def steps(epochs: float | None) -> int | None:
        return None if epochs is None else kd_data.steps_of(epochs, examples, spec.data.batch_size)

    return train.Cadence(min(spec.log_steps, total), steps(spec.eval_epochs), steps(spec.checkpoint_epochs))


def check_inputs(model: Teacher, data: kd_data.Dataset, who: str = "the teacher") -> None:
    """Raise a `KdError` unless a model reads the inputs of `data`. Nothing is computed."""

    def answer(variables: PyTree) -> Outputs:
        batch = kd_data.gather(kd_data.to_device(kd_data.take(data, "all[:1]")), jnp.zeros(1, jnp.int32))
        return unpaired_answer(model)(variables, batch)

    try:
        jax.eval_shape(answer, model.variables)
    except Exception as error:  # a model that was built for other inputs fails in its own words
        cause = str(error).strip().splitlines()[0]
        raise KdError(f"{who} cannot read inputs of shape {data.first.shape[1:]}: {cause}") from error
