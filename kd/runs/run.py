"""From a resolved config to a finished work directory."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kd import data as kd_data
from kd import evals
from kd.config import Spec, fingerprint_of, identity
from kd.core.manifest import Manifest
from kd.core.state import State
from kd.core.terms import teacher_taps
from kd.core.types import Teacher
from kd.data.examples import Examples, judged_as
from kd.errors import KdError
from kd.lineage import Lineage
from kd.placement.ambient import pinned
from kd.placement.compiled import keeping_compiled
from kd.placement.mesh import check_batch, make_mesh, put
from kd.placement.sharding import teacher_shardings
from kd.processes import group
from kd.runs.build import build_task
from kd.runs.copies import copies_of
from kd.runs.first import load_init
from kd.runs.longer import cadence_of, lengthen
from kd.runs.looks import Looks
from kd.runs.reading import lineage_of, verify
from kd.runs.splits import load_splits, split_fingerprints, watched
from kd.runs.teachers import load_teacher
from kd.runs.workdir import Workdir, claim, made, owner_of
from kd.system.paths import anywhere
from kd.teachers.function import complete, is_unasked
from kd.teachers.mixture import Mixture, is_live
from kd.teachers.trained import Trained, evaluation, precompute
from kd.teachers.viewed import said
from kd.training import loop, writers
from kd.training.profile import Profile
from kd.training.program import place
from kd.training.room import check_room
from kd.training.timing import AtPeak

Gate = Callable[[Lineage, Mapping[str, Any] | None], Mapping[str, Any] | None]
"""What a run of this lineage owes, to be recorded beside it, or None; it is told what the same run
recorded before, and raises a `KdError` where the run may not begin.
"""
_LICENCES = "licences.json"
_ANSWERS = "answers.json"  # what is known of the answers of a function
_SHOWN = ("accuracy", "errors", "nll")  # of classes, beside the losses


def train_workdir(
    spec: Spec,
    path: str | pathlib.Path,
    *,
    title: str = "train",
    sinks: Sequence[str] = (),
    profile: Profile | None = None,
    at_peak: AtPeak | None = None,
    begun: float | None = None,
    despite_changes: bool = False,
    gate: Gate | None = None,
) -> dict[str, Any]:
    """Train a config into a work directory, resuming what is there, and return its evaluation.

    The evaluation has one entry per member: see `evaluation`. It is also in ``evaluation.json``,
    which is written once: of a run that has arrived, what was recorded is returned. `sinks` hear of
    the metrics too: see `kd.training.sinks`; `profile` are steps to trace, and `at_peak` makes MFU
    of the time of a step, and `begun` is when its time began (``time.perf_counter()``). `gate` is
    asked before the first step whether the run may learn from what it learns from:
    `kd.provenance.LicenceGate`, which ``kd train`` asks. With
    `despite_changes` a teacher is used, and this run read, although code or data are not what was
    recorded; then ``despite_changes`` of the evaluation lists what is different.

    Raises:
      KdError: anything a user can mend.
      kd.processes.signals.Interrupted: asked to stop; the state was saved.
    """
    path = anywhere(path, "a work directory")
    with pinned(), keeping_compiled(spec.keep_compiled):
        looks = Looks(path, title, sinks, profile, at_peak, begun)
        return _train_spec(spec, path, title, looks, despite_changes, gate)


def _train_spec(
    spec: Spec,
    path: pathlib.Path,
    title: str,
    looks: Looks,
    despite_changes: bool,
    gate: Gate | None,
) -> dict[str, Any]:
    # before data is read, for minutes maybe
    check_batch(make_mesh(spec.mesh), spec.data.batch_size, spec.accumulate)
    data, held_out, validation = load_splits(spec)
    teacher = load_teacher(spec, data, despite_changes=despite_changes)
    init = load_init(spec, despite_changes=despite_changes)
    task = build_task(spec, data, teacher, init=init)
    loop.check(task)
    looks.check(task)
    check_room(task, place(task))
    who = "" if teacher is None else teacher.fingerprint
    splits = split_fingerprints(spec, data, held_out, validation)
    begun = "" if init is None else init.fingerprint
    same = {"config": fingerprint_of(identity(spec, who, begun)), "data": data.fingerprint}
    group.check_same("train the same run", {**same, "splits": fingerprint_of(splits)})
    begin = functools.partial(lineage_of, spec, splits, task)
    with contextlib.ExitStack() as held:

        def take() -> list[str]:
            # first: who does not hold it must not say whose folder this is
            held.enter_context(made(path).locked())
            owes = None if gate is None else gate(begin(), Workdir(path).read(_LICENCES))
            workdir = claim(path, spec, data, who, begin, begun)
            if owes is not None:
                workdir.write(_LICENCES, owes)
            changes = verify(workdir, splits, despite_changes=despite_changes)
            lengthen(workdir, owner_of(spec, data, who, begun), spec, len(data))
            return [*changes, *_changes_of_weights(workdir)]

        changes = group.first_does("claim", take)
        workdir = Workdir(path)
        if task.teacher is not None and is_unasked(task.teacher):
            task, told = _asked(workdir, task, title, despite_changes)
            changes = [*changes, *told]
        if task.teacher is not None and spec.teacher.precompute and is_live(task.teacher):
            taps, asked = teacher_taps(spec.terms), on_mesh(task, task.teacher)
            views = task.view if isinstance(task.view, kd_data.FixedViews) else None
            told = {"taps": taps, "views": views, "kept_as": spec.teacher.kept_as}
            taught = precompute(asked, data, on_disk=True, **told)
            task = dataclasses.replace(task, teacher=taught)
        held.callback(looks.close)
        state = _train_in(workdir, spec, task, held_out, validation, title, looks)
        with looks.clock.doing("evaluate"):
            return _recorded(workdir, task, state, held_out, changes)


def _asked(
    workdir: Workdir, task: loop.Task, title: str, despite_changes: bool
) -> tuple[loop.Task, list[str]]:
    """The task with the answers of the functions that teach, and what of them is not what was
    recorded.

    Raises:
      KdError: other answers than those of the same run before, and `despite_changes` is off.
    """
    teacher = task.teacher
    assert teacher is not None
    watch = writers.Progress if group.is_first() else writers.Silence
    with watch(f"{title}: the teacher answers", len(task.data), 1) as progress:
        taught = complete(teacher, lambda done: progress.write(done, {}))
    task = dataclasses.replace(task, teacher=taught)
    loop.check(task)  # what only the answers themselves tell
    assert taught.manifest is not None  # it is a table now
    manifest = taught.manifest
    group.check_same("have the same teacher", {"its answers": manifest.digest})
    changed = group.first_does("answers", lambda: _changed_answers(workdir, manifest))
    if changed and not despite_changes:
        raise KdError(
            f"{workdir.path} was trained on other answers: {changed[0]}; restore what its function "
            "reads, or add --despite_changes (in Python despite_changes=True)"
        )
    return task, changed


def _changed_answers(workdir: Workdir, manifest: Manifest) -> list[str]:
    """How a function's answers differ from those that the run began with, which are noted."""
    noted = workdir.read(_ANSWERS)
    if noted is None:
        workdir.write(_ANSWERS, {"manifest": dataclasses.asdict(manifest)})
        return []
    was, now = str((noted.get("manifest") or {}).get("digest")), manifest.digest
    same = "the teacher's answers have changed since"
    return [] if was == now else [f"{same} (was {was[:8]}.., now {now[:8]}..)"]


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


