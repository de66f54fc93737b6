"""What a step takes in the program of a training run."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax

from kd.training import loop
from kd.training.program import compile_program, place


def seconds_of_a_step(task: loop.Task) -> Callable[[], float]:
    """A function that runs all steps of `task`, and answers with the seconds of one."""
    layout, steps = place(task), task.total_steps
    program = compile_program(task, layout, steps, 0, None)
    state = loop.initial_state(task, layout.state)

    def run() -> float:
        nonlocal state  # donated: every call goes on from where the last one ended
        start = time.perf_counter()
        state, _ = jax.block_until_ready(program.advance(state, 0, steps))
        return (time.perf_counter() - start) / steps

    return run
