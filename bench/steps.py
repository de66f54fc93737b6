"""What a step takes in the program of a training run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import jax

from kd.training import loop
from kd.training.program import compile_program, place


def seconds_of_a_step(task: loop.Task) -> Callable[[], float]:
    """A function that runs all steps of `task`, and answers with the seconds of one."""
    return seconds_by_way({"": task})[""]


def seconds_by_way(tasks: Mapping[str, loop.Task]) -> dict[str, Callable[[], float]]:
    """`seconds_of_a_step` of each task; they differ in how they compute alone, and share a state.

    Each is compiled and takes a step before it is timed.
    """
    first = next(iter(tasks.values()))
    state = loop.initial_state(first, place(first).state)

    def timed(task: loop.Task) -> Callable[[], float]:
        steps = task.total_steps
        program = compile_program(task, place(task), steps, 0, None)

        def run(until: int = steps) -> float:
            nonlocal state  # donated: every call goes on from where the last one ended
            start = time.perf_counter()
            state, _ = jax.block_until_ready(program.advance(state, 0, until))
            return (time.perf_counter() - start) / until

        run(1)
        return run

    return {name: timed(task) for name, task in tasks.items()}


def seconds_in_epochs(task: loop.Task, epochs: int, dispatch: int) -> list[float]:
    """The seconds of a step in each of the `epochs` of a run, from the first one on.

    Data in memory goes `dispatch` steps at a time, as in training; a stream is opened here.
    """
    layout, steps = place(task), task.total_steps // epochs
    state = loop.initial_state(task, layout.state)
    program = compile_program(task, layout, dispatch, 0, None)

    def epoch(step: int) -> float:
        nonlocal state
        start, end = time.perf_counter(), step + steps
        while step < end:
            until = program.until(step, min(step + dispatch, end))
            state, _ = program.advance(state, step, until)
            step = until
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / steps

    try:
        return [epoch(number * steps) for number in range(epochs)]
    finally:
        program.close()
