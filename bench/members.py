"""Time populations of many sizes at once, one member after another, in groups, and as ``auto``
chooses.

Writes the entry ``members`` of this machine in ``bench/results.json``.
Run: ``python -m bench.members``.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.claims import spread
from bench.entry import Entry
from bench.line import REACH
from bench.problem import LEARNING_RATE, MOMENTUM, SCALE, Problem
from bench.run import RESULTS, SETTLE_SECONDS
from bench.steps import seconds_by_way
from kd import data as kd_data
from kd.core.members import make_members
from kd.core.optim import Optim, make_optimizer
from kd.core.terms import term
from kd.models.mlp import mlp
from kd.placement.mesh import MeshSpec
from kd.training import loop
from kd.training.task import make_task
from kd.training.ways import at_once

WIDTHS = (300, 300)
CLASSES = 10
WAYS = ("vmap", "loop", 8)
SIZES = (1, 2, 4, 8, 16, 32, 50, 64, 65, 256, 1024)
"""Small ones for the knee of a vmap; 65 is one more than some cache once held."""
FEWEST = 256  # steps of members that are timed at once, in several dispatches where they are short


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    entry = Entry("members", argv)
    data = kd_data.arrays(*Problem(args.examples, 0).data()[:2], num_classes=CLASSES, scale=SCALE)
    rows: list[dict[str, Any]] = []
    for members in args.members:
        rows.append(measured(data, members, args.batch, args.steps, args.repeats))
        values = {
            "student": "-".join(map(str, (784, *WIDTHS, CLASSES))),
            "batch": args.batch,
            "repeats": args.repeats,
            "rows": rows,
        }
        entry.save(args.out, values)
    return 0


def measured(
    data: kd_data.Dataset, members: int, batch: int, steps: int, repeats: int
) -> dict[str, Any]:
    """Milliseconds of a member's step by every way, and those of ``auto`` over the best in a round.

    Each round starts with another way.
    """
    chosen = at_once(_task(data, members, batch, "auto", steps))
    auto = {None: "vmap", 1: "loop"}.get(chosen, f"groups of {chosen}")
    ways = seconds_by_way({_name(by): _task(data, members, batch, by, steps) for by in WAYS})
    calls = max(1, FEWEST // (members * steps))
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(repeats):
        names = list(ways)[i % len(ways) :] + list(ways)[: i % len(ways)]
        for name in names:
            time.sleep(SETTLE_SECONDS)
            samples[name].append(np.mean([ways[name]() for _ in range(calls)]) / members * 1e3)
        print(f"{members} members: round {i + 1} of {repeats}", file=sys.stderr, flush=True)
    values = {name: np.asarray(times) for name, times in samples.items()}
    ratio = values[auto] / np.min(list(values.values()), axis=0)
    return {
        "members": members,
        "steps": steps,
        "auto": auto,
        "ms": {name: spread(times) for name, times in values.items()},
        "ratio": spread(ratio),
        "met": bool(np.median(ratio) <= REACH),
    }


def _name(by: str | int) -> str:
    return by if isinstance(by, str) else f"groups of {by}"


def _task(data: kd_data.Dataset, members: int, batch: int, by: Any, steps: int) -> loop.Task:
    terms = [term("hard")]
    return make_task(
        mlp(CLASSES, WIDTHS),
        data,
        terms,
        make_members(terms, {"seed": range(members)}, LEARNING_RATE),
        optimizer=make_optimizer(Optim(momentum=MOMENTUM)),
        steps=steps,
        batch_size=batch,
        mesh=MeshSpec(devices=1, members_by=by),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.members", description=__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--steps", type=int, default=10, help="of a dispatch, the same at any size")
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument(
        "--repeats", type=int, default=3, help="rounds in which every way is timed once"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
