"""Time ResNets on images of 32 pixels beside PyTorch, as a population, and with a feature loss.

Writes the entry ``convolutions`` of this machine in ``bench/results.json``.
Run: ``python -m bench.convolutions``.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bench import claims
from bench import conv_problem as c
from bench.claims import EAGER, Case, Claim, Group
from bench.entry import Entry
from bench.problem import Problem
from bench.run import RESULTS, TOLERANCE, answer, apart, check, measure
from bench.worker import Missing, Worker

REACH = 0.7
"""Of PyTorch's speed: its convolutions are oneDNN's."""
OTHER = f"{EAGER}, another form of kd's"


def groups(batch: int) -> list[Group]:
    """Every claim, in groups that are timed in turns."""
    return [*(_peers(depth, batch) for depth in c.DEPTHS), _own(batch)]


def _peers(depth: int, batch: int) -> Group:
    name, ours = f"ResNet-{depth}, batch {batch}", Case("kd", f"resnet {depth}", batch)
    eager, by_compiler = (Case("torch", f"resnet {depth}{way}", batch) for way in ("", " compiled"))
    return [
        Claim(name, ours, eager, EAGER, at_least=REACH),
        Claim(name, ours, by_compiler, "PyTorch compiled"),
        Claim(f"{name}, by oneDNN", Case("kd", f"resnet {depth} by oneDNN", batch), eager, EAGER),
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


def layers(batch: int) -> Group:
    """A step's layers alone: where the time goes."""
    own = [Claim(n, Case("kd", n, batch), Case("torch", n, batch), EAGER) for n in c.PARTS]
    others = [
        Claim(name, Case("kd", f"{name}, {part.other}", batch), Case("torch", name, batch), OTHER)
        for name, part in c.PARTS.items()
        if part.other
    ]
    return [*own, *others]


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    entry = Entry("convolutions", argv)
    problem = Problem(args.examples, args.steps)
    with Worker("bench.conv_kd", problem) as kd, Worker("bench.conv_torch", problem) as torch:
        workers = {"kd": kd, "torch": torch}
        difference, rounding = compared(workers, args.batch)
        worst = max(value for errors in difference.values() for value in errors.values())
        if not worst < TOLERANCE:
            print(f"kd and PyTorch differ by {worst:.1e}: {difference}", file=sys.stderr)
            return 1
        results = _measured(workers, args)
    values = {
        "steps": args.steps,
        "repeats": args.repeats,
        "relative_difference": difference,
        "from_float64": rounding,
        **results,
    }
    entry.save(args.out, values, ("jax", "torch"))
    return 0


def _measured(workers: Mapping[str, Worker], args: argparse.Namespace) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {"comparisons": [], "layers": []}
    left_out: dict[str, str] = {}
    of_steps = [("comparisons", group) for group in groups(args.batch)]
    for title, group in [*of_steps, ("layers", layers(args.batch))]:
        cases = claims.cases(group)
        measured = measure(workers, cases, args.repeats, group[0].name)
        rows[title] += claims.judged(
            group, measured.samples, {case: _flops(case) for case in cases}
        )
        left_out |= measured.missing
    return {**rows, "left_out": left_out}


def _flops(case: Case) -> float | None:
    """Of a step or of a layer, where that is convolutions of one network."""
    if case.name.startswith("resnet"):
        return c.flops(int(case.name.split()[1]), case.batch)
    part = c.PARTS.get(case.name)
    return None if part is None or part.way == c.NORM else part.layer.flops(case.batch)


Errors = dict[str, dict[str, float]]


def compared(workers: Mapping[str, Worker], batch: int) -> tuple[Errors, Errors]:
    """How far the sides' losses and updates lie apart, relative to their largest value; and how far
    each side's first update lies from float64's.

    What is judged is the former, with SiLU in the place of ReLU. Where a value lies so near to zero
    that rounding decides its sign, one side lets its gradient through a ReLU and the other does
    not. Among millions some always do, since batch normalisation scales all values to a deviation
    of one, and each of them moves the gradients of every layer below. Two sides that are both right
    then lie apart by a hundred times what any of their sums is off: PyTorch from itself where it
    computes without oneDNN, and from float64 as far as kd does, which is recorded beside. With ReLU
    the loss of the first step is judged, which follows no gradient yet.
    """
    errors, rounding = {}, {}
    for depth in c.DEPTHS:
        name = f"ResNet-{depth}"
        errors |= _smooth(workers, depth, batch)
        ours, peer, exact = (
            answer(workers[side], f"check {depth}{of}", batch)
            for side, of in (("kd", ""), ("torch", ""), ("torch", " in float64"))
        )
        first = ({"loss": of["loss"][:1]} for of in (ours, peer))
        errors[f"{name} with ReLU"] = apart(*first)
        rounding[name] = {
            side: apart(of, exact)["update"] for side, of in (("kd", ours), ("torch", peer))
        }
    return errors, rounding


def _smooth(workers: Mapping[str, Worker], depth: int, batch: int) -> Errors:
    """Every way to compute a step with SiLU that this machine has what it needs for."""
    peer = f"check {depth} smooth"
    ways = {"": (peer, peer), " by oneDNN": (f"{peer} by oneDNN", peer)}
    if depth == c.DEPTHS[0]:  # a deeper one takes PyTorch long to compile, and is more of the same
        ways[" compiled"] = (peer, f"{peer} compiled")
    errors = {}
    for way, (ours, theirs) in ways.items():
        with contextlib.suppress(Missing):  # said where the case itself is to be timed
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
