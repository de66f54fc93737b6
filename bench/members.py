"""Time a population at once, one member after another, in groups, and as ``auto`` chooses.

Writes the entry ``members`` of this machine in ``bench/results.json``.
Run: ``python -m bench.members``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench import cpu
from bench.claims import spread
from bench.problem import LEARNING_RATE, MOMENTUM, SCALE, Problem
from bench.run import RESULTS, SETTLE_SECONDS, save
from bench.steps import seconds_of_a_step
from kd import data as kd_data
from kd.core.members import make_members
from kd.core.optim import Optim, make_optimizer
from kd.core.terms import term
from kd.evidence import machine
from kd.models.mlp import mlp
from kd.placement.mesh import MeshSpec
from kd.training import loop
from kd.training.task import make_task
from kd.training.ways import at_once

WIDTHS = (300, 300)
CLASSES = 10
WAYS = ("vmap", "loop", 8)
REACH = 1.1
MEMBER_STEPS = 1024  # that are timed at once, as far as the steps allow
FEWEST, MOST = 3, 50  # steps of a dispatch

Timed = Callable[[], float]


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    load = os.getloadavg()[0]
    data = kd_data.arrays(*Problem(args.examples, 0).data()[:2], num_classes=CLASSES, scale=SCALE)
    command = " ".join(["python -m bench.members", *(sys.argv[1:] if argv is None else argv)])
    here = {**machine(), **cpu.here()}
    rows: list[dict[str, Any]] = []
    for members in args.members:
        rows.append(measured(data, members, args.batch, args.repeats))
        about = {
            "command": command,
            "student": "-".join(map(str, (784, *WIDTHS, CLASSES))),
            "batch": args.batch,
            "repeats": args.repeats,
            "rows": rows,
            "machine": {
                **here,
                "load_before": round(load, 2),
                "load_after": round(os.getloadavg()[0], 2),
            },
            "versions": {"jax": importlib.metadata.version("jax")},
        }
        save(args.out, {"members": about}, cpu.name(here))
    return 0


def measured(data: kd_data.Dataset, members: int, batch: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of a member's step by every way, and those of ``auto`` over the best in a round.

    The first round compiles and is thrown away; each later one starts with another way.
    """
    steps = min(max(MEMBER_STEPS // members, FEWEST), MOST)
    chosen = at_once(_task(data, members, batch, "auto", steps))
    auto = {None: "vmap", 1: "loop"}.get(chosen, f"groups of {chosen}")
    ways = {_name(by): timed(_task(data, members, batch, by, steps)) for by in WAYS}
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(repeats + 1):
        names = list(ways)[i % len(ways) :] + list(ways)[: i % len(ways)]
        for name in names:
            time.sleep(SETTLE_SECONDS)
            samples[name].append(ways[name]() * 1e3)
        print(f"{members} members: round {i} of {repeats}", file=sys.stderr, flush=True)
    values = {name: np.asarray(times[1:]) for name, times in samples.items()}
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


def timed(task: loop.Task) -> Timed:
    """The seconds of a member's step, see `bench.steps`."""
    seconds, members = seconds_of_a_step(task), task.members.size or 1
    return lambda: seconds() / members


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.members", description=__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 8, 64, 65, 256, 1024])
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument(
        "--repeats", type=int, default=5, help="rounds in which every way is timed once"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
