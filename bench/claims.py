"""What is claimed: two cases, the ratio of their times, and what it must reach. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.problem import MEMBERS
from bench.vit_problem import PARTS

BEST = "the best of PyTorch"
EAGER = "PyTorch eager"
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

    @property
    def cases(self) -> tuple[Case, ...]:
        return self.ours, self.theirs

    def measured(self, samples: Samples) -> bool:
        """Whether this machine could run both."""
        return self.ours in samples and self.theirs in samples

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
class Best:
    """kd's speed is at least `at_least` times that of the fastest peer among `claims`."""

    claims: tuple[Claim, ...]
    at_least: float = 1.0
    peer: str = BEST

    @property
    def name(self) -> str:
        return self.claims[0].name

    @property
    def ours(self) -> Case:
        return self.claims[0].ours

    @property
    def cases(self) -> tuple[Case, ...]:
        return tuple(case for claim in self.claims for case in claim.cases)

    def measured(self, samples: Samples) -> bool:
        """Whether this machine could run any of them."""
        return any(claim.measured(samples) for claim in self.claims)

    def judged(self, samples: Samples) -> dict[str, Any]:
        """The fastest is that with the lowest median, and is named."""
        there = [claim for claim in self.claims if claim.measured(samples)]
        fastest = min(there, key=lambda claim: claim.times * np.median(samples[claim.theirs]))
        row = dataclasses.replace(fastest, peer=self.peer, at_least=self.at_least).judged(samples)
        return {**row, "fastest": fastest.peer}


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

Group = Sequence[Claim | Best]
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
        Claim(part, _kd(f"vit {part}", batch), _torch(f"vit {part}", batch), EAGER)
        for part in PARTS
    ]


def cases(group: Group) -> list[Case]:
    """The cases of these claims, each once."""
    return list(dict.fromkeys(case for claim in group for case in claim.cases))


def judged(
    group: Group, samples: Samples, flops: Mapping[Case, float | None]
) -> list[dict[str, Any]]:
    """A row for every claim whose cases could be run, with the GFLOP of kd's step, which the peer's
    needs as well.
    """
    rows = []
    for claim in group:
        if not claim.measured(samples):
            continue
        work = flops[claim.ours]
        rows.append({**claim.judged(samples), "gflop": None if work is None else work / 1e9})
    return rows


def _mlp(batch: int) -> Group:
    student = _kd("student", batch)
    loops = [
        Claim(
            f"training loop with {what}, batch {batch}",
            _kd(case, batch),
            _kd("scan", batch),
            "the bare scan",
            at_most=1.05,
        )
        for case, what in LOOPS.items()
    ]
    return [
        *_peers(f"one student, batch {batch}", student, "student", batch),
        *_population(f"population of {MEMBERS}, batch {batch}", student, batch),
        *loops,
    ]


def _peers(name: str, ours: Case, theirs: str, batch: int) -> Group:
    """PyTorch eager and compiled, and the better of the two."""
    eager = Claim(name, ours, _torch(theirs, batch), EAGER, at_least=1.0)
    by_compiler = Claim(name, ours, _torch(f"{theirs} compiled", batch), "PyTorch compiled")
    return [eager, by_compiler, Best((eager, by_compiler))]


def _population(name: str, student: Case, batch: int) -> Group:
    """kd's own single runs, and every way that PyTorch has."""
    members = _kd("population", batch)
    single, by_compiler = _torch("student", batch), _torch("student compiled", batch)
    vmap, both = _torch("population", batch), _torch("population compiled", batch)
    ways = (
        Claim(name, members, single, f"{MEMBERS} times PyTorch eager", MEMBERS),
        Claim(name, members, by_compiler, f"{MEMBERS} times PyTorch compiled", MEMBERS),
        Claim(name, members, vmap, "PyTorch vmap"),
        Claim(name, members, both, "PyTorch vmap, compiled"),
    )
    alone = Claim(name, members, student, f"{MEMBERS} single runs", MEMBERS, at_most=1.2)
    return [alone, *ways, Best(ways)]


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
    return list(_peers(f"ViT {vit}, batch {batch}", _kd("vit", batch), "vit", batch))


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
