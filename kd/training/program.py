"""The one place that compiles a training step: shardings in and out, the state donated, data in
memory or streamed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from kd import data as kd_data
from kd.core.state import State
from kd.core.step import many, many_of_population
from kd.core.types import Batch, PyTree
from kd.placement.mesh import BATCH, put, replicated, sharding
from kd.placement.sharding import state_shardings, teacher_shardings
from kd.training.clock import Clock
from kd.training.task import (
    Task,
    abstract_batch,
    make_step,
    member_step,
    teacher_variables,
)
from kd.training.ways import members_of

_AHEAD = 2  # steps that the host may be ahead of the device: each holds a batch there


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where the arrays of a run live: a `NamedSharding` for every leaf."""

    mesh: Mesh
    state: State
    teacher: PyTree
    batch: NamedSharding
    """Of every array of a batch: ``[b ...]``, or ``[m b ...]`` in a population."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled run: ``advance(state, step, until) -> (state, metrics)`` takes the steps [step,
    until).

    The metrics of one call have a leading axis of at least ``until - step`` rows.
    ``until(step, stop)`` is how far one call goes. `position` is where the data stands, for the
    checkpoint, or None where that is a function of the step; `close` ends its threads; `text` is
    what was compiled.
    """

    advance: Callable[[State, int, int], tuple[State, Any]]
    until: Callable[[int, int], int] = lambda _, stop: stop
    position: Callable[[], dict[str, Any] | None] = lambda: None
    close: Callable[[], None] = lambda: None
    text: Callable[[], str | None] = lambda: None


def place(task: Task) -> Placement:
    """Where a task's arrays live on its mesh, by its rules."""
    population, mesh = task.is_population, task.mesh
    return Placement(
        mesh,
        state_shardings(task.abstract_state, task.sharding.student, mesh, population=population),
        teacher_shardings(
            task.teacher,
            jax.eval_shape(lambda: teacher_variables(task)),
            task.sharding.teacher,
            mesh,
        ),
        sharding(mesh, "member", BATCH) if population else sharding(mesh, BATCH),
    )


def lower(task: Task) -> Any:
    """The task's step on one batch, lowered for its mesh, which may be of devices that are not
    here; nothing is computed.

    ``(state, teacher_variables, batch, hparams) -> (state, metrics)``. Teacher and data may be
    shapes alone.
    """
    return _lower(task, place(task))


def _lower(task: Task, placement: Placement, length: int | None = None) -> Any:
    """`lower`, of text whose batch is `length` tokens long."""
    abstract = (
        task.abstract_state,
        jax.eval_shape(lambda: teacher_variables(task)),
        host_batch(task, length),
    )
    with jax.set_mesh(placement.mesh):
        return _jitted(_prepared(task), placement).lower(
            *abstract, jax.eval_shape(lambda: task.members.hparams)
        )


def compile_program(
    task: Task,
    placement: Placement,
    capacity: int,
    start: int,
    position: dict[str, Any] | None,
    clock: Clock | None = None,
) -> Program:
    """The program of a run whose data is in memory, `capacity` steps a dispatch, or is streamed,
    one step a dispatch.

    Streamed data stands at step `start`, or at `position` where a checkpoint saved one. `clock`
    hears when the device waits for its input.
    """
    clock = Clock() if clock is None else clock
    variables = put(teacher_variables(task), placement.teacher)
    hparams = put(task.members.hparams, replicated(placement.mesh))
    if isinstance(task.data, kd_data.Stream):
        return _streamed(task, task.data, placement, variables, hparams, start, position, clock)
    return _in_memory(task, task.data, placement, variables, hparams, capacity, clock)


def _in_memory(
    task: Task,
    data: kd_data.Dataset,
    placement: Placement,
    variables: PyTree,
    hparams: PyTree,
    capacity: int,
    clock: Clock,
) -> Program:
    everywhere = replicated(placement.mesh)
    table = kd_data.to_device(data, lambda array: put(array, everywhere))
    over_batch = sharding(placement.mesh, BATCH)

    rows_at = NamedSharding(placement.mesh, jax.sharding.PartitionSpec(None, *placement.batch.spec))
    ins = (placement.state, placement.teacher, everywhere, rows_at, everywhere, everywhere)
    seeds = task.members.seeds
    seeds = (seeds,) if isinstance(seeds, int) else seeds
    order = data.order(seeds, task.batch_size)
    rows = jax.ShapeDtypeStruct(_table(task, order, range(0), capacity).shape, np.int32)

    def compiled(length: int | None) -> Any:
        def gather(table: PyTree, rows: jax.Array) -> Batch:
            batch = kd_data.shortened(kd_data.gather(table, rows), length, bool(data.positions))
            return jax.lax.with_sharding_constraint(dict(batch), over_batch)

        run = many(member_step(task), gather, capacity)
        if task.is_population:
            run = many_of_population(run, members_of(task))
        jitted = jax.jit(
            run, in_shardings=ins, out_shardings=(placement.state, everywhere), donate_argnums=0
        )
        arguments = (task.abstract_state, variables, table, rows, np.int32(0), hparams)
        with jax.set_mesh(placement.mesh):
            return jitted.lower(*arguments).compile()

    programs = {length: compiled(length) for length in order.lengths}
    running: list[Any] = []

    def advance(state: State, step: int, until: int) -> tuple[State, Any]:
        with clock.waiting(running):
            rows = put(_table(task, order, range(step, until), capacity), rows_at)
        program = programs[order.length(step)]
        state, metrics = program(state, variables, table, rows, np.int32(until - step), hparams)
        running[:] = jax.tree.leaves(metrics)
        return state, metrics

    if len(programs) == 1:
        return Program(advance, text=_text(programs))
    # a line of metrics may end within several dispatches: the step says where the data stands
    return Program(advance, order.alike, dict, text=_text(programs))


