"""The runs that are broken off: tiny, and with everything in them that a checkpoint must hold."""

import dataclasses
import functools
import itertools
import tempfile

import numpy as np

import runs
import stores
from faults import starts
from faults.child import CALM, Fault
from kd.storage import BucketPath

STEPS = 30
RUN = {
    "total_steps": STEPS,
    "log_steps": 4,  # a line of metrics is not a checkpoint
    "checkpoint_epochs": 1,  # 3 steps
    "eval_epochs": 2,
    "data__batch_size": 32,
    "student__widths": (128,),
    "student__hidden_dropout": 0.5,
    "ema": 0.5,
}
SHARDED = {"mesh__fsdp": 2, "sharding__student__rule": "fsdp"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A combination: so many devices, data in memory or streamed, a live teacher or cached logits,
    in so many parts.
    """

    devices: int
    stream: bool = False
    cached: bool = False
    accumulate: int = 1
    store: str = ""  # of gs and s3, or a disk

    @property
    def words(self):
        data = "streamed" if self.stream else "in memory"
        teacher = "cached" if self.cached else "live"
        return (
            f"{self.devices} device{'s' * (self.devices > 1)}, {data}, {teacher} teacher, "
            f"accumulate {self.accumulate}{self.store and f', {self.store}://'}"
        )

    def command(self, workdir, **more):
        """Arguments of ``kd``."""
        keys = {
            **RUN,
            "teacher__workdir": teacher(),
            "teacher__precompute": self.cached,
            "data__stream": self.stream,
            "data__jitter_pixels": 0 if self.cached else 1,
            "accumulate": self.accumulate,
            "mesh__devices": self.devices,
            **(SHARDED if self.devices > 1 else {}),
            **more,
        }
        return runs.kd("train", f"--workdir={workdir}", arg="distilled", **keys)

    def start(self, workdir, fault=CALM):
        """Start or continue the run in `workdir`, and wait."""
        told = variables(self.store)
        return starts.run(self.command(workdir), self.devices, workdir, fault, told)


# Logits that were cached cannot answer for what is streamed; kd refuses that.
CASES = [
    Case(devices, stream, cached, accumulate)
    for devices, stream, cached, accumulate in itertools.product(
        (1, 8), (False, True), (False, True), (1, 2)
    )
    if not (stream and cached)
]


BUCKETS = [
    Case(1, cached=True, accumulate=2, store="gs"),
    Case(8, stream=True, accumulate=2, store="s3"),
]
"""A case in either kind of bucket."""
BUCKET_SECONDS = 3.0


def variables(store):
    """What leads a process to the emulator of a kind of bucket, and lets it give up soon."""
    if not store:
        return {}
    return {**stores.variables(store), "KD_BUCKET_SECONDS": str(BUCKET_SECONDS)}


@functools.cache
def teacher():
    """A finished run, to learn from."""
    path = starts.scratch() / "teacher"
    ended = starts.run(runs.kd("train", f"--workdir={path}", checkpoint_epochs=1), 1, path)
    assert ended.code == 0, ended.err
    return path


@functools.cache
def whole(case):
    """An uninterrupted run, and what it counted: nobody may change it.

    Once for the compilers, once to be timed. In a bucket it holds the bytes of the run on a disk.
    """
    if case.store:
        path = fresh(case.store)
        ended = case.start(path)
        assert ended.code == 0, ended.err
        assert not difference(path, on_disk(case))
        return path, ended.counts
    for name in ("first", "whole"):
        path = starts.scratch() / f"{name}-{CASES.index(case)}"
        ended = case.start(path)
        assert ended.code == 0, ended.err
    return path, ended.counts


def on_disk(case):
    """What a run in a bucket must hold: the uninterrupted run on a disk."""
    return whole(dataclasses.replace(case, store=""))[0]


def fresh(store=""):
    """A folder for a run."""
    if store:
        return stores.fresh(store) / "run"
    return starts.scratch() / tempfile.mkdtemp(prefix="run-", dir=starts.scratch()) / "run"


def drop(workdir):
    runs.removed(workdir if isinstance(workdir, BucketPath) else workdir.parent)


def draw(random: np.random.Generator, action: str, clock: str, counts: dict, **more) -> Fault:
    """A moment, uniform over a whole run."""
    return Fault(action, clock, float(random.uniform()), counts[clock], **more)


def difference(workdir, expected):
    """What differs between two runs that ended; empty if they hold the same bytes."""
    try:
        runs.same_bytes(workdir, expected)
    except AssertionError as error:
        return " ".join(str(error).split())[:200] or "other bytes"
    return ""
