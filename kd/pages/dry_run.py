"""What a run will be, as a table: ``kd train --dry_run``."""

from __future__ import annotations

import math

import jax

from kd.config import Spec, fingerprint_of, identity
from kd.pages.tables import Table
from kd.system.memory import size
from kd.training.program import place
from kd.training.room import check_room, kept
from kd.training.task import Task


def dry_run(spec: Spec, task: Task) -> Table:
    """Length, size, memory and fingerprint of a run that was checked. Nothing is computed.

    Raises:
      KdError: what it would keep does not fit into memory.
    """
    placement = place(task)
    check_room(task, placement)
    members = task.members.size or 1
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(task.abstract_state.params))
    teacher = "" if task.teacher is None else task.teacher.fingerprint
    rows = [
        ["steps", f"{task.total_steps:,}"],
        ["examples a step", f"{task.batch_size:,}"],
        ["examples", f"{len(task.data):,}"],
        ["inputs", task.data.seen.text.removeprefix("inputs ")],
        ["members", f"{members:,}" if task.is_population else "none, a single run"],
        ["parameters of a member", f"{parameters // members:,}"],
        ["terms", ", ".join(term.name for term in task.terms)],
        ["teacher", teacher or "none"],
        *([] if task.first is None else [["first weights", task.first.text]]),
        ["kept in memory, a device", size(sum(kept(task, placement).values()))],
        ["fingerprint", _fingerprint(spec, task, teacher)],
    ]
    return Table("Checked, and not trained", ["", "this run"], rows)


def _fingerprint(spec: Spec, task: Task, teacher: str) -> str:
    init = "" if task.first is None else task.first.record.fingerprint
    who = {**identity(spec, teacher, init), "data_fingerprint": task.data.fingerprint}
    return fingerprint_of(who)