def _streamed(
    task: Task,
    data: kd_data.Stream,
    placement: Placement,
    variables: PyTree,
    hparams: PyTree,
    start: int,
    position: dict[str, Any] | None,
    clock: Clock,
) -> Program:
    share = _share(task, placement)
    feed = kd_data.batches(
        data, task.members.seeds, task.batch_size, share, start, stop=task.total_steps
    )
    if position is not None:
        feed.set_state(position)

    def on_devices(local: Any) -> jax.Array:
        axis = int(task.is_population)
        shape = (*local.shape[:axis], task.batch_size, *local.shape[axis + 1 :])

        def part(index: Any) -> Any:
            begin, end, _ = index[axis].indices(task.batch_size)
            return local[
                (*index[:axis], slice(begin - share.start, end - share.start), *index[axis + 1 :])
            ]

        return jax.make_array_from_callback(shape, placement.batch, part)

    order = data.order((0,), task.batch_size)
    programs = {length: _lower(task, placement, length).compile() for length in order.lengths}
    running: list[Any] = []

    def advance(state: State, step: int, until: int) -> tuple[State, Any]:
        assert until == step + 1
        program = programs[order.length(step)]
        with clock.waiting(jax.tree.leaves(running)):
            batch = dict(next(feed))
        if not placement.batch.is_fully_addressable:  # else the program places it, and quicker
            batch = jax.tree.map(on_devices, batch)
        state, metrics = program(state, variables, batch, hparams)
        running.append(metrics)
        if len(running) > _AHEAD:
            jax.block_until_ready(running.pop(0))
        return state, metrics

    return Program(advance, lambda step, _: step + 1, feed.get_state, feed.close, _text(programs))


def _text(programs: Mapping[int | None, Any]) -> Callable[[], str | None]:
    """The program's text; None of several, of which none is what every step costs."""
    return next(iter(programs.values())).as_text if len(programs) == 1 else lambda: None


def _jitted(step: Callable[..., Any], placement: Placement) -> Any:
    everywhere = replicated(placement.mesh)
    ins = (placement.state, placement.teacher, placement.batch, everywhere)
    return jax.jit(
        step, in_shardings=ins, out_shardings=(placement.state, everywhere), donate_argnums=0
    )


def _prepared(task: Task) -> Callable[..., Any]:
    """The step on batches as they come from the host: images are bytes until they are on the
    device. Its metrics have a leading axis of the one step.
    """
    step = make_step(task)

    def run(state: State, variables: PyTree, batch: Batch, hparams: PyTree) -> tuple[State, Any]:
        state, metrics = step(state, variables, kd_data.as_seen(batch, task.data.unit), hparams)
        return state, jax.tree.map(lambda leaf: leaf[None], metrics)

    return run


def host_batch(task: Task, length: int | None = None) -> Batch:
    """Shapes of what the step is fed: the batch of a run, or one per member; inputs as they are
    stored, of text `length` tokens long.
    """

    def short(batch: Batch) -> Batch:
        return kd_data.shortened(batch, length, bool(task.data.positions))

    batch = dict(jax.eval_shape(short, abstract_batch(task)))
    for name in ("inputs", "teacher_inputs"):
        if name in batch:
            stored = task.data if name == "inputs" else task.data.taught
            batch[name] = jax.ShapeDtypeStruct(batch[name].shape, stored.dtype)
    if not task.is_population:
        return batch
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((task.members.size, *leaf.shape), leaf.dtype), batch
    )


def _share(task: Task, placement: Placement) -> slice:
    """The part of every batch that this process's devices need."""
    shape = tuple(size for size in (task.members.size, task.batch_size) if size is not None)
    parts = placement.batch.addressable_devices_indices_map(shape).values()
    bounds = [part[-1].indices(task.batch_size) for part in parts if part is not None]
    return slice(min(begin for begin, _, _ in bounds), max(end for _, end, _ in bounds))


def _table(task: Task, order: Any, steps: range, capacity: int) -> np.ndarray:
    """Rows of the batches of `steps`: ``[capacity b]`` or ``[capacity m b]``, zeros behind."""
    table = np.zeros((capacity, task.members.size or 1, task.batch_size), np.int32)
    for place, step in enumerate(steps):
        table[place] = order.rows(step)
    return table if task.is_population else table[:, 0]
