"""How many seconds of work a machine that is taken away costs: without and with local copies.

A run is killed without notice at moments drawn from a seed, and started again. Lost is what it had
done after the state that it goes on from. A dispatch takes as long as asked: work is waited for.
Writes the entry ``lost work`` of this machine in ``bench/results.json``.
Run: ``python -m bench.lost_work``.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.claims import spread
from bench.entry import Entry
from bench.run import RESULTS

STEPS = 10_000_000  # no run arrives


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.child is not None:
        _train(args)
        return 0
    entry = Entry("lost_work", argv)
    rows = {name: measured(args, copy) for name, copy in (("without", 0), ("with", args.copy))}
    values = {
        "kills": args.kills,
        "dispatch_ms": args.dispatch_ms,
        "checkpoint": args.checkpoint,
        "copy": args.copy,
        "seconds": {name: spread(lost) for name, lost in rows.items()},
    }
    entry.save(args.out, values)
    return 0


@dataclasses.dataclass(frozen=True)
class Start:
    """A run from its start to its kill: the step it went on from, when each step was reached, and
    when it was killed.
    """

    first: int
    reached: dict[int, float]
    killed: float


def measured(args: argparse.Namespace, copy: int) -> np.ndarray:
    """Seconds of work lost by each kill; a copy after so many dispatches, 0: none."""
    every = args.checkpoint * args.dispatch_ms / 1e3
    waits = [*(every * np.random.default_rng(args.seed).uniform(1, 3, args.kills)), 0.0]
    with tempfile.TemporaryDirectory(prefix="kd-lost-") as name:
        starts = [_killed(args, pathlib.Path(name), copy, float(wait)) for wait in waits]
    return np.asarray(
        [
            before.killed - before.reached[after.first]
            for before, after in itertools.pairwise(starts)
        ]
    )


def _killed(args: argparse.Namespace, folder: pathlib.Path, copy: int, wait: float) -> Start:
    """Start it, or start it again, and kill it so many seconds after its first step."""
    process, notes = _start(args, folder, copy), folder / "steps"
    while not (notes.exists() and notes.read_text()):
        if process.poll() is not None:
            raise RuntimeError(f"the run ended with {process.returncode}")
        time.sleep(0.01)
    time.sleep(wait)
    killed = time.monotonic()
    process.kill()
    process.wait()
    lines = [line.split() for line in notes.read_text().splitlines()]
    notes.unlink()
    reached = {int(step): float(moment) for step, moment in lines}
    return Start(int(lines[0][0]), reached, killed)


def _start(args: argparse.Namespace, folder: pathlib.Path, copy: int) -> subprocess.Popen[bytes]:
    told = [
        f"--checkpoint={args.checkpoint}",
        f"--copy={copy}",
        f"--dispatch_ms={args.dispatch_ms}",
    ]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "bench.lost_work", f"--child={folder}", *told]
    return subprocess.Popen(command, env=environment)


def _train(args: argparse.Namespace) -> None:
    """A run that notes when it reaches a step."""
    from kd.training import loop
    from kd.training.checkpoint import Checkpoints
    from kd.training.local_copies import Copies

    folder = pathlib.Path(args.child)
    copies = Copies(folder / "copies", args.copy) if args.copy else None
    with (folder / "steps").open("a", buffering=1) as noted:

        def begin(step: int) -> list[loop.Write]:
            note(step, {})
            return [note]

        def note(step: int, _: object) -> None:
            print(step, time.monotonic(), file=noted)
            time.sleep(args.dispatch_ms / 1e3)

        loop.run(
            _task(),
            cadence=loop.Cadence(1, checkpoint=args.checkpoint),
            checkpoints=Checkpoints(folder / "checkpoints"),
            copies=copies,
            start_writing=begin,
        )


def _task() -> Any:
    from kd import data as kd_data
    from kd.core.members import make_members
    from kd.core.optim import Optim, make_optimizer
    from kd.core.terms import term
    from kd.models.mlp import mlp
    from kd.placement.mesh import MeshSpec
    from kd.training.task import make_task

    random, terms = np.random.default_rng(0), [term("hard")]
    inputs = random.normal(size=(64, 8)).astype(np.float32)
    data = kd_data.arrays(inputs, random.integers(0, 4, 64), num_classes=4)
    return make_task(
        mlp(4, (16,)),
        data,
        terms,
        make_members(terms, {}, 1e-3),
        optimizer=make_optimizer(Optim()),
        steps=STEPS,
        batch_size=16,
        mesh=MeshSpec(devices=1),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.lost_work", description=__doc__)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--checkpoint", type=int, default=60, help="dispatches between checkpoints")
    parser.add_argument("--copy", type=int, default=6, help="dispatches between local copies")
    parser.add_argument("--dispatch_ms", type=float, default=50.0, help="what a dispatch takes")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
