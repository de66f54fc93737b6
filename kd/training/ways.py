"""How a device computes the members of a population: at once, one after another, or in groups."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax

from kd import data as kd_data
from kd.core import rng
from kd.core.step import Step, population
from kd.models.abstract import convolves

if TYPE_CHECKING:
    from kd.training.task import Task


def members_of(task: Task) -> Callable[[Step], Step]:
    """What makes a population's step of a member's, computed as ``mesh.members_by`` says."""
    return functools.partial(
        population,
        own_teachers=task.has_own_teachers,
        at_once=at_once(task),
        parts=task.mesh.shape["member"],
    )


def at_once(task: Task) -> int | None:
    """How many members of a population a device computes at a time: all of them is None."""
    by = _measured(task)[0] if task.members_by == "auto" else task.members_by
    if isinstance(by, str):
        return None if by == "vmap" else 1
    return by


def way_of(task: Task) -> str:
    """How a device computes the members of a population, and where auto chose it, why."""
    size = at_once(task)
    ways = {None: "at once (vmap)", 1: "one after another (loop)"}
    why = f", auto: {_measured(task)[1]}" if task.members_by == "auto" else ""
    return f"{task.members.size} members {ways.get(size, f'{size} at a time')}{why}"


_VMAP_BYTES = 8 * 2**20


def _measured(task: Task) -> tuple[str, str]:
    """The way that was measured to be the fastest, and why; docs/scaling.md says where, and the
    numbers.

    A GPU has room for all members in every operation. A CPU computes a vmap of convolutions as one
    grouped convolution, five times slower than a loop. As soon as the parameters of all members,
    their gradients and the optimiser's state outgrow its last cache, a vmap fetches them from
    memory in every step, while a loop takes one member through all steps of a dispatch; streamed
    data has one step a dispatch.
    """
    platform = task.mesh.devices.flat[0].platform
    if platform != "cpu":
        return "vmap", f"a {platform} has room for all"
    example = jax.eval_shape(lambda: kd_data.example_batch(task.data, 1))["inputs"]
    params, extra = jax.eval_shape(lambda x: task.model.init(rng.key(0), x), example)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    large = size * (task.members.size or 1) > _VMAP_BYTES * task.mesh.shape["member"]
    if large and not isinstance(task.data, kd_data.Stream):
        return "loop", "their parameters outgrow a CPU's cache"
    if convolves(functools.partial(task.model.apply, train=False), params, extra, example):
        return "loop", "a CPU computes convolutions of several kernels one by one"
    return "vmap", "small products of matrices"
