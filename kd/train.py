"""The loop and nothing but the loop: evaluate, checkpoint, batch, step, write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd import data as kd_data
from kd.checkpoint import Checkpoints
from kd.errors import KdError
from kd.mesh import check_batch, compile_many, make_mesh, replicated
from kd.objective import Term, check_widths, make_objective
from kd.schedules import Schedule, make_schedule
from kd.signals import Interrupted, StopSignals
from kd.state import State, init_state, keep_best, with_best
from kd.step import Constraint, View, make_train_step, many, population
from kd.teacher import unpaired_answer
from kd.trained import Trained
from kd.types import Hparams, Model, Teacher
from kd.writers import Write


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that a run is made of, ready to compile.

    `seeds` is one seed for a single run, or a sequence with one per member of a population; then every leaf of
    `hparams` has a leading member axis too. `init_seeds` draw the first weights, where that is not the part of
    `seeds`: members that share a seed and differ in it differ in nothing else.
    """

    model: Model
    data: kd_data.Dataset
    terms: Sequence[Term]
    optimizer: optax.GradientTransformation
    total_steps: int
    batch_size: int
    seeds: int | Sequence[int]
    hparams: Hparams
    teacher: Teacher | None = None
    view: View | None = None
    constraint: Constraint | None = None
    learning_rate_schedule: Schedule = Schedule()
    early_stopping: bool = False
    init_seeds: Sequence[int] | None = None

    @property
    def members(self) -> int | None:
        """Size of the population; None for a single run."""
        return None if isinstance(self.seeds, int) else len(self.seeds)


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How often, in steps: `dispatch` steps go to the device at once and make one line of metrics; None is never."""

    dispatch: int = 50
    evaluate: int | None = None
    checkpoint: int | None = None

    def next_stop(self, step: int, total: int) -> int:
        """The next step at which the loop must look up: the dispatch ends, or something is due, or the run ends."""
        stops = [(step // every + 1) * every for every in (self.dispatch, self.evaluate, self.checkpoint) if every]
        return min(*stops, total, total)


def initial_state(task: Task) -> State:
    """The state before the first step; a population's members start as runs of their own would."""
    example = jnp.asarray(task.data.first)

    def one(seeds: tuple[jax.Array, jax.Array]) -> State:
        state = init_state(task.model, task.optimizer, seeds[0], example, seeds[1])
        return with_best(state) if task.early_stopping else state

    def each(seeds: tuple[jax.Array, jax.Array]) -> State:
        return jax.lax.map(one, seeds)  # one after another: random numbers compile several times faster than in vmap

    init_seeds = task.seeds if task.init_seeds is None else task.init_seeds
    seeds = jnp.asarray(task.seeds, jnp.uint32), jnp.asarray(init_seeds, jnp.uint32)
    return jax.jit(one if task.members is None else each)(seeds)


def check(task: Task, devices: int | None = None) -> None:
    """Raise a `KdError` if student, teacher, data, terms and devices do not fit, before anything is compiled."""
    kd_data.steps_per_epoch(len(task.data), task.batch_size)
    check_batch(make_mesh(devices), task.batch_size)
    make_objective(task.terms, task.total_steps)
    make_schedule(task.learning_rate_schedule, task.total_steps)
    rows = jax.ShapeDtypeStruct((task.batch_size,), jnp.int32)
    table = jax.eval_shape(lambda: kd_data.to_device(task.data))
    batch = jax.eval_shape(kd_data.gather, table, rows)
    if task.view is not None:
        batch = jax.eval_shape(task.view, jax.random.key(0), batch)
    params, extra = jax.eval_shape(task.model.init, jax.random.key(0), batch["inputs"])
    student = jax.eval_shape(lambda p, e, x: task.model.apply(p, e, x)[0], params, extra, batch["inputs"])
    teacher = None
    if task.teacher is not None:
        if task.teacher.answers_for not in ("", task.data.fingerprint):
            raise KdError("the teacher's logits were precomputed for another data set; kd.precompute it for this one")
        _check_pairs(task.teacher.pairs, task.members, jax.tree.leaves(task.teacher.variables))
        teacher = jax.eval_shape(unpaired_answer(task.teacher), task.teacher.variables, batch).width
    check_widths(student.width, teacher, task.terms, task.data.labels is not None)
    if student.width < task.data.num_classes:
        raise KdError(f"the student answers with {student.width} classes and the data has {task.data.num_classes}")


def run(
    task: Task,
    *,
    cadence: Cadence = Cadence(),
    devices: int | None = None,
    checkpoints: Checkpoints | None = None,
    evaluate: Callable[[State], Mapping[str, Any]] | None = None,
    validate: Callable[[State], Any] | None = None,
    start_writing: Callable[[int], Sequence[Write]] = lambda _: (),
) -> State:
    """Train to the end, from the newest checkpoint if there is one, and return the last state.

    In this order at every stop: evaluate, checkpoint, batch, step; the metrics of a dispatch are fetched and written
    while the next one runs. A run that was stopped anywhere and started again ends with the same bytes. With
    `task.early_stopping`, `validate` counts the validation errors of each member wherever `evaluate` is called.

    Raises:
      KdError: the parts do not fit, the loss is not finite (the step is named, the last good checkpoint stays), a
        checkpoint cannot be written.
      Interrupted: SIGINT or SIGTERM arrived; the state was saved.
    """
    check(task, devices)
    mesh = make_mesh(devices)
    state = jax.device_put(initial_state(task), replicated(mesh))
    if checkpoints is not None:
        state = checkpoints.restore(state) or state
    step = first = int(np.max(state.step))
    program, arguments = _compile(task, mesh, cadence, state)
    writers, pending = start_writing(first), None
    with StopSignals(noting=checkpoints is not None) as stop:
        while True:
            ended = step >= task.total_steps or stop.received is not None
            due = {name for name in ("evaluate", "checkpoint") if _due(getattr(cadence, name), step, first)}
            if due or ended:
                pending = _flush(pending, writers)
                _check_finite(state, step)
            if "evaluate" in due or first < step >= task.total_steps:
                if validate is not None:
                    state = keep_best(state, validate(state))
                if evaluate is not None:
                    _write(writers, step, evaluate(state))
            if checkpoints is not None and ("checkpoint" in due or ended):
                checkpoints.save(step, state)
            if ended:
                break
            until = cadence.next_stop(step, task.total_steps)
            rows = jax.device_put(_rows(task, step, until, cadence.dispatch), arguments.rows)
            state, metrics = program(
                state, arguments.teacher, arguments.table, rows, np.int32(until - step), arguments.hparams
            )
            _flush(pending, writers)
            pending, step = (step, until, metrics), until
    if stop.received is not None:
        raise Interrupted(stop.received, step)
    return state


