"""The cases of kd: one student, a population, the bare scan, the training loop, a batch in
parts.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import host, vit_kd
from bench import problem as p
from bench.problem import Problem
from bench.worker import Case, Reply, serve, timed
from kd import data as kd_data
from kd.core.members import make_members
from kd.core.optim import Optim, make_optimizer
from kd.core.state import State
from kd.core.step import many, many_of_population
from kd.core.terms import term
from kd.models.mlp import mlp
from kd.teachers import make as teacher
from kd.training import loop, writers
from kd.training.checkpoint import Checkpoints
from kd.training.task import make_step, make_task, member_step
from kd.training.ways import members_of

DISPATCH = 50  # steps that the training loop sends to the device at once
LOOP_EPOCHS = 3  # that the training loop is timed over

_compiled: list[tuple[float, str]] = []  # when, and what


def _listen(event: str, duration_secs: float, **about: Any) -> None:
    del duration_secs
    if event.endswith("backend_compile_duration"):
        _compiled.append((time.perf_counter(), about["fun_name"]))


jax.monitoring.register_event_duration_secs_listener(_listen)


@functools.cache
def _data(problem: Problem) -> tuple[kd_data.Dataset, dict[str, jax.Array], teacher.Teacher]:
    images, labels, logits = problem.data()
    data = kd_data.arrays(images, labels, num_classes=p.WIDTHS[-1], scale=p.SCALE)
    return data, kd_data.to_device(data), teacher.precomputed(logits)


def _task(problem: Problem, batch: int, total_steps: int, **columns: Sequence[int]) -> loop.Task:
    data, _, cached = _data(problem)
    terms = [term("soft_targets", temperature=p.TEMPERATURE), term("hard", p.HARD_WEIGHT)]
    return make_task(
        mlp(p.WIDTHS[-1], p.WIDTHS[1:-1]),
        data,
        terms,
        make_members(terms, columns, p.LEARNING_RATE),
        optimizer=make_optimizer(Optim(momentum=p.MOMENTUM)),
        steps=total_steps,
        batch_size=batch,
        teacher=cached,
    )


def student(problem: Problem, batch: int) -> Case:
    """`many` steps in one dispatch."""
    task = _task(problem, batch, problem.steps)
    return _many(problem, task, many(make_step(task), kd_data.gather, problem.steps), batch)


def population(problem: Problem, batch: int) -> Case:
    """The same for `MEMBERS` students, each with batches of its own."""
    task = _task(problem, batch, problem.steps, seed=range(p.MEMBERS))
    run = many(member_step(task), kd_data.gather, problem.steps)
    return _many(problem, task, many_of_population(run, members_of(task)), p.MEMBERS, batch)


def scan(problem: Problem, batch: int) -> Case:
    """The bare scan: the step of `student` and nothing of kd around it."""
    task = _task(problem, batch, problem.steps)
    _, table, _ = _data(problem)
    step, rows = make_step(task), jnp.asarray(problem.rows(problem.steps, batch))

    def bare(state: State, variables: Any, table: Any, rows: Any, hparams: Any) -> Any:
        return jax.lax.scan(
            lambda s, row: step(s, variables, kd_data.gather(table, row), hparams), state, rows
        )

    program = jax.jit(bare, donate_argnums=0)
    return _timed(
        lambda state: program(state, _variables(task), table, rows, task.members.hparams),
        task,
        problem.steps,
    )


def accumulated(parts: int, problem: Problem, batch: int) -> Case:
    """The step of `student` with its batch taken in so many parts."""
    task = dataclasses.replace(_task(problem, batch, problem.steps), accumulate=parts)
    return _many(problem, task, many(make_step(task), kd_data.gather, problem.steps), batch)


def whole_loop(every: int | None, problem: Problem, batch: int) -> Case:
    """`kd.training.loop.run` with metrics on disk, progress, and a checkpoint `every` so many
    epochs, or none.

    It is timed by a writer from the end of its first dispatch on, so that compiling is not in it.
    """
    dispatch, epoch = min(DISPATCH, problem.steps), max(problem.examples // batch, 1)
    task = _task(problem, batch, dispatch + LOOP_EPOCHS * epoch)
    cadence = loop.Cadence(dispatch, checkpoint=None if every is None else every * epoch)

    def case() -> Reply:
        stamps: list[float] = []
        before = len(_compiled)
        with (
            tempfile.TemporaryDirectory() as folder,
            writers.Progress("bench", task.total_steps, batch) as progress,
        ):
            path = pathlib.Path(folder)
            checkpoints = None if every is None else Checkpoints(path / "checkpoints")

            def start_writing(resumed_at: int) -> list[writers.Write]:
                lines = writers.jsonl(path / "metrics.jsonl", resumed_at)
                return [
                    lines,
                    progress.write,
                    lambda _step, _values: stamps.append(time.perf_counter()),
                ]

            loop.run(task, cadence=cadence, checkpoints=checkpoints, start_writing=start_writing)
            if checkpoints is not None:
                checkpoints.close()
        compiles = sum(name == "jit(run)" or when > stamps[0] for when, name in _compiled[before:])
        return {"seconds": (stamps[-1] - stamps[0]) / (LOOP_EPOCHS * epoch), "compiles": compiles}

    return case


def check(problem: Problem, batch: int) -> Mapping[str, np.ndarray]:
    """The losses of a few steps from `first_params`, and what the first of them does to the
    parameters.
    """
    task = _task(problem, batch, p.CHECKED_STEPS)
    _, table, _ = _data(problem)
    layers = {f"Dense_{i}": {"kernel": w, "bias": b} for i, (w, b) in enumerate(p.first_params())}
    start = dataclasses.replace(loop.initial_state(task), params=jax.tree.map(jnp.asarray, layers))
    program = jax.jit(many(make_step(task), kd_data.gather, p.CHECKED_STEPS))
    rows = jnp.asarray(problem.checked_rows(batch))
    (state, _), (_, metrics) = (
        program(start, _variables(task), table, rows, np.int32(count), task.members.hparams)
        for count in (1, p.CHECKED_STEPS)
    )
    params = [
        (np.asarray(state.params[name]["kernel"]), np.asarray(state.params[name]["bias"]))
        for name in layers
    ]
    return {
        "loss": np.asarray(metrics["loss"].value),
        "update": p.flat(params) - p.flat(p.first_params()),
    }


def _many(problem: Problem, task: loop.Task, run: Callable[..., Any], *batch: int) -> Case:
    _, table, _ = _data(problem)
    program = jax.jit(run, donate_argnums=0)
    rows, count = jnp.asarray(problem.rows(problem.steps, *batch)), np.int32(problem.steps)
    return _timed(
        lambda state: program(state, _variables(task), table, rows, count, task.members.hparams),
        task,
        problem.steps,
    )


def _variables(task: loop.Task) -> Any:
    return task.teacher.variables if task.teacher is not None else None


def _timed(program: Callable[[State], tuple[State, Any]], task: loop.Task, steps: int) -> Case:
    state = loop.initial_state(task)

    def run() -> None:
        nonlocal state  # donated: every call goes on from where the last one ended
        state, _ = jax.block_until_ready(program(state))

    return lambda: timed(run, steps)


CASES = {
    "student": student,
    "population": population,
    "scan": scan,
    "loop": functools.partial(whole_loop, LOOP_EPOCHS),
    "loop, a checkpoint an epoch": functools.partial(whole_loop, 1),
    "loop without checkpoints": functools.partial(whole_loop, None),
    **{f"student, batch in {parts}": functools.partial(accumulated, parts) for parts in (1, 4)},
}

if __name__ == "__main__":
    serve({**CASES, **host.CASES, **vit_kd.CASES}, {"check": check, **vit_kd.CHECKS})
