"""The tables of the page, each from what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench import machines as over
from bench.line import REACH, knee, line
from bench.machines import Machines, Result, Row
from bench.vit_problem import PARTS

NOTHING = "—"


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
            f"| {most} | 1 | {_yes(most == 1)} |",
            "",
            "Ratios are medians of rounds, with their quartiles: the peer's time over kd's, and "
            "kd's over the peer's where a time is bounded. Lowest: the ratio of "
            "the machine on which kd does worst, by which a claim is judged. The best of PyTorch "
            "is the fastest of its rows, which is named.",
        ]
    )


def one(name: str, result: Result) -> str:
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
        *_left_out(result.get("left_out", {})),
    ]
    return "\n".join(lines)


def _left_out(reasons: Mapping[str, str]) -> list[str]:
    """A line for each reason."""
    cases: dict[str, list[str]] = {}
    for case, why in reasons.items():
        cases.setdefault(why, []).append(case)
    return [f"Left out: {'; '.join(names)}: {why}." for why, names in cases.items()]


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
                f"{_ratio(row['ratio'])} | {_shares(row, result)} |"
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
                f"| {_ratio(row['part_of_ceiling'])} |"
                for side, row in record["sides"].items()
            ),
            "",
            *(
                []
                if comparison is None
                else [f"PyTorch's time over kd's: {_ratio(comparison['ratio'])}."]
            ),
            f"JAX {record['versions']['jax']}, PyTorch {record['versions']['torch'] or 'absent'}. "
            f"To repeat it: `{record['command']}`.",
        ]
    )


def members(record: Mapping[str, Any], name: str) -> str:
    """Populations of many sizes, on the machine `name`."""
    rows, machine = record["rows"], record["machine"]
    ways = list(rows[0]["ms"])
    sizes = f"over the best size (quartiles) | at most {REACH:g}"
    return "\n".join(
        [
            f"Milliseconds of one member's step, students {record['student']}, batch "
            f"{record['batch']}, {rows[0]['steps']} steps a dispatch, float32, SGD with momentum:",
            "",
            f"| members | {' | '.join(ways)} | auto is | auto over the best way (quartiles) | at "
            f"most {REACH:g} | auto {sizes} |",
            f"| ---: | {'---: | ' * len(ways)}--- | ---: | --- | ---: | --- |",
            *(
                f"| {row['members']:,} | {' | '.join(_median(row['ms'][way]) for way in ways)} | "
                f"{row['auto']} | {_ratio(row['ratio'])} | {_yes(row['met'])} | {_size(ratio)} |"
                for row, ratio in zip(rows, line(rows), strict=True)
            ),
            "",
            f"Medians of {record['repeats']} rounds, ways in turns, size after size. {knee(rows)} "
            f"{name}, load {machine['load_before']:g} before and {machine['load_after']:g} after; "
            f"JAX {record['versions']['jax']}. To repeat it: `{record['command']}`.",
        ]
    )


def _size(ratio: Mapping[str, float] | None) -> str:
    if ratio is None:
        return f"{NOTHING} | {NOTHING}"
    return f"{_ratio(ratio)} | {_yes(ratio['median'] <= REACH)}"


def views(record: Mapping[str, Any], name: str) -> str:
    """A live teacher beside its kept answers to a fixed set of views, on the machine `name`."""
    machine, once = record["machine"], record["once"]
    times = record["ms"]
    return "\n".join(
        [
            f"A student {record['student']} of a teacher {record['teacher']}, batch "
            f"{record['batch']}, {record['views']} views of each example:",
            "",
            "| teacher live, ms/step | its answers kept, ms/step | live over kept (quartiles) | "
            "asked once, seconds | MB kept |",
            "| ---: | ---: | --- | ---: | ---: |",
            f"| {_median(times['live'])} | {_median(times['kept'])} | {_ratio(record['ratio'])} | "
            f"{once['seconds']:g} | {once['bytes'] / 1e6:.1f} |",
            "",
            f"{record['examples']:,} examples, medians of {record['repeats']} rounds, in turns. "
            f"{name}, load {machine['load_before']:g} before and {machine['load_after']:g} after; "
            f"JAX {record['versions']['jax']}. To repeat it: `{record['command']}`.",
        ]
    )


def images(record: Mapping[str, Any], name: str) -> str:
    """A folder of images beside its files decoded bare, and eq. 5, on the machine `name`."""
    machine, versions, equation = record["machine"], record["versions"], record["equation"]
    return "\n".join(
        [
            f"{record['files']:,} JPEGs in folders of classes, read into memory and decoded bare, "
            "by as many threads:",
            "",
            "| pixels | kd, seconds | bare, seconds | bare over kd (quartiles) | at least 0.8 |",
            "| ---: | ---: | ---: | --- | --- |",
            *(
                f"| {row['pixels']} | {_median(row['seconds']['kd'])} | "
                f"{_median(row['seconds']['bare'])} | {_ratio(row['ratio'])} | {_yes(row['met'])} |"
                for row in record["reading"]
            ),
            "",
            f"Eq. 5 of the 2015 paper for {equation['examples']:,} examples of "
            f"{equation['classes']} classes, {equation['specialists']} specialists, random logits:",
            "",
            "| top classes | first time, seconds | again | iterations at most | gradient at most | "
            "at most 10 s |",
            "| ---: | ---: | ---: | ---: | ---: | --- |",
            *(
                f"| {row['top']} | {row['seconds']['first']:g} | {row['seconds']['again']:g} | "
                f"{row['iterations']} | {row['gradient']:.0e} | {_yes(row['met'])} |"
                for row in equation["rows"]
            ),
            "",
            f"Medians of {record['repeats']} rounds, in turns; the first time compiles. {name}, "
            f"load {machine['load_before']:g} before and {machine['load_after']:g} after; JAX "
            f"{versions['jax']}, Pillow {versions['pillow']}. To repeat it: `{record['command']}`.",
        ]
    )


def streams(record: Mapping[str, Any], name: str) -> str:
    """A step on streamed data and in memory, threads and processes, on the machine `name`."""
    machine, versions = record["machine"], record["versions"]
    return "\n".join(
        [
            f"A student {record['student']}, batch {record['batch']}, {record['examples']:,} "
            "images of MNIST's form, the first epoch after opening and the second:",
            "",
            "| data | first, ms/step | second, ms/step | first over memory's (quartiles) | "
            "second over memory's | at most 5 |",
            "| --- | ---: | ---: | --- | --- | --- |",
            *(
                f"| {row['data']} | {' | '.join(map(_median, row['ms']))} | "
                f"{' | '.join(map(_ratio, row['ratio']))} | {_judged(row['met'])} |"
                for row in record["epochs"]
            ),
            "",
            f"To decode them once and keep them took {record['once']:g} s. Decoding alone, by "
            f"{record['workers']} threads and by as many processes, which send the images back:",
            "",
            "| images | pixels | threads, seconds | processes, seconds | the first time, started | "
            "threads' time over processes' (quartiles) | processes win, more than 1.3 |",
            "| --- | ---: | ---: | ---: | ---: | --- | --- |",
            *(
                f"| {row['images']:,} {row['form']}s | {row['pixels']} | "
                f"{_median(row['seconds']['threads'])} | {_median(row['seconds']['processes'])} | "
                f"{row['first']:g} | {_ratio(row['ratio'])} | {_yes(row['processes_win'])} |"
                for row in record["decoding"]
            ),
            "",
            f"Medians of {record['repeats']} rounds, in turns. {name}, load "
            f"{machine['load_before']:g} before and {machine['load_after']:g} after; JAX "
            f"{versions['jax']}, Pillow {versions['pillow']}. To repeat it: `{record['command']}`.",
        ]
    )


def _judged(met: bool | None) -> str:
    return "measured" if met is None else _yes(met)


def convolutions(record: Mapping[str, Any], name: str) -> str:
    """ResNets beside PyTorch, as a population and with a feature loss, on the machine `name`."""
    machine, versions = record["machine"], record["versions"]
    difference = max(
        value for errors in record["relative_difference"].values() for value in errors.values()
    )
    lines = [
        "ResNets on 32 pixels, float32, SGD with momentum; milliseconds of a step:",
        "",
        "| case | peer | kd, ms | peer, ms | ratio (quartiles) | reach | met |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
        *(_convolution(row) for row in record["comparisons"]),
        "",
        f"Medians of {record['repeats']} rounds, cases in turns, ratios as above. The two sides' "
        f"losses and updates differ by at most {difference:.0e} of their largest value. {name}, "
        f"load {machine['load_before']:g} before and {machine['load_after']:g} after; JAX "
        f"{versions['jax']}, PyTorch {versions['torch']}. To repeat it: `{record['command']}`.",
        *_left_out(record["left_out"]),
    ]
    return "\n".join(lines)


def _convolution(row: Result) -> str:
    met = _yes(row["met"]) if row["reach"] else "measured"
    times = f"{row['kd_ms']:.1f} | {row['peer_ms']:.1f} | {_ratio(row['ratio'])}"
    return f"| {row['name']} | {row['peer']} | {times} | {_reach(row['reach'])} | {met} |"


def _machine(name: str, result: Result) -> str:
    machine, versions = result["machine"], result["versions"]
    rates = result["peak"]["gflops"] if "peak" in result else {}
    kd, torch = (f"{rates[side]:.0f}" if side in rates else NOTHING for side in ("kd", "torch"))
    loads = f"{machine['load_before']:g}, {machine['load_after']:g}"
    return f"| {name} | {kd} | {torch} | {loads} | {versions['jax']} | {versions['torch']} |"


def _claim(row: Row, machines: Machines) -> str:
    cells = [_cell(row.measured[name]) if name in row.measured else NOTHING for name in machines]
    about = f"{row.lowest:.2f} | {_reach(row.reach)} | {_judged(row.met)}"
    return f"| {row.name} | {row.peer} | {' | '.join(cells)} | {about} |"


def _cell(row: Result) -> str:
    fastest = f", {row['fastest']}" if "fastest" in row else ""
    return f"{_ratio(row['ratio'])}{fastest}"


def _reach(reach: Mapping[str, float]) -> str:
    if "at_least" in reach:
        return f"at least {reach['at_least']:g}x the speed"
    return f"at most {reach['at_most']:g}x the time" if reach else ""


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


def _ratio(ratio: Mapping[str, Any]) -> str:
    return f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})"


def _median(spread: Mapping[str, Any]) -> str:
    return f"{spread['median']:.2f}"


def _yes(met: bool) -> str:
    return "yes" if met else "no"