def _changes_of_weights(workdir: Workdir) -> list[str]:
    """What had changed of the run's teacher and of its first weights when the run began."""
    lineage = workdir.lineage
    if lineage is None:
        return []
    weights = [*lineage.taught_by, *filter(None, [lineage.init])]
    return [change for source in weights for change in source.changes]


def on_mesh(task: loop.Task, teacher: Teacher) -> Teacher:
    """The task's teacher with its arrays on the task's mesh, where its rule puts them."""
    if isinstance(teacher, Mixture):
        return teacher.of([on_mesh(task, part) for part in teacher.parts])
    # all of them answer for every example
    stacked = teacher.stacked if teacher.pairs is None else 1
    plain = dataclasses.replace(teacher, pairs=None, stacked=stacked)
    layout = teacher_shardings(plain, plain.variables, task.sharding.teacher, task.mesh)
    return dataclasses.replace(teacher, variables=put(teacher.variables, layout))


def _train_in(
    workdir: Workdir,
    spec: Spec,
    task: loop.Task,
    held_out: Examples,
    validation: Examples | None,
    title: str,
    looks: Looks,
) -> State:
    checkpoints, copies = workdir.checkpoints(), copies_of(workdir, spec)
    cadence = cadence_of(spec, len(task.data))
    watch = writers.Progress if group.is_first() else writers.Silence
    with watch(title, task.total_steps, task.batch_size * (task.members.size or 1)) as progress:

        def start_writing(resumed_at: int) -> list[writers.Write]:
            if not group.is_first():
                return []
            progress.resume(resumed_at)
            progress.say(f"{title}: {task.data.seen.text}")
            if held_out.labels is None:
                progress.say(
                    f"{title}: split '{spec.data.eval}' has no labels, so nothing is measured on it"
                )
            for line in _said_at(resumed_at, workdir, task):
                progress.say(f"{title}: {line}")
            in_a_line = task.takes_parts or resumed_at in _before(workdir)
            unwritten = cadence.dispatch - 1 if in_a_line else 0
            lines = writers.jsonl(workdir.metrics, resumed_at, progress.say, unwritten)
            # the times first: writing is no part of the steps of this line
            return [*looks.writers(workdir, spec, task, resumed_at), lines, progress.write]

        state = loop.run(
            task,
            cadence=cadence,
            checkpoints=checkpoints,
            copies=copies,
            evaluate=lambda state: _held_out(loop.latest(task, state), held_out),
            validate=None
            if validation is None
            else lambda state: loop.latest(task, state).badness(
                validation, watched(spec, validation)
            ),
            start_writing=start_writing,
            watching=looks.watching(workdir, task, progress.say),
        )
        stopped = int(np.max(np.asarray(state.step)))
        if stopped < task.total_steps:
            progress.say(
                f"{title}: stopped at step {stopped}, {spec.patience} looks after the best one"
            )
    checkpoints.close()
    if copies is not None:
        copies.remove()
    return state


