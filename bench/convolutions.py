"""Time ResNets on images of 32 pixels beside PyTorch, as a population, and with a feature loss.

Writes the entry ``convolutions`` of this machine in ``bench/results.json``.
Run: ``python -m bench.convolutions``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bench import claims, cpu
from bench import conv_problem as c
from bench.claims import EAGER, Case, Claim, Group
from bench.problem import Problem
from bench.run import RESULTS, TOLERANCE, check, measure, save
from bench.worker import Missing, Worker
from kd.evidence import machine

REACH = 0.7
"""Of PyTorch's speed: its convolutions are oneDNN's."""


def groups(batch: int) -> list[Group]:
    """Every claim, in groups that are timed in turns."""
    return [*(_peers(depth, batch) for depth in c.DEPTHS), _own(batch)]


def _peers(depth: int, batch: int) -> Group:
    name, ours = f"ResNet-{depth}, batch {batch}", Case("kd", f"resnet {depth}", batch)
    eager, by_compiler = (Case("torch", f"resnet {depth}{way}", batch) for way in ("", " compiled"))
    return [
        Claim(name, ours, eager, EAGER, at_least=REACH),
        Claim(name, ours, by_compiler, "PyTorch compiled"),
    ]


def _own(batch: int) -> Group:
    depth = c.DEPTHS[0]
    single = Case("kd", f"resnet {depth}", batch)
    return [
        Claim(
            f"population of {c.MEMBERS} ResNet-{depth}, batch {batch}",
            Case("kd", "population", batch),
            single,
            f"{c.MEMBERS} single runs",
            c.MEMBERS,
            at_most=1.1,
        ),
        Claim(
            f"ResNet-{depth} with a live teacher and hidden_mse, batch {batch}",
            Case("kd", "features", batch),
            Case("kd", "no features", batch),
            "without hidden_mse",
            at_most=1.1,
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    load, here = os.getloadavg()[0], {**machine(), **cpu.here()}
    problem = Problem(args.examples, args.steps)
    with Worker("bench.conv_kd", problem) as kd, Worker("bench.conv_torch", problem) as torch:
        workers = {"kd": kd, "torch": torch}
        difference = differences(workers, args.batch)
        worst = max(value for errors in difference.values() for value in errors.values())
        if not worst < TOLERANCE:
            print(f"kd and PyTorch differ by {worst:.1e}", file=sys.stderr)
            return 1
        results = _measured(workers, args)
    command = " ".join(["python -m bench.convolutions", *(sys.argv[1:] if argv is None else argv)])
    about = {**here, "load_before": round(load, 2), "load_after": round(os.getloadavg()[0], 2)}
    versions = {name: importlib.metadata.version(name) for name in ("jax", "torch")}
    record = {
        "command": command,
        "steps": args.steps,
        "repeats": args.repeats,
        "machine": about,
        "versions": versions,
        "relative_difference": difference,
        **results,
    }
    save(args.out, {"convolutions": record}, cpu.name(about))
    return 0


def _measured(workers: Mapping[str, Worker], args: argparse.Namespace) -> dict[str, Any]:
    comparisons, left_out = [], {}
    for group in groups(args.batch):
        cases = claims.cases(group)
        measured = measure(workers, cases, args.repeats, group[0].name)
        flops = {case: _flops(case) for case in cases}
        comparisons += claims.judged(group, measured.samples, flops)
        left_out |= measured.missing
    return {"comparisons": comparisons, "left_out": left_out}


def _flops(case: Case) -> float | None:
    """Of a step, where that is convolutions of one network."""
    if not case.name.startswith("resnet"):
        return None
    return c.flops(int(case.name.split()[1]), case.batch)


def differences(workers: Mapping[str, Worker], batch: int) -> dict[str, dict[str, float]]:
    """How far the sides' losses and updates lie apart, relative to their largest value."""
    errors = {}
    for depth in c.DEPTHS:
        for way in ("", " compiled"):
            with contextlib.suppress(Missing):  # said where the case itself is to be timed
                ours, theirs = f"check {depth}", f"check {depth}{way}"
                errors[f"ResNet-{depth}{way}"] = check(workers, batch, ours, theirs)
    return errors


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.convolutions", description=__doc__)
    parser.add_argument("--examples", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="steps that are timed at once")
    parser.add_argument(
        "--repeats", type=int, default=5, help="rounds in which every case is timed once"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
