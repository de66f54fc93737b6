"""From a resolved config to a finished work directory: the pieces are built here, and nowhere else."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd import config as kd_config
from kd import data as kd_data
from kd import evals, train, writers
from kd import teacher as kd_teacher
from kd.config import Spec
from kd.errors import KdError
from kd.models import MODELS
from kd.optim import make_optimizer, max_norm
from kd.predict import answers, predict
from kd.registry import lookup
from kd.state import State
from kd.types import Average, Model, Outputs, Teacher
from kd.workdir import claim, find

_EVAL_BATCH = 500


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run, loaded: one model, or the members of a population."""

    spec: Spec
    fingerprint: str
    model: Model
    params: Any
    extra: Any

    @property
    def members(self) -> bool:
        """Whether every leaf of `params` has a leading member axis."""
        return kd_config.population_size(self.spec.population) is not None

    def logits(self, data: kd_data.Dataset) -> np.ndarray:
        """Logits for every example: ``[n v]``, or ``[m n v]`` for a population."""
        return predict(self.model, self.params, self.extra, data, members=self.members, batch_size=_EVAL_BATCH)

    def teacher(self, average: Average) -> Teacher:
        """This run as a teacher: an ensemble if it is a population, else one live model."""
        if self.members:
            return kd_teacher.ensemble(
                self.model, self.params, self.extra, average=average, fingerprint=self.fingerprint
            )
        return kd_teacher.live(self.model, self.params, self.extra, fingerprint=self.fingerprint)


def build_model(spec: Spec, num_classes: int) -> Model:
    """The student of a config, as wide as the data has classes unless ``student.classes`` says otherwise."""
    options = {key: value for key, value in spec.student.items() if key != "name"}
    classes = options.pop("classes", None)
    return lookup("model", spec.student["name"], MODELS)(classes=num_classes if classes is None else classes, **options)


def load_trained(path: str | pathlib.Path) -> Trained:
    """The newest whole checkpoint of a work directory, with the model it belongs to.

    Raises:
      KdError: no work directory, or one without a checkpoint.
    """
    workdir = find(path)
    checkpoints = workdir.checkpoints()
    restored = checkpoints.restore()
    checkpoints.close()
    if restored is None:
        raise KdError(f"{path} holds no whole checkpoint; finish that run first with 'kd train'")
    spec, owner = workdir.spec, workdir.owner
    arrays = jax.tree.map(jnp.asarray, {"params": restored["params"], "extra": restored.get("extra") or {}})
    return Trained(
        spec, workdir.fingerprint, build_model(spec, owner["num_classes"]), arrays["params"], arrays["extra"]
    )


def load_teacher(spec: Spec, data: kd_data.Dataset) -> Teacher | None:
    """The teacher that a config names, or None; its logits are computed once where `teacher.precompute` says so.

    Raises:
      KdError: no such work directory, or a precomputed teacher of a student that sees jittered images.
    """
    if spec.teacher.workdir is None:
        return None
    teacher = load_trained(spec.teacher.workdir).teacher(spec.teacher.average)
    if not spec.teacher.precompute:
        return teacher
    if spec.data.jitter_pixels:
        raise KdError(
            "config.teacher.precompute answers for unshifted images and config.data.jitter_pixels shifts the "
            "student's; set one of them off"
        )
    _check_inputs(teacher, data)
    outputs = answers(teacher, data, batch_size=_EVAL_BATCH)
    return kd_teacher.precomputed(np.asarray(outputs.logits), average=outputs.average, fingerprint=teacher.fingerprint)


def build_task(spec: Spec, data: kd_data.Dataset, teacher: Teacher | None) -> train.Task:
    """Everything a run is made of. Raises a `KdError` where the parts do not fit."""
    terms, members = kd_config.make_terms(spec), kd_config.population_size(spec.population)
    hparams = train.hparams_of(terms, spec.optim.learning_rate)
    seeds: int | Sequence[int] = spec.seed
    if members is not None:
        hparams = _with_columns(train.repeated(hparams, members), spec.population)
        seeds = tuple(spec.population.get("seed", (spec.seed,) * members))
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
    )


def total_steps(spec: Spec, examples: int) -> int:
    """Length of the run in steps."""
    per_epoch = kd_data.steps_per_epoch(examples, spec.data.batch_size)
    if spec.total_steps is not None:
        return spec.total_steps
    return max(round((spec.total_epochs or 0) * per_epoch), 1)


