"""The results as a table in the README. Run: ``python -m bench.report``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from bench.run import RESULTS
from kd.errors import KdError
from kd.report import fill_file

README = RESULTS.parents[1] / "README.md"
MARKER = "bench"


def table(results: Mapping[str, Any]) -> str:
    """The claims as Markdown, with what they were measured on underneath."""
    machine, versions = results["machine"], results["versions"]
    difference = max(value for found in results["relative_difference"].values() for value in found.values())
    return "\n".join(
        [
            "| case | kd, ms/step | peer, ms/step | ratio (quartiles) | reach | met |",
            "| --- | ---: | ---: | ---: | --- | --- |",
            *map(_row, results["comparisons"]),
            f"| programs compiled by a training run | {results['compiles_per_run']} | | | 1 "
            f"| {_yes(results['compiles_per_run'] == 1)} |",
            "",
            f"Student {results['student']}, float32, SGD with momentum, {results['examples']:,} cached soft targets; "
            f"medians of {results['repeats']} rounds of {results['steps']} steps, cases in turns, ratios within a "
            f"round. The two sides' losses and updates differ by at most {difference:.0e} of their largest value. "
            f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, JAX {versions['jax']}, "
            f"PyTorch {versions['torch']}. To repeat it: `{results['command']}`.",
        ]
    )


def main() -> int:
    if not RESULTS.exists():
        print(f"there is no {RESULTS.name} yet; type: python -m bench.run", file=sys.stderr)
        return 2
    try:
        fill_file(README, MARKER, table(json.loads(RESULTS.read_text("utf-8"))))
    except KdError as error:
        print(f"{README.name}: {error}", file=sys.stderr)
        return 2
    return 0


def _row(row: Mapping[str, Any]) -> str:
    ratio = row["ratio"]
    if "at_least" in row["reach"]:
        reach = f"at least {row['reach']['at_least']:g}x the speed of {row['peer']}"
    else:
        reach = f"at most {row['reach']['at_most']:g}x the time of {row['peer']}"
    return (
        f"| {row['name']} | {row['kd_ms']:.2f} | {row['peer_ms']:.2f} "
        f"| {ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f}) | {reach} | {_yes(row['met'])} |"
    )


def _yes(met: bool) -> str:
    return "yes" if met else "no"


if __name__ == "__main__":
    sys.exit(main())
