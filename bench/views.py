"""Time a step with a live teacher and with its answers to a fixed set of views, which are kept.

Writes the entry ``views`` of this machine in ``bench/results.json``.
Run: ``python -m bench.views``.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from bench.claims import spread
from bench.entry import Entry
from bench.problem import LEARNING_RATE, MOMENTUM, SCALE, TEMPERATURE, Problem
from bench.run import RESULTS, SETTLE_SECONDS
from bench.steps import seconds_of_a_step
from kd import data as kd_data
from kd.core import rng
from kd.core.members import make_members
from kd.core.optim import Optim, make_optimizer
from kd.core.terms import term
from kd.core.types import Teacher
from kd.models.mlp import mlp
from kd.placement.mesh import MeshSpec
from kd.teachers import make, precompute
from kd.training import loop
from kd.training.task import make_task

WIDTHS, TEACHER = (300, 300), (1200, 1200)
CLASSES = 10
PIXELS = 2


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    entry = Entry("views", argv)
    data = kd_data.arrays(*Problem(args.examples, 0).data()[:2], num_classes=CLASSES, scale=SCALE)
    rows = measured(data, args.views, args.batch, args.steps, args.repeats)
    values = {
        "student": "-".join(map(str, (784, *WIDTHS, CLASSES))),
        "teacher": "-".join(map(str, (784, *TEACHER, CLASSES))),
        "batch": args.batch,
        "examples": args.examples,
        "repeats": args.repeats,
        **rows,
    }
    entry.save(args.out, values)
    return 0


def measured(
    data: kd_data.Dataset, count: int, batch: int, steps: int, repeats: int
) -> dict[str, Any]:
    """Milliseconds of a step both ways, in turns, and what keeping the answers takes once.

    The first round compiles and is thrown away.
    """
    model, views = mlp(CLASSES, TEACHER), kd_data.fixed_views(kd_data.jitter(PIXELS), count=count)
    params, extra = model.init(rng.key(1), jnp.asarray(data.first))
    live = make.live(model, params, extra)
    start = time.perf_counter()
    table = precompute(live, data, views=views)
    seconds = time.perf_counter() - start
    ways = {
        name: seconds_of_a_step(_task(data, teacher, views, batch, steps))
        for name, teacher in (("live", live), ("kept", table))
    }
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(repeats + 1):
        for name in list(ways)[:: 1 if i % 2 else -1]:
            time.sleep(SETTLE_SECONDS)
            samples[name].append(ways[name]() * 1e3)
    values = {name: np.asarray(times[1:]) for name, times in samples.items()}
    assert table.manifest is not None
    return {
        "views": count,
        "ms": {name: spread(times) for name, times in values.items()},
        "ratio": spread(values["live"] / values["kept"]),
        "once": {"seconds": round(seconds, 2), "bytes": table.manifest.bytes},
    }


def _task(
    data: kd_data.Dataset, teacher: Teacher, views: kd_data.FixedViews, batch: int, steps: int
) -> loop.Task:
    terms = [term("soft_targets", temperature=TEMPERATURE)]
    return make_task(
        mlp(CLASSES, WIDTHS),
        data,
        terms,
        make_members(terms, {}, LEARNING_RATE),
        optimizer=make_optimizer(Optim(momentum=MOMENTUM)),
        steps=steps,
        batch_size=batch,
        teacher=teacher,
        view=views,
        mesh=MeshSpec(devices=1),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.views", description=__doc__)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=50, help="that are timed at once")
    parser.add_argument("--repeats", type=int, default=5, help="rounds in which both are timed")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
