"""From a resolved config to a finished work directory."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from kd import data as kd_data
from kd import evals
from kd.config import Spec, fingerprint_of, identity
from kd.core.state import State
from kd.core.terms import teacher_taps
from kd.core.types import Teacher
from kd.placement.ambient import pinned
from kd.placement.mesh import check_batch, make_mesh, put
from kd.placement.sharding import teacher_shardings
from kd.processes import group
from kd.runs.build import build_task, load_teacher
from kd.runs.reading import lineage_of, verify
from kd.runs.splits import Examples, load_splits, split_fingerprints
from kd.runs.workdir import Workdir, claim, made
from kd.system.paths import local
from kd.teachers.trained import Trained, evaluation, precompute
from kd.training import loop, writers
from kd.training.program import place
from kd.training.room import check_room


@pinned()
def train_workdir(
    spec: Spec,
    path: str | pathlib.Path,
    *,
    title: str = "train",
    tensorboard: bool = False,
    despite_changes: bool = False,
) -> dict[str, Any]:
    """Train a config into a work directory, resuming what is there, and return its evaluation.

    The evaluation has one entry per member: see `evaluation`. It is also in ``evaluation.json``,
    which is written once: of a run that has arrived, what was recorded is returned. With
    `despite_changes` a teacher is used, and this run read, although code or data are not what was
    recorded; then ``despite_changes`` of the evaluation lists what is different.

    Raises:
      KdError: anything a user can mend.
      kd.processes.signals.Interrupted: asked to stop; the state was saved.
    """
    path = local(path, "a work directory")
    # before data is read, for minutes maybe
    check_batch(make_mesh(spec.mesh), spec.data.batch_size, spec.accumulate)
    data, held_out, validation = load_splits(spec)
    teacher = load_teacher(spec, data, despite_changes=despite_changes)
    task = build_task(spec, data, teacher)
    loop.check(task)
    check_room(task, place(task))
    who = "" if teacher is None else teacher.fingerprint
    splits = split_fingerprints(spec, data, held_out, validation)
    same = {"config": fingerprint_of(identity(spec, who)), "data": data.fingerprint}
    group.check_same("train the same run", {**same, "splits": fingerprint_of(splits)})
    begin = functools.partial(lineage_of, spec, data, splits, teacher)
    with contextlib.ExitStack() as held:

        def take() -> list[str]:
            # first: who does not hold it must not say whose folder this is
            held.enter_context(made(path).locked())
            workdir = claim(path, spec, data, who, begin)
            changes = verify(workdir, splits, despite_changes=despite_changes)
            return [*changes, *_changes_of_teacher(workdir)]

        changes = group.first_does("claim", take)
        workdir = Workdir(path)
        if teacher is not None and spec.teacher.precompute:
            taps = teacher_taps(spec.terms)
            kept = precompute(on_mesh(task), data, taps=taps, on_disk=True)
            task = dataclasses.replace(task, teacher=kept)
        state = _train_in(workdir, spec, task, held_out, validation, title, tensorboard)
        return _recorded(workdir, task, state, held_out, changes)


def _recorded(
    workdir: Workdir, task: loop.Task, state: State, held_out: Examples, changes: Iterable[str]
) -> dict[str, Any]:
    """The record of a run that has arrived: the one that is there, or else what it comes to.

    Either says what has changed, and the one that is there stays what it is.
    """
    recorded = group.first_does("recorded", lambda: workdir.evaluation)
    outcome = evaluation(loop.result(task, state), held_out) if recorded is None else recorded
    if despite := list(dict.fromkeys([*outcome.get("despite_changes", ()), *changes])):
        outcome = {**outcome, "despite_changes": despite}
    if recorded is not None:
        return outcome
    if state.best is not None:
        outcome["best_step"] = np.asarray(state.best.step).tolist()
    outcome["step"] = int(np.max(np.asarray(state.step)))
    group.first_does("evaluation", lambda: workdir.write("evaluation.json", outcome))
    return outcome


def _changes_of_teacher(workdir: Workdir) -> tuple[str, ...]:
    """What had changed of the run's teacher when the run began."""
    lineage = workdir.lineage
    return () if lineage is None or lineage.teacher is None else lineage.teacher.changes


def on_mesh(task: loop.Task) -> Teacher:
    """The task's teacher with its arrays on the task's mesh, where its rule puts them."""
    assert task.teacher is not None
    # all of them answer for every example
    stacked = task.teacher.stacked if task.teacher.pairs is None else 1
    plain = dataclasses.replace(task.teacher, pairs=None, stacked=stacked)
    where = teacher_shardings(plain, plain.variables, task.sharding.teacher, task.mesh)
    return dataclasses.replace(task.teacher, variables=put(task.teacher.variables, where))


def _train_in(
    workdir: Workdir,
    spec: Spec,
    task: loop.Task,
    held_out: Examples,
    validation: Examples | None,
    title: str,
    tensorboard: bool,
) -> State:
    checkpoints = workdir.checkpoints()
    cadence = _cadence(spec, len(task.data), task.total_steps)
    watch = writers.Progress if group.is_first() else writers.Silence
    with watch(title, task.total_steps, task.batch_size * (task.members.size or 1)) as progress:

        def start_writing(resumed_at: int) -> list[writers.Write]:
            if not group.is_first():
                return []
            progress.resume(resumed_at)
            progress.say(f"{title}: {task.data.seen.text}")
            if not resumed_at and workdir.has_metrics:
                progress.say(
                    f"{title}: no whole checkpoint in {workdir.path}; starting again at step 0, "
                    "and its metrics with it"
                )
            unwritten = cadence.dispatch - 1 if isinstance(task.data, kd_data.Stream) else 0
            lines = writers.jsonl(workdir.metrics, resumed_at, progress.say, unwritten)
            sinks = [lines, progress.write]
            return (
                [*sinks, writers.tensorboard(workdir.path / "tensorboard")]
                if tensorboard
                else sinks
            )

        state = loop.run(
            task,
            cadence=cadence,
            checkpoints=checkpoints,
            evaluate=lambda state: _held_out(loop.latest(task, state), held_out),
            validate=None
            if validation is None
            else lambda state: loop.latest(task, state).errors(validation),
            start_writing=start_writing,
        )
    checkpoints.close()
    return state


def _held_out(run: Trained, data: Examples) -> dict[str, Any]:
    if data.labels is None:
        return {}
    metrics = [evals.classify(one, data.labels) for one in run.each(data)]
    values = {f"eval/{name}": [m[name] for m in metrics] for name in ("accuracy", "errors", "nll")}
    return values if run.members else {name: value[0] for name, value in values.items()}


def _cadence(spec: Spec, examples: int, total: int) -> loop.Cadence:
    def steps(epochs: float | None) -> int | None:
        return None if epochs is None else kd_data.steps_of(epochs, examples, spec.data.batch_size)

    return loop.Cadence(
        min(spec.log_steps, total), steps(spec.eval_epochs), steps(spec.checkpoint_epochs)
    )
