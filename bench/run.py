"""Time everything in turns, compare, and write ``bench/results.json``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
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

from bench import claims, cpu
from bench.claims import Batches, Case
from bench.flops import of_step
from bench.problem import WIDTHS, Problem
from bench.worker import Missing, Worker
from kd.evidence import machine

RESULTS = pathlib.Path(__file__).with_name("results.json")
VERSIONS = ("kd", "jax", "jaxlib", "torch", "numpy", "grain", "orbax-checkpoint")
TOLERANCE = 1e-4
SETTLE_SECONDS = 0.1  # the threads of the last case stop spinning before the next case starts
NEEDS_TORCH = "bench compares with PyTorch, which is not installed; type: pip install 'kd[bench]'"


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if importlib.util.find_spec("torch") is None:
        print(NEEDS_TORCH, file=sys.stderr)
        return 2
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"the machine is busy (load {load:.1f}): the timings will not mean much",
            file=sys.stderr,
        )
    problem, about = _problem(args), {**machine(), **cpu.here()}
    with Worker("bench.with_kd", problem) as kd, Worker("bench.with_torch", problem) as torch:
        workers = {"kd": kd, "torch": torch}
        difference = differences(workers, args.batches, args.vit_batch)
        worst = max(value for errors in difference.values() for value in errors.values())
        if not worst < TOLERANCE:
            print(
                f"kd and PyTorch do not compute the same: they differ by {worst:.1e}",
                file=sys.stderr,
            )
            return 1
        results = _measured(workers, problem, args)
    about |= {"load_before": round(load, 2), "load_after": round(os.getloadavg()[0], 2)}
    results = {
        "command": " ".join(["python -m bench.run", *(sys.argv[1:] if argv is None else argv)]),
        **_settings(args),
        "machine": about,
        "relative_difference": difference,
        **results,
    }
    save(args.out, results, cpu.name(about))
    return 0


def _measured(
    workers: Mapping[str, Worker], problem: Problem, args: argparse.Namespace
) -> dict[str, Any]:
    groups = claims.groups(_batches(args), args.vit, args.small_vit)
    inside = claims.parts(args.vit_batch)
    peaks = [Case(side, "peak", size) for size in args.peak_sizes for side in workers]
    of_peak = measure(workers, peaks, args.repeats, "peak")
    measured = [measure(workers, claims.cases(g), args.repeats, g[0].name) for g in groups]
    of_parts = measure(workers, claims.cases(inside), args.repeats, "parts of the ViT")
    samples = {case: values for m in [*measured, of_parts] for case, values in m.samples.items()}
    flops = {case: of_step(case.name, case.batch, problem) for case in samples}
    return {
        "peak": {
            "sizes": args.peak_sizes,
            "gflops": {side: peak(of_peak.samples, side) for side in workers},
        },
        "compiles_per_run": max(m.compiles for m in measured),
        "comparisons": [row for g in groups for row in claims.judged(g, samples, flops)],
        "vit_parts": claims.judged(inside, samples, flops),
        "ms_per_step": {str(case): claims.spread(values) for case, values in samples.items()},
        "left_out": {case: why for m in measured for case, why in m.missing.items()},
    }


def peak(samples: Mapping[Case, np.ndarray], side: str) -> float:
    """GFLOP/s in products of matrices: the best of all sizes and rounds."""
    rates = [
        2e-6 * case.batch**3 / times.min() for case, times in samples.items() if case.side == side
    ]
    return round(float(max(rates)), 1)


def _problem(args: argparse.Namespace) -> Problem:
    return Problem(
        args.examples,
        args.steps,
        args.vit,
        args.small_vit,
        args.pixels,
        records=args.records,
        floats=args.floats,
    )


def _batches(args: argparse.Namespace) -> Batches:
    batches = Batches(
        tuple(args.batches), args.accumulated_batch, args.vit_batch, args.small_vit_batch
    )
    if args.records < batches.pipeline:
        return Batches(*list(vars(batches).values())[:-1], pipeline=args.records)
    return batches


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What was measured."""
    return {
        "student": "-".join(map(str, WIDTHS)),
        "examples": args.examples,
        "steps": args.steps,
        "pixels": args.pixels,
        "state_megabytes": round(4e-6 * args.floats),
        "repeats": args.repeats,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }


def save(path: pathlib.Path, results: Mapping[str, Any], name: str | None = None) -> None:
    """Into a file of results, whose other entries stay: those of other machines, and what another
    command measured on the machine `name`. Without a name beside the machines.
    """
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if name is not None:
        machines = before.get("machines", {})
        results = {"machines": {**machines, name: {**machines.get(name, {}), **results}}}
    path.write_text(json.dumps({**before, **results}, indent=1) + "\n", "utf-8")


