"""The results as tables in docs/scaling.md. Run: ``python -m bench.report``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from bench.plan_accuracy import OUT as ACCURACY
from bench.run import RESULTS
from kd.errors import KdError
from kd.pages.report import fill_file

SCALING = RESULTS.parents[1] / "docs" / "scaling.md"
MARKER = "bench"
ACCURACY_MARKER = "plan accuracy"


def table(results: Mapping[str, Any]) -> str:
    """The claims as Markdown, with what they were measured on underneath."""
    difference = max(
        value for errors in results["relative_difference"].values() for value in errors.values()
    )
    return "\n".join(
        [
            "| case | kd, ms | peer, ms | ratio (quartiles) | reach | met |",
            "| --- | ---: | ---: | ---: | --- | --- |",
            *map(_row, results["comparisons"]),
            f"| programs compiled by a training run | {results['compiles_per_run']} | | | 1 "
            f"| {_yes(results['compiles_per_run'] == 1)} |",
            "",
            f"Milliseconds per step, checkpoint or batch. Student {results['student']}, float32, "
            "SGD with momentum, "
            f"{results['examples']:,} cached soft targets, {results['steps']} steps at a time; "
            "ViT on "
            f"{results['pixels']} pixels, float32, Adam; a state of {results['state_megabytes']} "
            "MB; JPEGs of "
            f"{results['pixels']} pixels. Medians of {results['repeats']} rounds, cases in turns, "
            "ratios within a "
            "round. The two sides' losses, updates and gradients differ by at most "
            f"{difference:.0e} of their "
            f"largest value. {_measured_on(results)} To repeat it: `{results['command']}`.",
        ]
    )


def scaling(results: Mapping[str, Any]) -> str:
    """The claims, what is not met of them, the parts of a ViT's step, the GPU, and populations."""
    behind = [
        _missed(results),
        _parts(results),
        _gpu(results.get("gpu")),
        _members(results.get("members")),
    ]
    return "\n\n".join([table(results), *behind])


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
        (SCALING, ACCURACY_MARKER, accuracy(said)),
    ):
        try:
            fill_file(path, marker, content)
        except KdError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 2
    return 0


def _row(row: Mapping[str, Any]) -> str:
    ratio = row["ratio"]
    if "at_least" in row["reach"]:
        reach = f"at least {row['reach']['at_least']:g}x the speed of {row['peer']}"
    else:
        reach = f"at most {row['reach']['at_most']:g}x the time of {row['peer']}"
    return f"| {row['name']} | {_times(row)} | {_ratio(ratio)} | {reach} | {_yes(row['met'])} |"


def _times(row: Mapping[str, Any]) -> str:
    return f"{row['kd_ms']:.2f} | {row['peer_ms']:.2f}"


def _pair(pair: Mapping[str, float], unit: float) -> str:
    predicted, reported = pair["predicted"], pair["reported"]
    return f"{predicted / unit:,.1f} | {reported / unit:,.1f} | {predicted / reported:.2f}"


def _ratio(ratio: Mapping[str, Any]) -> str:
    return f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})"


def _missed(results: Mapping[str, Any]) -> str:
    missed = [row["name"] for row in results["comparisons"] if not row["met"]]
    if not missed:
        return "Every claim of the table is met."
    return f"Not met in the run that is recorded: {'; '.join(missed)}."


def _parts(results: Mapping[str, Any]) -> str:
    rows = results["vit_parts"]
    worst = min(rows, key=lambda row: row["peer_ms"] - row["kd_ms"])
    slower = worst["kd_ms"] > worst["peer_ms"]
    return "\n".join(
        [
            "The parts of the ViT's step alone, forward and backward, as often as the model has "
            "them:",
            "",
            "| part | kd, ms | PyTorch eager, ms | PyTorch's time over kd's (quartiles) |",
            "| --- | ---: | ---: | ---: |",
            *(f"| {row['name']} | {_times(row)} | {_ratio(row['ratio'])} |" for row in rows),
            "",
            f"The part that loses most is {worst['name']}, by "
            f"{worst['kd_ms'] - worst['peer_ms']:.0f} ms a step."
            if slower
            else "No part is slower than PyTorch's.",
            f"Measured on {_measured_on(results)}",
        ]
    )


def _measured_on(results: Mapping[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']:g} before and "
        f"{machine['load_after']:g} after; Python {machine['python']}, JAX {versions['jax']}, "
        "PyTorch "
        f"{versions['torch']}."
    )


def _gpu(gpu: Mapping[str, Any] | None) -> str:
    if gpu is None:
        return "No GPU was there to measure on; `python -m bench.gpu` does it where there is one."
    names = {"kd": "kd", "torch": "PyTorch compiled"}
    comparison = gpu["comparison"]
    return "\n".join(
        [
            f"A {gpu['student']} student with a live {gpu['teacher']} teacher, {gpu['pixels']} "
            "pixels, batch "
            f"{gpu['batch']}, bfloat16, Adam, on one {gpu['machine']['devices']}. Its own rate in "
            "products of matrices "
            f"of {gpu['matmul']['size']} is {gpu['matmul']['tflops']['median']:.3g} TFLOP/s:",
            "",
            "| | ms/step | images/s | part of that rate (quartiles) |",
            "| --- | ---: | ---: | ---: |",
            *(
                f"| {names[side]} | {row['ms_per_step']['median']:.2f} | "
                f"{row['images_per_second']['median']:,.0f} "
                f"| {_ratio(row['part_of_ceiling'])} |"
                for side, row in gpu["sides"].items()
            ),
            "",
            *(
                []
                if comparison is None
                else [f"PyTorch's time over kd's: {_ratio(comparison['ratio'])}."]
            ),
            f"JAX {gpu['versions']['jax']}, PyTorch {gpu['versions']['torch'] or 'absent'}. To "
            "repeat it: "
            f"`{gpu['command']}`.",
        ]
    )


def _members(members: Mapping[str, Any] | None) -> str:
    if members is None:
        return "Populations were not measured; `python -m bench.members` does it."
    ways = list(members["rows"][0]["ms"])
    machine = members["machine"]
    return "\n".join(
        [
            f"Milliseconds of one member's step, students {members['student']}, batch "
            f"{members['batch']}, float32, SGD with momentum:",
            "",
            f"| members | {' | '.join(ways)} | auto is | auto over the best way (quartiles) | at "
            "most 1.1 |",
            f"| ---: | {'---: | ' * len(ways)}--- | ---: | --- |",
            *(
                f"| {row['members']:,} | {' | '.join(_median(row['ms'][way]) for way in ways)} | "
                f"{row['auto']} | {_ratio(row['ratio'])} | {_yes(row['met'])} |"
                for row in members["rows"]
            ),
            "",
            f"Medians of {members['repeats']} rounds, ways in turns. {machine['cpu']}, "
            f"{machine['cores']} cores, load {machine['load_before']:g} before and "
            f"{machine['load_after']:g} after; JAX {members['versions']['jax']}. To repeat it: "
            f"`{members['command']}`.",
        ]
    )


def _median(spread: Mapping[str, Any]) -> str:
    return f"{spread['median']:.2f}"


def _yes(met: bool) -> str:
    return "yes" if met else "no"


if __name__ == "__main__":
    sys.exit(main())
