"""Where a run's arrays will lie, as a table: ``kd train --show-sharding``."""

from __future__ import annotations

from typing import Any

import jax

from kd.ambient import pinned
from kd.mesh import AXES, make_mesh
from kd.program import place
from kd.sharding import bytes_per_device, leaf_bytes, path_of
from kd.tables import Table
from kd.task import Task, abstract_state, teacher_variables


@pinned()
def layout(task: Task) -> Table:
    """Every parameter of student and teacher: path, shape, spec, bytes a device; then the sums.

    Nothing is computed.
    """
    mesh = make_mesh(task.mesh)
    where, state = place(task, mesh), abstract_state(task)
    taught = jax.eval_shape(lambda: teacher_variables(task))
    rows = [
        *_rows("student", state.params, where.state.params),
        *_rows("teacher", taught, where.teacher),
    ]
    rest = {"optimiser": (state.opt_state, where.state.opt_state)}
    rest |= {"average": (state.ema, where.state.ema), "best so far": (state.best, where.state.best)}
    sums = {
        "student": (state.params, where.state.params),
        **rest,
        "teacher": (taught, where.teacher),
    }
    rows += [
        (f"all of {name}", "", "", size(bytes_per_device(*pair)))
        for name, pair in sums.items()
        if pair[0]
    ]
    axes = " x ".join(f"{axis} {mesh.shape[axis]}" for axis in AXES)
    return Table(
        f"Mesh of {mesh.size} devices: {axes}", ("", "shape", "split over", "a device"), rows
    )


def _rows(who: str, tree: Any, shardings: Any) -> list[tuple[str, str, str, str]]:
    leaves, places = jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(shardings)
    return [
        (
            f"{who} {path_of(path).removeprefix('params/')}".strip(),  # as rules name it
            str(list(leaf.shape)),
            ", ".join(_axis(axis) for axis in where.spec) or "whole",
            size(leaf_bytes(leaf, where)),
        )
        for (path, leaf), where in zip(leaves, places, strict=True)
    ]


def _axis(axis: Any) -> str:
    return "x".join(axis) if isinstance(axis, tuple) else str(axis)


def size(count: float) -> str:
    """Bytes for people: ``32.8 kB``, ``1.2 GB``; powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
