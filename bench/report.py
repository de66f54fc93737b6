"""The results as tables in docs/scaling.md, and a line in the README.

Run: ``python -m bench.report``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from bench import machines as over
from bench import own_tables, tables
from bench.machines import Machines
from bench.plan_accuracy import OUT as ACCURACY
from bench.run import RESULTS
from kd.errors import KdError
from kd.pages.report import fill_file

SCALING = RESULTS.parents[1] / "docs" / "scaling.md"
README = RESULTS.parents[1] / "README.md"
MARKER = "bench"
ACCURACY_MARKER = "plan accuracy"
SPEED_MARKER = "speed"
OTHERS = {
    "members": own_tables.members,
    "views": own_tables.views,
    "tunix": own_tables.tunix,
    "images": own_tables.images,
    "streams": own_tables.streams,
    "convolutions": own_tables.convolutions,
    "agreement": own_tables.agreement,
    "lost work": own_tables.lost_work,
    "buckets": own_tables.buckets,
}
"""The tables of other commands than ``bench.run``, by their entry of a machine."""


def scaling(results: Mapping[str, Any]) -> str:
    """The machines, the claims over all of them, what is not met, each machine alone, the GPU."""
    machines = {
        name: result for name, result in results["machines"].items() if "comparisons" in result
    }
    others = [
        table(result[entry], name)
        for entry, table in OTHERS.items()
        for name, result in results["machines"].items()
        if entry in result
    ]
    return "\n\n".join(
        [
            tables.peaks(machines),
            tables.claims(machines),
            _missed(machines),
            *(tables.one_machine(name, result) for name, result in machines.items()),
            tables.gpu(results.get("gpu")),
            *others,
        ]
    )


def speed(results: Mapping[str, Any]) -> str:
    """The README's line: the lowest ratio over the machines, whatever it is."""
    machines = {
        name: result for name, result in results["machines"].items() if "comparisons" in result
    }
    ratios = [
        f"{ratio:.2f} times that of {peer} ({name})"
        for name, (ratio, peer) in over.against_pytorch(machines).items()
    ]
    return (
        f"On a CPU, kd's speed is {'; '.join(ratios)}. Each is the lowest of the machines that are "
        f"recorded: {'; '.join(machines)}."
    )


def accuracy(results: Mapping[str, Any]) -> str:
    """What ``kd plan`` said of a step beside what the device reported."""
    kind = "of the device" if results["rows"][0]["memory"]["kind"] == "device" else "of the process"
    rows = [
        f"| {row['case']} | {_pair(row['memory'], 1e6)} | {_pair(row['flops'], 1e9)} |"
        for row in results["rows"]
    ]
    return "\n".join(
        [
            "| step | memory said, MB | found, MB | said / found | FLOPs said, G | found, G | "
            "said / found |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            "",
            f"Found: the peak memory {kind}, less what it was before; FLOPs as XLA counts them in "
            "the same step "
            f"without loops. {results['machine']['cpu']} ({results['device']}), "
            f"{results['machine']['cores']} cores; "
            f"JAX {results['machine']['versions']['jax']}. To repeat it: `{results['command']}`.",
        ]
    )


def main() -> int:
    if not RESULTS.exists():
        print(f"there is no {RESULTS.name} yet; type: python -m bench.run", file=sys.stderr)
        return 2
    results = json.loads(RESULTS.read_text("utf-8"))
    said = json.loads(ACCURACY.read_text("utf-8"))
    for path, marker, content in (
        (SCALING, MARKER, scaling(results)),
        (README, SPEED_MARKER, speed(results)),
        (SCALING, ACCURACY_MARKER, accuracy(said)),
    ):
        try:
            fill_file(path, marker, content)
        except KdError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 2
    return 0


def _pair(pair: Mapping[str, float], unit: float) -> str:
    predicted, reported = pair["predicted"], pair["reported"]
    return f"{predicted / unit:,.1f} | {reported / unit:,.1f} | {predicted / reported:.2f}"


def _missed(machines: Machines) -> str:
    missed = [f"{row.name} ({row.peer})" for row in over.rows(machines) if row.met is False]
    if not missed:
        return "Every claim of the table is met on every machine that is recorded."
    return f"Not met on every machine that is recorded: {'; '.join(missed)}."


if __name__ == "__main__":
    sys.exit(main())
