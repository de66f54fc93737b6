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
from kd.processes.preemption import heeded
from kd.processes.signals import Interrupted, StopSignals
from kd.system import words
from kd.teachers.trained import Trained
from kd.training.checkpoint import Checkpoints
from kd.training.clock import STEPS
from kd.training.diagnosis import diagnosed
from kd.training.local_copies import Copies, restored
from kd.training.log import Log, NotFinite
from kd.training.program import Placement, Program, compile_program, place
from kd.training.room import check_room, refusing
from kd.training.task import Task, check, initial_state
from kd.training.unchanged import check_changed, digests
from kd.training.watching import Watching
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
    copies: Copies | None = None,
    evaluate: Callable[[State], Mapping[str, Any]] | None = None,
    validate: Callable[[State], Any] | None = None,
    start_writing: Callable[[int], Sequence[Write]] = lambda _: (),
    watching: Watching | None = None,
) -> State:
    """Train to the end, from the newest checkpoint or copy if there is one, and return the last
    state.

    In this order at every stop: evaluate, checkpoint, batch, step; metrics are fetched and written
    while the next step runs. A run that was stopped anywhere and started again ends with the same
    bytes. With `task.early_stopping`, `validate` counts the validation errors of each member, or
    what stands in their place, wherever `evaluate` is called. Of several processes each calls this
    with the same task; writers write in the first. `watching` hears where the time goes, and may
    take a dispatch in parts, which changes no byte.

    Raises:
      KdError: the parts do not fit, together or in memory, the loss is not finite (the step is
        named, checkpoints of before stay), no parameter has changed in the end, a checkpoint cannot
        be written.
      Interrupted: SIGINT, SIGTERM or a notice of preemption arrived, in any of the processes; the
        state was saved.
    """
    watching = Watching() if watching is None else watching
    training = _Training(task, cadence, checkpoints, copies, evaluate, validate, watching)
    training.log.writers, agreement = start_writing(training.first), group.Agreement()
    training.begin()
    try:
        noting = checkpoints is not None
        with StopSignals(noting, words.say) as stop, heeded(stop), watching.clock.doing(STEPS):
            received = training.run(lambda step: agreement.agreed(step, stop.received))
    except KdError as error:
        if checkpoints is not None:
            with contextlib.suppress(KdError):
                checkpoints.wait()  # what was saved before stays whole
        if isinstance(error, NotFinite) and _is_whole_here(training.placement):
            raise diagnosed(task, error) from error
        raise
    finally:
        watching.parts.close()
        training.program.close()
    if received is not None:
        raise Interrupted(received, training.step)
    return training.state


