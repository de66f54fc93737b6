"""Time everything in turns, compare, and write ``bench/results.json``."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.problem import MEMBERS, WIDTHS, Problem
from bench.worker import Worker
from kd.evidence import machine

RESULTS = pathlib.Path(__file__).with_name("results.json")
CASES = ("torch student", "kd student", "kd population", "kd scan", "kd loop")
TOLERANCE = 1e-4
SETTLE_SECONDS = 0.1  # the threads of the last case stop spinning before the next case starts

Samples = dict[tuple[str, int], np.ndarray]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="rounds in which every case is timed once")
    parser.add_argument("--steps", type=int, default=100, help="steps that are timed at once")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    args = parser.parse_args(argv)
    if importlib.util.find_spec("torch") is None:
        print("bench compares with PyTorch, which is not installed; type: pip install 'kd[bench]'", file=sys.stderr)
        return 2
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}): the timings will not mean much", file=sys.stderr)
    problem = Problem(args.examples, args.steps)
    with Worker("bench.with_kd", problem) as kd, Worker("bench.with_torch", problem) as torch:
        workers = {"kd": kd, "torch": torch}
        difference = {str(batch): check(workers, batch) for batch in args.batches}
        worst = max(value for found in difference.values() for value in found.values())
        if not worst < TOLERANCE:
            print(f"kd and PyTorch do not compute the same: they differ by {worst:.1e}", file=sys.stderr)
            return 1
        samples, compiles = measure(workers, args.batches, args.repeats, args.steps)
    results = {
        "command": " ".join(["python -m bench.run", *(sys.argv[1:] if argv is None else argv)]),
        "student": "-".join(map(str, WIDTHS)),
        "examples": args.examples,
        "steps": args.steps,
        "repeats": args.repeats,
        "machine": {**machine(), "load_before": round(load, 2)},
        "versions": {name: importlib.metadata.version(name) for name in ("kd", "jax", "jaxlib", "torch", "numpy")},
        "relative_difference": difference,
        "compiles_per_run": compiles,
        "comparisons": [row for batch in args.batches for row in compare(samples, batch)],
        "ms_per_step": {f"{case}, batch {batch}": spread(values) for (case, batch), values in samples.items()},
    }
    args.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return 0


def check(workers: Mapping[str, Worker], batch: int) -> dict[str, float]:
    """How far the losses and the parameters' updates of the two sides lie apart, relative to their largest value."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, worker in workers.items():
            file = str(pathlib.Path(folder, f"{name}.npz"))
            worker.ask("check", batch, file)
            found[name] = dict(np.load(file))
    ours, theirs = found["kd"], found["torch"]
    return {key: float(np.abs(ours[key] - theirs[key]).max() / np.abs(theirs[key]).max()) for key in theirs}


def measure(workers: Mapping[str, Worker], batches: Sequence[int], repeats: int, steps: int) -> tuple[Samples, int]:
    """Milliseconds per step, one value a round, and the most programs that a training run compiled.

    The first round compiles and is thrown away. Each later round starts with another case and turns the order round,
    so that a drift of the machine hits all cases alike.
    """
    cases = [(case, batch) for batch in batches for case in CASES]
    samples: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    compiles = 0
    for i in range(repeats + 1):
        turn = cases[i % len(cases) :] + cases[: i % len(cases)]
        for case, batch in turn[:: -1 if i % 2 else 1]:
            side, _, name = case.partition(" ")
            time.sleep(SETTLE_SECONDS)
            reply = workers[side].ask(name, batch)
            samples[case, batch].append(reply["seconds"] / steps * 1e3)
            compiles = max(compiles, reply.get("compiles", 0))
        print(f"round {i} of {repeats}" + (" (warm-up)" if i == 0 else ""), file=sys.stderr, flush=True)
    return {case: np.asarray(values[1:]) for case, values in samples.items()}, compiles


def compare(samples: Samples, batch: int) -> list[dict[str, Any]]:
    """The three claims at one batch size. Ratios are taken within a round, then summarised."""
    student, torch, members, scan, loop = (
        samples[case, batch] for case in ("kd student", "torch student", "kd population", "kd scan", "kd loop")
    )
    return [
        _claim(f"one student, batch {batch}", student, torch, "PyTorch eager", torch / student, at_least=1.0),
        _claim(
            f"population of {MEMBERS}, batch {batch}",
            members,
            MEMBERS * student,
            f"{MEMBERS} single runs",
            members / (MEMBERS * student),
            at_most=1.2,
        ),
        _claim(f"training loop, batch {batch}", loop, scan, "the bare scan", loop / scan, at_most=1.05),
    ]


def _claim(
    name: str, ours: np.ndarray, theirs: np.ndarray, peer: str, ratio: np.ndarray, **reach: float
) -> dict[str, Any]:
    median = float(np.median(ratio))
    return {
        "name": name,
        "peer": peer,
        "kd_ms": round(float(np.median(ours)), 3),
        "peer_ms": round(float(np.median(theirs)), 3),
        "ratio": spread(ratio),
        "reach": reach,
        "met": median >= reach.get("at_least", median) and median <= reach.get("at_most", median),
    }


def spread(values: np.ndarray) -> dict[str, Any]:
    low, q1, median, q3, high = (round(float(q), 3) for q in np.percentile(values, [0, 25, 50, 75, 100]))
    return {"median": median, "q1": q1, "q3": q3, "min": low, "max": high, "all": [round(float(v), 3) for v in values]}


if __name__ == "__main__":
    sys.exit(main())