def _parser() -> argparse.ArgumentParser:
    sizes, batches = Problem(60_000, 100), Batches()
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument(
        "--repeats", type=int, default=15, help="rounds in which every case is timed once"
    )
    parser.add_argument(
        "--steps", type=int, default=sizes.steps, help="steps of the MLP that are timed at once"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=list(batches.mlp))
    parser.add_argument("--examples", type=int, default=sizes.examples)
    parser.add_argument("--accumulated_batch", type=int, default=batches.accumulated)
    parser.add_argument("--vit", default=sizes.vit)
    parser.add_argument("--vit_batch", type=int, default=batches.vit)
    parser.add_argument("--small_vit", default=sizes.small_vit)
    parser.add_argument("--small_vit_batch", type=int, default=batches.small_vit)
    parser.add_argument("--pixels", type=int, default=sizes.pixels)
    parser.add_argument(
        "--peak_sizes", type=int, nargs="+", default=[1024, 2048], help="sides of square matrices"
    )
    parser.add_argument(
        "--records", type=int, default=sizes.records, help="JPEGs in an epoch of the data pipeline"
    )
    parser.add_argument(
        "--floats", type=int, default=sizes.floats, help="size of the state that is saved"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


def differences(
    workers: Mapping[str, Worker], batches: Sequence[int], vit_batch: int
) -> dict[str, dict[str, float]]:
    """`check` of every way to compute each problem that this machine has what it needs for."""
    ways = {
        "": ("check", "check"),
        ", compiled": ("check", "check compiled"),
        ", population": ("check", "check population"),
        ", population compiled": ("check", "check population compiled"),
    }
    vits = {
        "": ("check vit", "check vit"),
        ", compiled": ("check vit", "check vit compiled"),
    }
    checks = {f"{batch}{way}": (batch, *pair) for batch in batches for way, pair in ways.items()}
    checks |= {f"vit, {vit_batch}{way}": (vit_batch, *pair) for way, pair in vits.items()}
    errors = {}
    for name, (batch, ours, theirs) in checks.items():
        with contextlib.suppress(Missing):  # said where the case itself is to be timed
            errors[name] = check(workers, batch, ours, theirs)
    return errors


def check(
    workers: Mapping[str, Worker], batch: int, ours: str = "check", theirs: str = "check"
) -> dict[str, float]:
    """How far the losses and the updates, or gradients, of the two sides lie apart: see `apart`.

    Raises:
      Missing: the machine of a worker lacks what its check needs.
    """
    return apart(answer(workers["kd"], ours, batch), answer(workers["torch"], theirs, batch))


def answer(worker: Worker, what: str, batch: int) -> dict[str, np.ndarray]:
    """The arrays of the worker's check `what`.

    Raises:
      Missing: its machine lacks what the check needs.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = str(pathlib.Path(folder, "answer.npz"))
        worker.ask(what, batch, file)
        return dict(np.load(file))


def apart(values: Mapping[str, np.ndarray], peer: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How far arrays of the same names lie apart, relative to the peer's largest value."""
    return {
        key: float(np.abs(values[key] - array).max() / np.abs(array).max())
        for key, array in peer.items()
    }


@dataclasses.dataclass
class Measured:
    """Milliseconds per step, one value a round; the most programs that a training run compiled; and
    why what is missing among the cases is.
    """

    samples: dict[Case, np.ndarray]
    compiles: int
    missing: dict[str, str]


def measure(
    workers: Mapping[str, Worker], cases: Sequence[Case], repeats: int, title: str
) -> Measured:
    """Every case once a round.

    The first round compiles and is thrown away; what the machine lacks is said and left out from
    there on. Each later round starts with another case and turns the order round, so that a drift
    of the machine hits all cases alike.
    """
    samples: dict[Case, list[float]] = {case: [] for case in cases}
    missing: dict[str, str] = {}
    compiles = 0
    for i in range(repeats + 1):
        there = list(samples)
        turn = there[i % len(there) :] + there[: i % len(there)]
        for case in turn[:: -1 if i % 2 else 1]:
            time.sleep(SETTLE_SECONDS)
            try:
                reply = workers[case.side].ask(case.name, case.batch)
            except Missing as lacking:
                missing[str(case)] = str(lacking)
                del samples[case]
                print(f"left out: {case}: {lacking}", file=sys.stderr, flush=True)
                continue
            samples[case].append(reply["seconds"] * 1e3)
            compiles = max(compiles, reply.get("compiles", 0) if i else 0)
        of = "warm-up" if i == 0 else f"round {i} of {repeats}"
        print(f"{title}: {of}", file=sys.stderr, flush=True)
    times = {case: np.asarray(values[1:]) for case, values in samples.items()}
    return Measured(times, compiles, missing)


if __name__ == "__main__":
    sys.exit(main())
