"""Time what a bucket costs a run: a checkpoint, its way back, metrics, and a start.

The bucket is Google's emulator in a process of its own on this machine, which shares its cores.
Writes the entry ``buckets`` of this machine in ``bench/results.json``. Run: ``python -m
bench.buckets``.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bench.claims import spread
from bench.entry import Entry
from bench.run import RESULTS

REACH = {"save": 0.05, "read": 1.01, "metrics": 0.01}
"""Of the synchronous time, of the bytes of the state (its index and marker are read too), and of
the loop.
"""
_SHARDS = 4  # arrays of a state
_EPOCH = 50  # steps of a dispatch


class Emulator:
    """A bucket in a process of its own, which counts what it sends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def folder(self) -> Any:
        """One in which nothing is."""
        from kd.storage import BucketPath

        return BucketPath(f"gs://kd-tests/{uuid.uuid4().hex[:12]}")

    @property
    def sent(self) -> int:
        """Bytes of all objects that were read so far."""
        self._connection.send("sent")
        return self._connection.recv()


@contextlib.contextmanager
def emulator() -> Iterator[Emulator]:
    """While inside, the buckets of this process and of its children are the emulator's."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    process.start()
    try:
        os.environ.update(here.recv())
        yield Emulator(here)
    finally:
        process.kill()
        process.join()


def _serve(connection: Connection) -> None:
    sys.path.insert(0, str(RESULTS.parents[1] / "tests"))
    import stores

    proxy = stores.google()
    connection.send(stores.variables("gs"))
    while connection.recv():
        connection.send(proxy.sent)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    entry = Entry("buckets", argv)
    with emulator() as bucket:
        values = {
            "floats": args.floats,
            "repeats": args.repeats,
            "reach": REACH,
            **checkpoints(bucket, args.floats, args.repeats),
            **metrics(bucket, args.dispatches, args.repeats),
            **starts(bucket, args.repeats),
        }
    entry.save(args.out, values)
    return 0


def checkpoints(bucket: Emulator, floats: int, repeats: int) -> dict[str, Any]:
    """Seconds until `save` returns, and until all is there; bytes that are read to restore it, over
    those of the state.
    """
    import jax
    import jax.numpy as jnp

    from kd.training.bucket_checkpoint import checkpoints_in

    arrays = [jnp.full(floats // _SHARDS, number, jnp.float32) for number in range(_SHARDS)]
    state = dict(zip("abcd", jax.block_until_ready(arrays), strict=True))
    returned, whole = [], []
    folder = bucket.folder()
    kept = checkpoints_in(folder)
    for step in range(1 + repeats):  # the first time opens what stays open
        begun = time.perf_counter()
        kept.save(step, state)
        returned.append(time.perf_counter() - begun)
        kept.wait()
        whole.append(time.perf_counter() - begun)
    before = bucket.sent
    restored = kept.restore(state)
    read = (bucket.sent - before) / sum(leaf.nbytes for leaf in state.values())
    kept.close()
    assert all(float(restored[name][-1]) == number for number, name in enumerate("abcd"))
    times = np.asarray([returned[1:], whole[1:]])
    return {
        "save": spread(times[0] / times[1]),
        "save seconds": spread(times[0]),
        "whole seconds": spread(times[1]),
        "read": round(read, 4),
    }


def metrics(bucket: Emulator, dispatches: int, repeats: int) -> dict[str, Any]:
    """Seconds of a loop that writes a line of metrics at every dispatch into a bucket, over those
    of one that writes none, less one.
    """
    pairs = []
    for number in range(1 + repeats):
        order = (True, False) if number % 2 else (False, True)
        pairs.append({writes: _loop(bucket, dispatches, writes) for writes in order})
    ratios = np.asarray([pair[True] / pair[False] - 1 for pair in pairs[1:]])
    plain = np.asarray([pair[False] for pair in pairs[1:]])
    return {"metrics": spread(ratios), "dispatch ms": spread(1e3 * plain / dispatches)}


def _loop(bucket: Emulator, dispatches: int, writes: bool) -> float:
    """Seconds from the first line to the last; the student of ``bench.run``."""
    from bench import problem as p
    from bench.with_kd import _task
    from kd.training import loop, writers

    stamps: list[float] = []
    path = bucket.folder() / "metrics.jsonl"

    def begin(resumed_at: int) -> list[writers.Write]:
        lines = [writers.jsonl(path, resumed_at)] if writes else []
        return [*lines, lambda _step, _values: stamps.append(time.perf_counter())]

    task = _task(p.Problem(6400, _EPOCH), 128, (1 + dispatches) * _EPOCH)
    loop.run(task, cadence=loop.Cadence(_EPOCH), start_writing=begin)
    return stamps[-1] - stamps[0]


def starts(bucket: Emulator, repeats: int) -> dict[str, Any]:
    """Seconds from the command to the first metrics of a run that goes on from a checkpoint, its
    programs kept: in a bucket, and on a disk.
    """
    seconds: dict[str, list[float]] = {"bucket": [], "disk": []}
    with tempfile.TemporaryDirectory(prefix="kd-starts-") as name:
        places = {"bucket": bucket.folder() / "run", "disk": pathlib.Path(name) / "run"}
        environment = {**os.environ, "KD_CACHE_DIR": f"{name}/kept", "JAX_PLATFORMS": "cpu"}
        for number in range(2 + repeats):  # the first compiles, the second restores that way first
            for place in list(places)[:: 1 if number % 2 else -1]:
                seconds[place].append(_started(places[place], 20 * (1 + number), environment))
    return {f"start {place}": spread(np.asarray(times[2:])) for place, times in seconds.items()}


def _started(workdir: pathlib.Path, steps: int, environment: dict[str, str]) -> float:
    """One that is made as long as this."""
    told = [f"--config.total_steps={steps}", "--config.total_epochs=none"]
    told += ["--config.optim.learning_rate_schedule.shape=constant", "--config.log_steps=10"]
    config = RESULTS.parents[1] / "configs" / "digits.py"
    command = [sys.executable, "-m", "kd.cli", "train", f"--config={config}"]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*command, f"--workdir={workdir}", *told],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        lines = ((line, time.perf_counter()) for line in process.stderr)
        first = [moment for line, moment in lines if line.startswith("train: step ")]
    if process.returncode or not first:
        raise RuntimeError(f"kd train ended with {process.returncode}")
    return first[0] - begun


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.buckets", description=__doc__)
    parser.add_argument("--floats", type=int, default=66_000_000, help="of a checkpoint")
    parser.add_argument("--dispatches", type=int, default=40, help="lines of metrics of a loop")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