def _said_at(resumed_at: int, workdir: Workdir, task: loop.Task) -> list[str]:
    """What a run says as it begins, or goes on, at a step."""
    if resumed_at and resumed_at in _before(workdir):
        return [
            f"it was {resumed_at:,} steps long and is made {task.total_steps:,}; the record of the "
            f"shorter run is kept as evaluation-{resumed_at}.json"
        ]
    if resumed_at:
        return []
    lines = [] if task.first is None else [task.first.text]
    if task.data.tokens is not None and task.data.tokens.cut:
        lines.append(
            f"{task.data.tokens.cut:,} texts are longer than {task.data.first.shape[1]} tokens "
            "(config.data.text.length), and their ends are cut off"
        )
    if task.teacher is not None and (kept := said(task.teacher)):
        lines.append(kept)
    if workdir.has_metrics:
        lines.append(
            f"no whole checkpoint in {workdir.path}; starting again at step 0, and its metrics "
            "with it"
        )
    return lines


def _held_out(run: Trained, data: Examples) -> dict[str, Any]:
    if data.labels is None:
        return {}
    rows, targets = data.has_label, judged_as(data)
    labels = data.labels[rows]
    metrics = [evals.measured(answers[rows], labels, targets) for answers in run.judged(data)]
    names = _SHOWN if targets == "classes" else evals.metrics_of(targets, data.num_classes)
    values = {
        f"eval/{name}": [m[name] for m in metrics]
        for name in names
        if all(m[name] is not None for m in metrics)
    }
    return values if run.members else {name: value[0] for name, value in values.items()}


def _before(workdir: Workdir) -> list[int]:
    """The steps at which this run ended, when it was a shorter one."""
    lineage = workdir.lineage
    return [] if lineage is None else [shorter.steps for shorter in lineage.before]
