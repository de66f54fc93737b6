"""Where a run's arrays will lie, as a table: ``kd train --show-sharding``."""

from __future__ import annotations

from typing import Any

import jax

from kd.pages.tables import Table
from kd.placement.ambient import pinned
from kd.placement.mesh import AXES
from kd.placement.sharding import leaf_bytes, path_of
from kd.placement.slices import in_slices
from kd.system.memory import size
from kd.training.program import place
from kd.training.room import kept
from kd.training.task import Task, teacher_variables
from kd.training.ways import way_of

_WORDS = {  # what a rule places
    "parameters": "of student",
    "optimiser state": "of optimiser",
    "average": "of average",
    "best so far": "of best so far",
    "teacher": "of teacher",
}


@pinned()
def layout(task: Task, slices: int | None = None) -> Table:
    """Every parameter of student and teacher: path, shape, spec, bytes a device; then the sums.

    The title says how a population is computed, and in how many `slices` the devices are, as in
    `kd.placement.mesh.MeshSpec`. Nothing is computed.
    """
    mesh, placement, state = task.mesh, place(task), task.abstract_state
    taught = jax.eval_shape(lambda: teacher_variables(task))
    rows = [
        *_rows("student", state.params, placement.state.params),
        *_rows("teacher", taught, placement.teacher),
    ]
    sums = kept(task, placement)
    rows += [(f"all {_WORDS[name]}", "", "", size(sums[name])) for name in _WORDS if name in sums]
    axes = " x ".join(f"{axis} {mesh.shape[axis]}" for axis in AXES)
    members = f"; {way_of(task)}" if task.is_population else ""
    count = len(in_slices(list(mesh.devices.flat), slices))
    within = f" in {count} slices" if count > 1 else ""
    title = f"Mesh of {mesh.size} devices{within}: {axes}{members}"
    return Table(title, ("", "shape", "split over", "a device"), rows)


def _rows(who: str, tree: Any, shardings: Any) -> list[tuple[str, str, str, str]]:
    leaves, places = jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(shardings)
    return [
        (
            f"{who} {path_of(path).removeprefix('params/')}".strip(),  # as rules name it
            str(list(leaf.shape)),
            ", ".join(_axis(axis) for axis in sharding.spec) or "whole",
            size(leaf_bytes(leaf, sharding)),
        )
        for (path, leaf), sharding in zip(leaves, places, strict=True)
    ]


def _axis(axis: Any) -> str:
    return "x".join(axis) if isinstance(axis, tuple) else str(axis)
