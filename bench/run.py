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

from bench import claims
from bench.claims import Batches, Case
from bench.problem import WIDTHS, Problem
from bench.worker import Worker
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
    problem = _problem(args)
    groups = claims.groups(_batches(args), args.vit, args.small_vit)
    with Worker("bench.with_kd", problem) as kd, Worker("bench.with_torch", problem) as torch:
        workers = {"kd": kd, "torch": torch}
        difference = {str(batch): check(workers, batch) for batch in args.batches}
        difference[f"vit, {args.vit_batch}"] = check(workers, args.vit_batch, "check vit")
        worst = max(value for errors in difference.values() for value in errors.values())
        if not worst < TOLERANCE:
            print(
                f"kd and PyTorch do not compute the same: they differ by {worst:.1e}",
                file=sys.stderr,
            )
            return 1
        measured = [
            measure(workers, claims.cases(group), args.repeats, group[0].name) for group in groups
        ]
        inside = claims.parts(args.vit_batch)
        of_parts, _ = measure(workers, claims.cases(inside), args.repeats, "parts of the ViT")
    samples = {case: values for cases, _ in measured for case, values in cases.items()}
    results = {
        "command": " ".join(["python -m bench.run", *(sys.argv[1:] if argv is None else argv)]),
        **_settings(args, load),
        "relative_difference": difference,
        "compiles_per_run": max(compiles for _, compiles in measured),
        "comparisons": [claim.judged(samples) for group in groups for claim in group],
        "vit_parts": [claim.judged(of_parts) for claim in inside],
        "ms_per_step": {
            str(case): claims.spread(values) for case, values in (samples | of_parts).items()
        },
    }
    save(args.out, results)
    return 0


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


def _settings(args: argparse.Namespace, load: float) -> dict[str, Any]:
    """What was measured, and on what."""
    return {
        "student": "-".join(map(str, WIDTHS)),
        "examples": args.examples,
        "steps": args.steps,
        "pixels": args.pixels,
        "state_megabytes": round(4e-6 * args.floats),
        "repeats": args.repeats,
        "machine": {
            **machine(),
            "load_before": round(load, 2),
            "load_after": round(os.getloadavg()[0], 2),
        },
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }


def save(path: pathlib.Path, results: Mapping[str, Any]) -> None:
    """Into a file of results, whose other entries stay: a GPU is measured in a run of its own."""
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
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
        "--records", type=int, default=sizes.records, help="JPEGs in an epoch of the data pipeline"
    )
    parser.add_argument(
        "--floats", type=int, default=sizes.floats, help="size of the state that is saved"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


def check(workers: Mapping[str, Worker], batch: int, what: str = "check") -> dict[str, float]:
    """How far the losses and the updates, or gradients, of the two sides lie apart, relative to
    their largest value.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = {}
        for name, worker in workers.items():
            file = str(pathlib.Path(folder, f"{name}.npz"))
            worker.ask(what, batch, file)
            outputs[name] = dict(np.load(file))
    ours, theirs = outputs["kd"], outputs["torch"]
    return {
        key: float(np.abs(ours[key] - theirs[key]).max() / np.abs(theirs[key]).max())
        for key in theirs
    }


def measure(
    workers: Mapping[str, Worker], cases: Sequence[Case], repeats: int, title: str
) -> tuple[dict[Case, np.ndarray], int]:
    """Milliseconds per step, one value a round, and the most programs that a training run compiled.

    The first round compiles and is thrown away. Each later round starts with another case and turns
    the order round, so that a drift of the machine hits all cases alike.
    """
    samples: dict[Case, list[float]] = {case: [] for case in cases}
    compiles = 0
    for i in range(repeats + 1):
        turn = cases[i % len(cases) :] + cases[: i % len(cases)]
        for case in turn[:: -1 if i % 2 else 1]:
            time.sleep(SETTLE_SECONDS)
            reply = workers[case.side].ask(case.name, case.batch)
            samples[case].append(reply["seconds"] * 1e3)
            compiles = max(compiles, reply.get("compiles", 0) if i else 0)
        of = "warm-up" if i == 0 else f"round {i} of {repeats}"
        print(f"{title}: {of}", file=sys.stderr, flush=True)
    return {case: np.asarray(values[1:]) for case, values in samples.items()}, compiles


if __name__ == "__main__":
    sys.exit(main())