@dataclasses.dataclass(frozen=True)
class _Arguments:
    teacher: Any
    table: Any
    hparams: Any
    rows: Any  # the sharding of rows


def _compile(task: Task, mesh: Any, cadence: Cadence, state: State) -> tuple[Any, _Arguments]:
    step = make_train_step(
        task.model,
        task.teacher,
        make_objective(task.terms, task.total_steps),
        task.optimizer,
        view=task.view,
        constraint=task.constraint,
        learning_rate_shape=make_schedule(task.learning_rate_schedule, task.total_steps),
    )
    gather = kd_data.gather
    if task.members is not None:
        own = task.teacher is not None and task.teacher.pairs is not None
        step, gather = population(step, own_teachers=own), jax.vmap(kd_data.gather, in_axes=(None, 0))
    everywhere = replicated(mesh)
    table = kd_data.to_device(task.data, lambda array: jax.device_put(array, everywhere))
    variables = None if task.teacher is None else jax.device_put(_teacher_variables(task.teacher), everywhere)
    hparams = jax.device_put(dict(task.hparams), everywhere)
    rows = _rows(task, 0, 0, cadence.dispatch)
    examples = (state, variables, table, rows, np.int32(0), hparams)
    program = compile_many(many(step, gather, cadence.dispatch), mesh, examples, rows.ndim)
    return program, _Arguments(variables, table, hparams, program.input_shardings[0][3])


def _teacher_variables(teacher: Teacher) -> Any:
    """What the step is given: one teacher's arrays, or with `pairs` those of each member's own teacher."""
    if teacher.pairs is None:
        return teacher.variables
    return jax.tree.map(lambda leaf: leaf[np.asarray(teacher.pairs)], teacher.variables)


def _check_pairs(pairs: tuple[int, ...] | None, members: int | None, leaves: Sequence[Any]) -> None:
    if pairs is None:
        return
    if len(pairs) != members:
        raise KdError(f"{len(pairs)} teachers are paired with {members or 1} students; give one teacher per member")
    for pair in pairs:
        if not 0 <= pair < len(leaves[0]):
            raise KdError(f"a student is paired with teacher {pair} and there are {len(leaves[0])}, from 0")


def _rows(task: Task, step: int, until: int, capacity: int) -> np.ndarray:
    """Rows of the batches of steps [step, until), shape ``[capacity b]`` or ``[capacity m b]``; the rest is unused."""
    seeds = [task.seeds] if isinstance(task.seeds, int) else task.seeds
    table = np.zeros((capacity, len(seeds), task.batch_size), np.int32)
    for i in range(until - step):
        for member, seed in enumerate(seeds):
            table[i, member] = kd_data.rows(seed, step + i, len(task.data), task.batch_size)
    return table if task.members is not None else table[:, 0]


def latest(task: Task, state: State) -> Trained:
    """The model at this step."""
    return Trained(task.model, state.params, state.extra, task.members is not None)


def result(task: Task, state: State) -> Trained:
    """The model that a run has arrived at: its last state, or with early stopping its best one."""
    kept = state if state.best is None else state.best
    return Trained(task.model, kept.params, kept.extra, task.members is not None)


def _due(every: int | None, step: int, first: int) -> bool:
    return bool(every) and step > first and step % every == 0


def _flush(pending: tuple[int, int, Any] | None, writers: Sequence[Write]) -> None:
    """Fetch the metrics of a finished dispatch, check that the loss is finite, and write their mean."""
    if pending is None:
        return
    start, until, metrics = pending
    metrics = jax.tree.map(lambda leaf: np.asarray(leaf)[: until - start], metrics)
    bad = np.argwhere(~np.isfinite(metrics["loss"].total))
    if len(bad):
        member = f" of member {bad[0][1]}" if bad.shape[1] > 1 else ""
        raise _diverged(f"the loss{member} is", start + int(bad[0][0]))
    totals = {name: (mean.total.sum(axis=0), mean.count.sum(axis=0)) for name, mean in metrics.items()}
    _write(writers, until, {name: total / np.maximum(count, 1e-30) for name, (total, count) in totals.items()})


def _check_finite(state: State, step: int) -> None:
    """A step whose loss was finite can still end in parameters that are not; they must not be saved."""
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(state.params)):
        raise _diverged("the parameters are", step)


def _diverged(what: str, step: int) -> KdError:
    return KdError(
        f"{what} not finite at step {step}; the last good checkpoint stays: lower optim.learning_rate, or look at the "
        "examples of that step"
    )


def _write(writers: Sequence[Write], step: int, values: Mapping[str, Any]) -> None:
    for write in writers:
        write(step, values)
