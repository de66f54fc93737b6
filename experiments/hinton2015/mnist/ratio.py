"""What a population costs: its time a step over that of its members one at a time, measured side by
side.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import statistics
import time
from collections.abc import Mapping
from typing import Any

import kd
from kd.config import Spec, resolve
from kd.core import product
from kd.data import load
from kd.runs import Done, build_task
from kd.teachers import precompute
from kd.training import Cadence, run

DISPATCHES, STEPS = 6, 25


def measure_ratio(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    run: Mapping[str, Any],
    members: int,
    widths: tuple[int, ...],
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Seconds a step of a population of `members` at each width, and of one run, in turns; and
    their ratio.

    The ratio is ``population / (members * single)``: 1 is as fast as one run after the other, less
    is faster.
    """
    del folder
    spec = resolve(run)
    data = load(spec.data.source, spec.data.train, data_dir)
    teacher = precompute(done["teachers"].trained().teacher(), data)
    rows = []
    for width in widths:
        layers = len(spec.student.get("widths", (0, 0)))
        one = dataclasses.replace(
            spec, student={**spec.student, "widths": (width,) * layers}, population={}
        )
        many = dataclasses.replace(one, population=product(seed=range(members)))
        single, together = (_seconds_per_step(s, data, teacher) for s in (one, many))
        rows.append({"width": width, "members": members, "single": single, "population": together})
    return {
        "rows": [{**row, "ratio": row["population"] / (members * row["single"])} for row in rows]
    }


def _seconds_per_step(spec: Spec, data: kd.Dataset, teacher: Any) -> float:
    """Median over dispatches, the first left out: it holds what happens once."""
    short = dataclasses.replace(spec, total_epochs=None, total_steps=DISPATCHES * STEPS)
    task, clock = build_task(short, data, teacher), []
    run(
        task,
        cadence=Cadence(dispatch=STEPS),
        start_writing=lambda _: [lambda *_: clock.append(time.perf_counter())],
    )
    return statistics.median(b - a for a, b in itertools.pairwise(clock[1:])) / STEPS
