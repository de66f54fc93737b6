"""The tables of ``bench.run`` and of the GPU, from what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench import machines as over
from bench.cells import NOTHING, judged, left_out, ratio, reach, yes
from bench.machines import Machines, Result, Row
from bench.vit_problem import PARTS


def peaks(machines: Machines) -> str:
    """What each machine is, and its peak."""
    return "\n".join(
        [
            "| machine | peak by JAX, GFLOP/s | by PyTorch | load before, after | JAX | PyTorch |",
            "| --- | ---: | ---: | --- | --- | --- |",
            *(_machine(name, result) for name, result in machines.items()),
            "",
            "The peak is the best of several products of square float32 matrices, both sides in "
            "turns. Where family and model are missing they were not recorded.",
        ]
    )


def claims(machines: Machines) -> str:
    """Every claim with its ratio on each machine; the lowest decides."""
    compiles = {name: result["compiles_per_run"] for name, result in machines.items()}
    most = max(compiles.values())
    return "\n".join(
        [
            f"| case | peer | {' | '.join(machines)} | lowest | reach | met |",
            f"| --- | --- | {'--- | ' * len(machines)}---: | --- | --- |",
            *(_claim(row, machines) for row in over.rows(machines)),
            f"| programs compiled by a training run | | {' | '.join(map(str, compiles.values()))} "
            f"| {most} | 1 | {yes(most == 1)} |",
            "",
            "Ratios are medians of rounds, with their quartiles: the peer's time over kd's, and "
            "kd's over the peer's where a time is bounded. Lowest: the ratio of "
            "the machine on which kd does worst, by which a claim is judged. The best of PyTorch "
            "is the fastest of its rows, which is named.",
        ]
    )


def one_machine(name: str, result: Result) -> str:
    """Milliseconds and shares of the peak on one machine, and the parts of a ViT's step."""
    return "\n\n".join([_cases(name, result), _parts(result)])


def _cases(name: str, result: Result) -> str:
    difference = max(
        value for errors in result["relative_difference"].values() for value in errors.values()
    )
    lines = [
        f"{name}:",
        "",
        "| case | peer | kd, ms | peer, ms | GFLOP | kd's share of the peak | peer's share |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *(_times(row, result) for row in result["comparisons"]),
        "",
        f"Milliseconds per step, checkpoint or batch. Student {result['student']}, float32, "
        f"SGD with momentum, {result['examples']:,} cached soft targets, {result['steps']} steps "
        f"at a time; ViT on {result['pixels']} pixels, float32, Adam; a state of "
        f"{result['state_megabytes']} MB; JPEGs of {result['pixels']} pixels. Medians of "
        f"{result['repeats']} rounds, cases in turns, ratios within a round. GFLOP: the products "
        "of matrices of a step. The two sides' losses, updates and gradients differ by at most "
        f"{difference:.0e} of their largest value. {_versions(result)} To repeat it: "
        f"`{result['command']}`.",
        *left_out(result.get("left_out", {})),
    ]
    return "\n".join(lines)


def _parts(result: Result) -> str:
    rows = result["vit_parts"]
    own = [row for row in rows if row["name"] in PARTS]
    worst = min(own, key=lambda row: row["peer_ms"] - row["kd_ms"])
    behind = worst["kd_ms"] - worst["peer_ms"]
    return "\n".join(
        [
            "The parts of the ViT's step alone, forward and backward, as often as the model has "
            "them:",
            "",
            "| part | kd, ms | PyTorch eager, ms | PyTorch's time over kd's (quartiles) | kd's "
            "share of the peak | PyTorch's |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *(
                f"| {row['name']} | {row['kd_ms']:.2f} | {row['peer_ms']:.2f} | "
                f"{ratio(row['ratio'])} | {_shares(row, result)} |"
                for row in rows
            ),
            "",
            f"The part that loses most is {worst['name']}, by {behind:.0f} ms a step."
            if behind > 0
            else "No part is slower than PyTorch's.",
        ]
    )


def gpu(record: Mapping[str, Any] | None) -> str:
    """The GPU's entry, or that there is none."""
    if record is None:
        return "No GPU was there to measure on; `python -m bench.gpu` does it where there is one."
    names = {"kd": "kd", "torch": "PyTorch compiled"}
    comparison = record["comparison"]
    return "\n".join(
        [
            f"A {record['student']} student with a live {record['teacher']} teacher, "
            f"{record['pixels']} pixels, batch {record['batch']}, bfloat16, Adam, on one "
            f"{record['machine']['devices']}. Its own rate in products of matrices of "
            f"{record['matmul']['size']} is {record['matmul']['tflops']['median']:.3g} TFLOP/s:",
            "",
            "| | ms/step | images/s | part of that rate (quartiles) |",
            "| --- | ---: | ---: | ---: |",
            *(
                f"| {names[side]} | {row['ms_per_step']['median']:.2f} | "
                f"{row['images_per_second']['median']:,.0f} "
                f"| {ratio(row['part_of_ceiling'])} |"
                for side, row in record["sides"].items()
            ),
            "",
            *(
                []
                if comparison is None
                else [f"PyTorch's time over kd's: {ratio(comparison['ratio'])}."]
            ),
            f"JAX {record['versions']['jax']}, PyTorch {record['versions']['torch'] or 'absent'}. "
            f"To repeat it: `{record['command']}`.",
        ]
    )


def _machine(name: str, result: Result) -> str:
    machine, versions = result["machine"], result["versions"]
    rates = result["peak"]["gflops"] if "peak" in result else {}
    kd, torch = (f"{rates[side]:.0f}" if side in rates else NOTHING for side in ("kd", "torch"))
    loads = f"{machine['load_before']:g}, {machine['load_after']:g}"
    return f"| {name} | {kd} | {torch} | {loads} | {versions['jax']} | {versions['torch']} |"


def _claim(row: Row, machines: Machines) -> str:
    cells = [_cell(row.measured[name]) if name in row.measured else NOTHING for name in machines]
    about = f"{row.lowest:.2f} | {reach(row.reach)} | {judged(row.met)}"
    return f"| {row.name} | {row.peer} | {' | '.join(cells)} | {about} |"


def _cell(row: Result) -> str:
    fastest = f", {row['fastest']}" if "fastest" in row else ""
    return f"{ratio(row['ratio'])}{fastest}"


def _times(row: Result, result: Result) -> str:
    work = f"{row['gflop']:.3g}" if row.get("gflop") else NOTHING
    peer = row.get("fastest", row["peer"])
    times = f"{row['kd_ms']:.2f} | {row['peer_ms']:.2f}"
    return f"| {row['name']} | {peer} | {times} | {work} | {_shares(row, result)} |"


def _shares(row: Result, result: Result) -> str:
    shares = (over.share(row, side, result) for side in ("kd", "peer"))
    return " | ".join(NOTHING if value is None else f"{value:.0%}" for value in shares)


def _versions(result: Result) -> str:
    machine, versions = result["machine"], result["versions"]
    return f"Python {machine['python']}, JAX {versions['jax']}, PyTorch {versions['torch']}."