class _Training:
    """A run under way: its state after `step` steps, and what is done there."""

    def __init__(
        self,
        task: Task,
        cadence: Cadence,
        checkpoints: Checkpoints | None,
        copies: Copies | None,
        evaluate: Callable[[State], Mapping[str, Any]] | None,
        validate: Callable[[State], Any] | None,
        watching: Watching,
    ) -> None:
        check(task)
        self.task, self.cadence, self.checkpoints, self.copies = task, cadence, checkpoints, copies
        self.evaluate, self.validate = evaluate, validate
        self.clock, self.parts = watching.clock, watching.parts
        self.placement = place(task)
        check_room(task, self.placement)
        self.state = initial_state(task, self.placement.state)
        self.untrained = digests(self.state.params, task.is_population)
        with self.clock.doing("restore"):
            saved = self._restore()
        self.step = self.first = int(np.max(np.asarray(self.state.step)))
        if self.copies is not None:
            self.copies.begin(self.step)
        self.log = Log(self._line_end, saved.get("log"))
        capacity = min(cadence.dispatch, task.total_steps)
        with self.clock.doing("compile"):
            self.program = compile_program(
                task, self.placement, capacity, self.step, saved.get("data"), self.clock
            )
        watching.compiled(self.program.text)

    def _restore(self) -> Mapping[str, Any]:
        """Go on from the newest state; where its data and its line of metrics stand."""
        if self.checkpoints is None:
            return {}
        saved = restored(self.checkpoints, self.copies, self.state)
        self.state = saved.state
        return saved.position

    def begin(self) -> None:
        """Before the first step: a check is compiled now, and not in the midst of the run."""
        with self.clock.doing("compile"):
            self.check_finite()
        self.parts.at(self.step, self.state)

    def run(self, agreed: Callable[[int], int | None]) -> int | None:
        """Train to the end, or to the signal for which all stop, which is returned.

        `agreed(step)` is the signal that the processes have agreed on at a step.
        """
        received = agreed(self.step)
        while not self._stop(received):
            self._advance()
            received = agreed(self.step)
        if self.checkpoints is not None:
            with self.clock.doing("save"):
                self.checkpoints.wait()
        if received is None:  # a signal in the last step counts too
            received = agreed(self.step + 1)
        return received

    def _stop(self, received: int | None) -> bool:
        """Do what is due at this step. Whether the run ends here."""
        patient, complete = self._is_patient(), self.step >= self.task.total_steps
        ended = complete or received is not None or not patient
        evaluating, saving = self._due(self.cadence.evaluate), self._due(self.cadence.checkpoint)
        copying = self.copies is not None and self.copies.due(self.step)
        if evaluating or saving or copying or ended:
            self.log.flush()
            self.check_finite()
        completed = complete and self.step > self.first
        if completed:
            self._check_changed()
        if evaluating or completed:
            self._look()
            if patient and not self._is_patient():
                self._check_changed()
                ended = True
        if saving or ended:
            self._save(cut=complete and not self.cadence.stops_at(self.step))
        elif copying:
            self._copy()
        return ended

    def _advance(self) -> None:
        """One dispatch, or its parts. The metrics of the one before are written while it runs."""
        for until in self.parts.of(
            self.step, self.program.until(self.step, self._line_end(self.step))
        ):
            with jax.profiler.StepTraceAnnotation("train", step_num=self.step):
                self.state, metrics = self.program.advance(self.state, self.step, until)
            self.clock.mark(until, jax.tree.leaves(metrics))
            self.log.flush()
            self.log.add(self.step, until, metrics)
            self.step = until
            self.parts.at(self.step, self.state)

    def _look(self) -> None:
        """Judge the members on the validation split, and write what the evaluation says."""
        with self.clock.doing("evaluate"):
            self._judge()

    def _judge(self) -> None:
        if self.validate is not None:
            counting, badness = self._counting(), self.validate(self.state)
            self.state = _keep_best(self.state, badness, counting, self.placement.state)
        if self.evaluate is not None:
            self.log.write(self.step, self.evaluate(self.state))

    def _save(self, cut: bool) -> None:
        if self.checkpoints is not None:
            with self.clock.doing("save"):
                position = _position(self.program, self.log, cut)
                self.checkpoints.save(self.step, self.state, position=position)
        if self.copies is not None:
            self.copies.begin(self.step)

    def _copy(self) -> None:
        if self.copies is None:
            return
        with self.clock.doing("save"):
            position = _position(self.program, self.log, cut=False)
            self.copies.save(self.step, self.state, position=position)

    def check_finite(self) -> None:
        """A step whose loss was finite can still end in parameters that are not; they must not be
        saved.
        """
        member = int(_first_not_finite(self.state.params, self.task.is_population))
        if member >= 0:
            raise NotFinite("parameters", self.step, member if self.task.is_population else None)

    def _check_changed(self) -> None:
        trained = digests(self.state.params, self.task.is_population)
        check_changed(self.untrained, trained, self.step)

    def _due(self, every: int | None) -> bool:
        return bool(every) and self.step > self.first and self.step % every == 0

    def _is_patient(self) -> bool:
        """Whether a member has patience left; every process reads the same in its state."""
        every, patience = self.cadence.evaluate, self.task.patience
        if patience is None or every is None or self.state.best is None:
            return True
        step, best = np.asarray(self.state.step), np.asarray(self.state.best.step)
        return not np.all(has_run_out(step, best, every, patience))

    def _counting(self) -> np.ndarray:
        """Which members a look may still change."""
        every, patience = self.cadence.evaluate, self.task.patience
        step, best = np.asarray(self.state.step), np.asarray(self.state.best.step)
        if patience is None or every is None:
            return np.ones(step.shape, bool)
        return np.asarray(still_counts(step, best, every, patience))

    def _line_end(self, step: int) -> int:
        return self.cadence.next_stop(step, self.task.total_steps)


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


def _position(program: Program, log: Log, cut: bool) -> dict[str, Any] | None:
    """Where the data stands, and the line under way; one that the end has `cut` short would go on
    in a longer run.
    """
    data = program.position()
    if cut:
        return {"data": data, "log": log.last}
    return None if data is None else {"data": data, "log": log.state}


def _keep_best(state: State, badness: Any, counting: Any, shardings: State) -> State:
    keep = jax.jit(keep_best, out_shardings=shardings)
    return keep(state, np.asarray(badness, np.float32), counting)


def _is_whole_here(placement: Placement) -> bool:
    """Whether one device holds all parameters, so that it can compute by itself."""
    leaves = jax.tree.leaves(placement.state.params)
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
