"""What is claimed: two cases, the ratio of their times, and what it must reach. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.problem import MEMBERS
from bench.vit_problem import PARTS

ACCUMULATED = 4096  # a batch in parts is for batches that are large


@dataclasses.dataclass(frozen=True)
class Case:
    """A case of one side's worker, and its argument."""

    side: str
    name: str
    batch: int

    def __str__(self) -> str:
        return (
            f"{self.side} {self.name}, batch {self.batch}"
            if self.batch
            else f"{self.side} {self.name}"
        )


Samples = Mapping[Case, np.ndarray]
"""Milliseconds per step, one value a round."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """Either kd's speed is at least `at_least` times the peer's, or its time at most `at_most`
    times the peer's.

    The peer's time counts `times` times. With neither it is no claim and only measured.
    """

    name: str
    ours: Case
    theirs: Case
    peer: str
    times: int = 1
    at_least: float | None = None
    at_most: float | None = None

    def judged(self, samples: Samples) -> dict[str, Any]:
        """Ratios are taken within a round, then summarised.

        Speed over speed, or with `at_most` time over time.
        """
        ours, theirs = samples[self.ours], self.times * samples[self.theirs]
        ratio = theirs / ours if self.at_most is None else ours / theirs
        median = float(np.median(ratio))
        reach = {
            key: value
            for key in ("at_least", "at_most")
            if (value := getattr(self, key)) is not None
        }
        return {
            "name": self.name,
            "peer": self.peer,
            "kd_ms": round(float(np.median(ours)), 3),
            "peer_ms": round(float(np.median(theirs)), 3),
            "ratio": spread(ratio),
            "reach": reach,
            "met": median >= reach.get("at_least", median)
            and median <= reach.get("at_most", median),
        }


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batch sizes: those of the MLP, the large one that is taken in parts, the ViT's and of images
    decoded.
    """

    mlp: tuple[int, ...] = (128, 512)
    accumulated: int = ACCUMULATED
    vit: int = 8
    small_vit: int = 32
    pipeline: int = 64


LOOPS = {
    "loop": "checkpoints and metrics",
    "loop, a checkpoint an epoch": "a checkpoint an epoch",
    "loop without checkpoints": "metrics alone",
}
"""The training loop at the cadence of the MNIST experiment, three times as often as that, and
never.
"""

Group = Sequence[Claim]
"""Claims whose cases are timed in turns with each other."""


def groups(batches: Batches, vit: str, small_vit: str) -> list[Group]:
    """Every claim, in groups."""
    return [
        *map(_mlp, batches.mlp),
        _accumulated(batches, small_vit),
        _saved(),
        _read(batches),
        _vit(batches.vit, vit),
    ]


def parts(batch: int) -> Group:
    """The parts of a ViT's step, on both sides: where the time goes."""
    return [
        Claim(name, _kd(f"vit {name}", batch), _torch(f"vit {name}", batch), "PyTorch eager")
        for name in PARTS
    ]


def cases(group: Group) -> list[Case]:
    """The cases of these claims, each once."""
    return list(dict.fromkeys(case for claim in group for case in (claim.ours, claim.theirs)))


def _mlp(batch: int) -> Group:
    student = _kd("student", batch)
    members = _kd("population", batch)
    return [
        Claim(
            f"one student, batch {batch}",
            student,
            _torch("student", batch),
            "PyTorch eager",
            at_least=1.0,
        ),
        Claim(
            f"population of {MEMBERS}, batch {batch}",
            members,
            student,
            f"{MEMBERS} single runs",
            MEMBERS,
            at_most=1.2,
        ),
        *(
            Claim(
                f"training loop with {what}, batch {batch}",
                _kd(case, batch),
                _kd("scan", batch),
                "the bare scan",
                at_most=1.05,
            )
            for case, what in LOOPS.items()
        ),
    ]


def _accumulated(batches: Batches, small_vit: str) -> Group:
    def claim(name: str, case: str, batch: int) -> Claim:
        ours, theirs = (_kd(f"{case}, batch in {count}", batch) for count in (4, 1))
        return Claim(
            f"{name}, batch {batch} in 4 parts", ours, theirs, "the batch at once", at_most=1.05
        )

    return [
        claim("MLP", "student", batches.accumulated),
        claim(f"ViT {small_vit}", "vit", batches.small_vit),
    ]


def _saved() -> Group:
    ours, theirs = _kd("save, until it returns", 0), _kd("save, until on disk", 0)
    return [
        Claim(
            "checkpoint, time that the loop waits",
            ours,
            theirs,
            "saving it to the end",
            at_most=0.05,
        )
    ]


def _read(batches: Batches) -> Group:
    ours, theirs = _kd("pipeline", batches.pipeline), _kd("read and decode", batches.pipeline)
    name = f"data pipeline, batch {batches.pipeline}"
    return [Claim(name, ours, theirs, "reading and decoding, as many threads", at_least=0.8)]


def _vit(batch: int, vit: str) -> Group:
    return [
        Claim(
            f"ViT {vit}, batch {batch}",
            _kd("vit", batch),
            _torch("vit", batch),
            "PyTorch eager",
            at_least=1.0,
        )
    ]


def _kd(name: str, batch: int) -> Case:
    return Case("kd", name, batch)


def _torch(name: str, batch: int) -> Case:
    return Case("torch", name, batch)


def spread(values: np.ndarray) -> dict[str, Any]:
    low, q1, median, q3, high = (
        round(float(q), 3) for q in np.percentile(values, [0, 25, 50, 75, 100])
    )
    return {
        "median": median,
        "q1": q1,
        "q3": q3,
        "min": low,
        "max": high,
        "all": [round(float(v), 3) for v in values],
    }
