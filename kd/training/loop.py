"""The loop and nothing but the loop: evaluate, checkpoint, batch, step, write."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.core.heads import exported
from kd.core.patience import has_run_out, still_counts
from kd.core.state import State, keep_best
from kd.core.types import PyTree
from kd.errors import KdError
from kd.placement.ambient import pinned
from kd.processes import group
from kd.processes.signals import Interrupted, StopSignals
from kd.teachers.trained import Trained
from kd.training.checkpoint import Checkpoints
from kd.training.diagnosis import diagnosed
from kd.training.log import Log, NotFinite
from kd.training.program import Placement, Program, compile_program, place
from kd.training.room import check_room, refusing
from kd.training.task import Task, check, initial_state
from kd.training.unchanged import check_changed, digests
from kd.training.writers import Write

__all__ = ["Cadence", "Task", "check", "initial_state", "latest", "result", "run"]


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How often, in steps: `dispatch` steps make one line of metrics; None is never.

    Data in memory goes to the device `dispatch` steps at once. Streamed data goes step by step.
    """

    dispatch: int = 50
    evaluate: int | None = None
    checkpoint: int | None = None

    def next_stop(self, step: int, total: int) -> int:
        """The next step at which a line of metrics ends, or something is due, or the run ends."""
        stops = [
            (step // every + 1) * every
            for every in (self.dispatch, self.evaluate, self.checkpoint)
            if every
        ]
        return min(*stops, total, total)

    def stops_at(self, step: int) -> bool:
        """Whether a line of metrics ends at `step` in a run of any length."""
        return self.next_stop(step - 1, step + 1) == step


@pinned()
@refusing()
def run(
    task: Task,
    *,
    cadence: Cadence = Cadence(),
    checkpoints: Checkpoints | None = None,
    evaluate: Callable[[State], Mapping[str, Any]] | None = None,
    validate: Callable[[State], Any] | None = None,
    start_writing: Callable[[int], Sequence[Write]] = lambda _: (),
) -> State:
    """Train to the end, from the newest checkpoint if there is one, and return the last state.

    In this order at every stop: evaluate, checkpoint, batch, step; metrics are fetched and written
    while the next step runs. A run that was stopped anywhere and started again ends with the same
    bytes. With `task.early_stopping`, `validate` counts the validation errors of each member, or
    what stands in their place, wherever `evaluate` is called. Of several processes each calls this
    with the same task; writers write in the first.

    Raises:
      KdError: the parts do not fit, together or in memory, the loss is not finite (the step is
        named, checkpoints of before stay), no parameter has changed in the end, a checkpoint cannot
        be written.
      Interrupted: SIGINT or SIGTERM arrived, in any of the processes; the state was saved.
    """
    check(task)
    where = place(task)
    check_room(task, where)
    state, position = initial_state(task, where.state), None
    population = task.is_population
    untrained = digests(state.params, population)
    if checkpoints is not None:
        state = checkpoints.restore(state) or state
        position = checkpoints.last_position
    step = first = int(np.max(np.asarray(state.step)))
    log = Log(
        lambda start: cadence.next_stop(start, task.total_steps),
        None if position is None else position["log"],
    )
    capacity = min(cadence.dispatch, task.total_steps)
    program = compile_program(
        task, where, capacity, step, None if position is None else position["data"]
    )
    log.writers, agreement = start_writing(first), group.Agreement()
    _check_finite(state, step)  # compiles it now, and not in the midst of the run
    try:
        with StopSignals(noting=checkpoints is not None) as stop:
            while True:
                received = agreement.agreed(step, stop.received)
                patient = _is_patient(task, cadence, state)
                ended = step >= task.total_steps or received is not None or not patient
                due = {
                    name
                    for name in ("evaluate", "checkpoint")
                    if _due(getattr(cadence, name), step, first)
                }
                if due or ended:
                    log.flush()
                    _check_finite(state, step)
                if first < step >= task.total_steps:
                    check_changed(untrained, digests(state.params, population), step)
                if "evaluate" in due or first < step >= task.total_steps:
                    if validate is not None:
                        counts = _counts(task, cadence, state)
                        state = _keep_best(state, validate(state), counts, where.state)
                    if evaluate is not None:
                        log.write(step, evaluate(state))
                    if patient and not _is_patient(task, cadence, state):
                        check_changed(untrained, digests(state.params, population), step)
                        ended = True
                if checkpoints is not None and ("checkpoint" in due or ended):
                    cut = step >= task.total_steps and not cadence.stops_at(step)
                    checkpoints.save(step, state, position=_position(program, log, cut))
                if ended:
                    break
                until = program.until(step, cadence.next_stop(step, task.total_steps))
                state, metrics = program.advance(state, step, until)
                log.flush()
                log.add(step, until, metrics)
                step = until
            if checkpoints is not None:
                checkpoints.wait()
            if received is None:  # a signal in the last step counts too
                received = agreement.agreed(step + 1, stop.received)
    except KdError as error:
        if checkpoints is not None:
            with contextlib.suppress(KdError):
                checkpoints.wait()  # what was saved before stays whole
        if isinstance(error, NotFinite) and _is_whole_here(where):
            raise diagnosed(task, error) from error
        raise
    finally:
        program.close()
    if received is not None:
        raise Interrupted(received, step)
    return state


def latest(task: Task, state: State) -> Trained:
    """The model at this step."""
    return _trained(task, state.student, state.extra, exported(state.heads))


def result(task: Task, state: State) -> Trained:
    """The model that a run has arrived at: its last state, or with early stopping its best one."""
    if state.best is None:
        return latest(task, state)
    return _trained(task, state.best.params, state.best.extra, state.best.heads or {})


def _trained(task: Task, params: PyTree, extra: PyTree, heads: Mapping[str, PyTree]) -> Trained:
    told = {"seen": task.data.seen, "class_names": task.data.class_names, "heads": heads}
    return Trained(task.model, params, extra, task.is_population, **told)


def _due(every: int | None, step: int, first: int) -> bool:
    return bool(every) and step > first and step % every == 0


def _position(program: Program, log: Log, cut: bool) -> dict[str, Any] | None:
    """Where the data stands, and the line under way; one that the end has `cut` short would go on
    in a longer run.
    """
    data = program.position()
    if cut:
        return {"data": data, "log": log.last}
    return None if data is None else {"data": data, "log": log.state}


def _keep_best(state: State, errors: Any, counts: Any, shardings: State) -> State:
    keep = jax.jit(keep_best, out_shardings=shardings)
    return keep(state, np.asarray(errors, np.float32), counts)


def _counts(task: Task, cadence: Cadence, state: State) -> np.ndarray:
    """Which members a look may still change."""
    step, best = (np.asarray(one) for one in (state.step, state.best.step))
    if task.patience is None or cadence.evaluate is None:
        return np.ones(step.shape, bool)
    return np.asarray(still_counts(step, best, cadence.evaluate, task.patience))


def _is_patient(task: Task, cadence: Cadence, state: State) -> bool:
    """Whether a member has patience left. Every process comes to the same: it is in the state."""
    if task.patience is None or cadence.evaluate is None or state.best is None:
        return True
    step, best = (np.asarray(one) for one in (state.step, state.best.step))
    return not np.all(has_run_out(step, best, cadence.evaluate, task.patience))


def _is_whole_here(where: Placement) -> bool:
    """Whether one device holds all parameters, so that it can compute by itself."""
    leaves = jax.tree.leaves(where.state.params)
    return group.count() == 1 and all(leaf.is_fully_replicated for leaf in leaves)


@functools.partial(jax.jit, static_argnames="population")
def _first_not_finite(params: Any, population: bool) -> jax.Array:
    """The first member whose parameters are not all finite, 0 of a single run; -1 if there is
    none.
    """

    def finite(leaf: jax.Array) -> jax.Array:
        return jnp.isfinite(leaf).all(axis=tuple(range(int(population), leaf.ndim)))

    each = jnp.stack([finite(leaf) for leaf in jax.tree.leaves(params)]).all(axis=0)
    return jnp.where(each.all(), -1, jnp.argmin(each))


def _check_finite(state: State, step: int) -> None:
    """A step whose loss was finite can still end in parameters that are not; they must not be
    saved.
    """
    population = state.step.ndim > 0
    first = int(_first_not_finite(state.params, population))
    if first >= 0:
        raise NotFinite("parameters", step, first if population else None)
