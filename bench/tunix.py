"""Time a distillation step beside tunix's, a library of JAX too, which needs an environment of its
own.

Writes the entry ``tunix`` of this machine in ``bench/results.json``.
Run: ``python -m venv tunix; tunix/bin/pip install google-tunix==0.1.7 jax==0.10.2 torch; python -m
bench.tunix --python tunix/bin/python``.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from bench import claims
from bench.claims import Case, Claim
from bench.entry import Entry
from bench.problem import Problem
from bench.run import RESULTS, TOLERANCE, answer, apart, measure
from bench.worker import Worker

REACH = 1.5
_VERSIONS = """
import importlib.metadata as of
print(of.version("google-tunix"), of.version("jax"), of.version("flax"))
"""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    entry = Entry("tunix", argv)
    problem = Problem(args.examples, args.steps)
    asked = subprocess.run(
        [args.python, "-c", _VERSIONS], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        print(f"{args.python} has no tunix; see --help for what to install", file=sys.stderr)
        return 2
    with (
        Worker("bench.tunix_kd", problem) as kd,
        Worker("bench.tunix_peer", problem, python=args.python) as tunix,
    ):
        workers = {"kd": kd, "tunix": tunix}
        difference = apart(
            answer(kd, "check", args.batch[0]), answer(tunix, "check", args.batch[0])
        )
        if not difference["update"] < TOLERANCE:
            print(f"kd and tunix do not compute the same: {difference}", file=sys.stderr)
            return 1
        group = [claim for batch in args.batch for claim in _claims(batch)]
        samples = measure(workers, claims.cases(group), args.repeats, "tunix").samples
    values = {
        "command": f"python -m bench.tunix --python PYTHON --repeats {args.repeats}",
        "steps": args.steps,
        "repeats": args.repeats,
        "relative_difference": difference["update"],
        "comparisons": [claim.judged(samples) for claim in group],
        "versions": dict(zip(("tunix", "jax", "flax"), asked.stdout.split(), strict=True)),
    }
    entry.save(args.out, values)
    return 0


def _claims(batch: int) -> list[Claim]:
    name, ours = f"live teacher, batch {batch}", Case("kd", "step", batch)
    return [
        Claim(name, ours, Case("tunix", "step", batch), "its step", at_least=REACH),
        Claim(name, ours, Case("tunix", "train", batch), "its loop"),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.tunix", description=__doc__)
    parser.add_argument("--python", required=True, help="the interpreter that has tunix")
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--steps", type=int, default=50, help="that are timed at once")
    parser.add_argument("--repeats", type=int, default=5, help="rounds in which both are timed")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