def train_workdir(
    spec: Spec, path: str | pathlib.Path, *, title: str = "train", tensorboard: bool = False
) -> dict[str, Any]:
    """Train a config into a work directory, resuming what is there, and return its evaluation.

    The evaluation has one entry per member: see `evaluation`. It is also in ``evaluation.json``.

    Raises:
      KdError: anything a user can mend. kd.signals.Interrupted: asked to stop; the state was saved.
    """
    path = pathlib.Path(path)
    data = kd_data.load(spec.data.source, spec.data.train, spec.data.data_dir)
    held_out = kd_data.load(spec.data.source, spec.data.eval, spec.data.data_dir)
    teacher = load_teacher(spec, data)
    task = build_task(spec, data, teacher)
    train.check(task)
    workdir = claim(path, spec, data, "" if teacher is None else teacher.fingerprint)
    per_epoch = kd_data.steps_per_epoch(len(data), spec.data.batch_size)
    cadence = train.Cadence(
        spec.log_steps, _steps(spec.eval_epochs, per_epoch), _steps(spec.checkpoint_epochs, per_epoch)
    )
    checkpoints = workdir.checkpoints()
    with writers.Progress(title, task.total_steps, spec.data.batch_size * (task.members or 1)) as progress:

        def start_writing(resumed_at: int) -> list[writers.Write]:
            progress.resume(resumed_at)
            sinks = [writers.jsonl(workdir.metrics, resumed_at), progress.write]
            return [*sinks, writers.tensorboard(path / "tensorboard")] if tensorboard else sinks

        state = train.run(
            task,
            cadence=cadence,
            devices=spec.mesh.devices,
            checkpoints=checkpoints,
            evaluate=lambda state: _held_out(task, state, held_out),
            start_writing=start_writing,
        )
    checkpoints.close()
    outcome = evaluation(task, state, held_out)
    workdir.write("evaluation.json", outcome)
    return outcome


def evaluate_workdir(
    path: str | pathlib.Path, *, split: str | None = None, teacher: str | None = None, data_dir: str | None = None
) -> dict[str, Any]:
    """Evaluate a finished run, member by member: `split`, and under ``members`` the metrics of each.

    With a teacher (the run's own by default, if it has one) also the measures of the pair.

    Raises:
      KdError: no such run, data or split; a teacher of another number of classes.
    """
    run = load_trained(path)
    split = split or run.spec.data.eval
    data = kd_data.load(run.spec.data.source, split, data_dir or run.spec.data.data_dir)
    if data.labels is None:
        raise KdError(f"split '{split}' has no labels to evaluate against; choose a labelled split")
    members = [evals.classify(one, data.labels) for one in _each(run.logits(data), run.members)]
    teacher = teacher or run.spec.teacher.workdir
    if teacher is not None:
        average = run.spec.teacher.average
        taught = load_trained(teacher).teacher("arithmetic" if average == "per_member" else average)
        answer = np.asarray(answers(taught, data).log_probs())
        if answer.shape[-1] != run.logits(data).shape[-1]:
            raise KdError(f"{path} has {run.logits(data).shape[-1]} classes and its teacher {answer.shape[-1]}")
        pairs = [evals.compare(one, answer, data.labels) for one in _each(run.logits(data), run.members)]
        members = [{**member, **pair} for member, pair in zip(members, pairs, strict=True)]
    return {"split": split, "members": members}


def _each(logits: np.ndarray, members: bool) -> np.ndarray:
    return logits if members else logits[None]


def evaluation(task: train.Task, state: State, data: kd_data.Dataset) -> dict[str, Any]:
    """Last state, held-out data: every classification metric per member, and the rows each one gets wrong."""
    if data.labels is None:
        return {"members": []}
    logits = _member_logits(task, state, data)
    return {
        "members": [
            {**evals.classify(one, data.labels), "wrong": evals.wrong(one, data.labels).tolist()} for one in logits
        ]
    }


def _held_out(task: train.Task, state: State, data: kd_data.Dataset) -> dict[str, Any]:
    if data.labels is None:
        return {}
    metrics = [evals.classify(one, data.labels) for one in _member_logits(task, state, data)]
    names = ("accuracy", "errors", "nll")
    values = {f"eval/{name}": [m[name] for m in metrics] for name in names}
    return values if task.members is not None else {name: value[0] for name, value in values.items()}


def _member_logits(task: train.Task, state: State, data: kd_data.Dataset) -> np.ndarray:
    many = task.members is not None
    logits = predict(task.model, state.params, state.extra, data, members=many, batch_size=_EVAL_BATCH)
    return _each(logits, many)


def _with_columns(hparams: dict[str, Any], population: Mapping[str, Any]) -> dict[str, Any]:
    terms = {name: dict(numbers) for name, numbers in hparams["terms"].items()}
    rate = hparams["learning_rate"]
    for name, column in population.items():
        if name == "learning_rate":
            rate = jnp.asarray(column, jnp.float32)
        elif isinstance(column, Mapping):
            terms[name] |= {key: jnp.asarray(values, jnp.float32) for key, values in column.items()}
    return {"learning_rate": rate, "terms": terms}


def _check_inputs(teacher: Teacher, data: kd_data.Dataset) -> None:
    try:
        jax.eval_shape(lambda: _one_answer(teacher, data))
    except TypeError as error:
        raise KdError(f"the teacher cannot read inputs of shape {data.inputs.shape[1:]}: {error}") from error


def _one_answer(teacher: Teacher, data: kd_data.Dataset) -> Outputs:
    batch = kd_data.gather(kd_data.to_device(kd_data.take(data, "all[:1]")), jnp.zeros(1, jnp.int32))
    return teacher.apply(teacher.variables, batch)


def _steps(epochs: float | None, per_epoch: int) -> int | None:
    return None if epochs is None else max(round(epochs * per_epoch), 1)
