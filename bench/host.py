"""What the host does beside the device: saving a state, and reading and decoding images."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import pathlib
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp

from bench import records
from bench.problem import Problem
from bench.worker import Case, Reply, timed
from kd import data as kd_data
from kd.data.pipeline import most_threads
from kd.training.checkpoint import Checkpoints

ARRAYS = 40  # a state is some dozens of arrays


def save(problem: Problem, batch: int, *, whole: bool) -> Case:
    """`Checkpoints.save` of a state: until it returns, or `whole`, until everything is on disk."""
    del batch
    folder = _folder()
    checkpoints = Checkpoints(pathlib.Path(folder.name))
    keys = jax.random.split(jax.random.key(0), ARRAYS)
    state = {
        f"array {i}": jax.random.normal(key, (problem.floats // ARRAYS,))
        for i, key in enumerate(keys)
    }
    state = jax.block_until_ready(state)
    steps = itertools.count()

    def case() -> Reply:
        step = next(steps)
        changed = jax.block_until_ready(jax.tree.map(lambda x: x + jnp.float32(step), state))

        def run() -> None:
            checkpoints.save(step, changed)
            if whole:
                checkpoints.wait()

        reply = timed(run, 1)
        checkpoints.wait()
        return reply

    case.__dict__["folder"] = folder  # lives as long as the case
    return case


@functools.cache
def _records(problem: Problem) -> tuple[records.Records, tempfile.TemporaryDirectory[str]]:
    folder = _folder()
    path = pathlib.Path(folder.name, "images.array_record")
    records.write(path, problem.records, problem.pixels)
    return records.Records(path), folder


def pipeline(problem: Problem, batch: int) -> Case:
    """An epoch of `kd.data.batches`, the start of its threads included."""
    source, _ = _records(problem)
    shape = (problem.pixels, problem.pixels, 3)
    stream = kd_data.Stream(source, 1, "bench", record_shape=shape)
    steps = len(source) // batch

    def run() -> None:
        with kd_data.batches(stream, 0, batch, stop=steps) as batches:
            for _ in batches:
                pass

    return lambda: timed(run, steps)


def bare(problem: Problem, batch: int) -> Case:
    """The same records in the same order by as many threads, each read and decoded and left
    there.
    """
    source, _ = _records(problem)
    steps = len(source) // batch
    rows = [int(row) for step in range(steps) for row in kd_data.rows(0, step, len(source), batch)]

    def run() -> None:
        with concurrent.futures.ThreadPoolExecutor(most_threads()) as pool:
            for _ in pool.map(source.__getitem__, rows):
                pass

    return lambda: timed(run, steps)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="kd-bench-")


CASES: dict[str, Callable[[Problem, int], Case]] = {
    "save, until it returns": functools.partial(save, whole=False),
    "save, until on disk": functools.partial(save, whole=True),
    "pipeline": pipeline,
    "read and decode": bare,
}
