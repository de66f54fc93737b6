"""The tables of the commands that measure one thing each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.cells import NOTHING, judged, left_out, median, ratio, reach, yes
from bench.claims import EAGER
from bench.conv_problem import PARTS as LAYERS
from bench.conv_problem import WAYS as CONV_WAYS
from bench.line import REACH, knee, line
from bench.machines import Result
from kd.processes.agreement import MOST


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
                f"| {row['members']:,} | {' | '.join(median(row['ms'][way]) for way in ways)} | "
                f"{row['auto']} | {ratio(row['ratio'])} | {yes(row['met'])} | {_size(over_best)} |"
                for row, over_best in zip(rows, line(rows), strict=True)
            ),
            "",
            f"Medians of {record['repeats']} rounds, ways in turns, size after size. {knee(rows)} "
            f"{name}, load {machine['load_before']:g} before and {machine['load_after']:g} after; "
            f"JAX {record['versions']['jax']}. To repeat it: `{record['command']}`.",
        ]
    )


def _size(over_best: Mapping[str, float] | None) -> str:
    if over_best is None:
        return f"{NOTHING} | {NOTHING}"
    return f"{ratio(over_best)} | {yes(over_best['median'] <= REACH)}"


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
            f"| {median(times['live'])} | {median(times['kept'])} | {ratio(record['ratio'])} | "
            f"{once['seconds']:g} | {once['bytes'] / 1e6:.1f} |",
            "",
            f"{record['examples']:,} examples, medians of {record['repeats']} rounds, in turns. "
            f"{name}, load {machine['load_before']:g} before and {machine['load_after']:g} after; "
            f"JAX {record['versions']['jax']}. To repeat it: `{record['command']}`.",
        ]
    )


def tunix(record: Mapping[str, Any], name: str) -> str:
    """A step with a live teacher beside tunix's, on the machine `name`."""
    machine, versions = record["machine"], record["versions"]
    return "\n".join(
        [
            "A student 784-800-800-10 of a live teacher of the same widths, soft targets and "
            "labels, float32, SGD with momentum:",
            "",
            "| case | of tunix | kd, ms/step | tunix, ms/step | tunix's time over kd's (quartiles) "
            "| to reach | reached |",
            "| --- | --- | ---: | ---: | --- | --- | --- |",
            *(
                f"| {row['name']} | {row['peer']} | {row['kd_ms']:.2f} | {row['peer_ms']:.2f} | "
                f"{ratio(row['ratio'])} | {reach(row['reach'])} | "
                f"{judged(row['met'] if row['reach'] else None)} |"
                for row in record["comparisons"]
            ),
            "",
            f"Medians of {record['repeats']} rounds, in turns, {record['steps']} steps each. "
            "tunix: its trainer's teacher and step, or its trainer's loop with metrics and without "
            "checkpoints, on float32 batches that wait on the device. kd: the program of a run, "
            "which gathers a batch of bytes and scales it. Their first updates differ by at most "
            f"{record['relative_difference']:.0e} of the largest value. {name}, load "
            f"{machine['load_before']:g} before and {machine['load_after']:g} after; tunix "
            f"{versions['tunix']}, JAX {versions['jax']}. To repeat it: `{record['command']}`.",
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
                f"| {row['pixels']} | {median(row['seconds']['kd'])} | "
                f"{median(row['seconds']['bare'])} | {ratio(row['ratio'])} | {yes(row['met'])} |"
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
                f"{row['iterations']} | {row['gradient']:.0e} | {yes(row['met'])} |"
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
                f"| {row['data']} | {' | '.join(map(median, row['ms']))} | "
                f"{' | '.join(map(ratio, row['ratio']))} | {judged(row['met'])} |"
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
                f"{median(row['seconds']['threads'])} | {median(row['seconds']['processes'])} | "
                f"{row['first']:g} | {ratio(row['ratio'])} | {yes(row['processes_win'])} |"
                for row in record["decoding"]
            ),
            "",
            f"Medians of {record['repeats']} rounds, in turns. {name}, load "
            f"{machine['load_before']:g} before and {machine['load_after']:g} after; JAX "
            f"{versions['jax']}, Pillow {versions['pillow']}. To repeat it: `{record['command']}`.",
        ]
    )


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
        f"losses and updates differ by at most {difference:.0e} of their largest value, with SiLU "
        "in the place of ReLU: which values a ReLU lets through is decided by rounding where they "
        f"lie at zero. With ReLU, float64's first update is {_from_float64(record)}. {name}, load "
        f"{machine['load_before']:g} before and {machine['load_after']:g} after; JAX "
        f"{versions['jax']}, PyTorch {versions['torch']}. To repeat it: `{record['command']}`.",
        *left_out(record["left_out"]),
        "",
        *_layers(record["layers"]),
    ]
    return "\n".join(lines)


def _from_float64(record: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{of['kd']:.0e} from kd's and {of['torch']:.0e} from PyTorch's ({name})"
        for name, of in record["from_float64"].items()
    )


def _layers(rows: Sequence[Result]) -> list[str]:
    """Each layer's time on both sides and in a form that kd does not use, and what a step of a
    ResNet-20 loses by it.
    """
    own = [row for row in rows if row["peer"] == EAGER]
    others = {row["name"]: row["kd_ms"] for row in rows if row["peer"] != EAGER}
    lost = {
        row["name"]: LAYERS[row["name"]].count(20) * (row["kd_ms"] - row["peer_ms"]) for row in own
    }
    ways = {
        way: sum(ms for name, ms in lost.items() if LAYERS[name].way == way) for way in CONV_WAYS
    }
    most = max(ways, key=lambda way: ways[way])
    return [
        "Layers alone, convolutions 3x3, milliseconds, and GFLOP/s in brackets:",
        "",
        "| layer | kd | PyTorch eager | another form | times in a ResNet-20 | lost there, ms |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
        *(
            f"| {row['name']} | {_rate(row['kd_ms'], row)} | {_rate(row['peer_ms'], row)} | "
            f"{_another(others.get(row['name']), row)} | {LAYERS[row['name']].count(20)} | "
            f"{lost[row['name']]:.1f} |"
            for row in own
        ),
        "",
        f"What loses most is {most}: {ways[most]:.0f} ms of a step of ResNet-20; "
        + ", ".join(f"{way} {ms:.0f}" for way, ms in ways.items() if way != most)
        + ".",
    ]


def _another(ms: float | None, row: Result) -> str:
    return NOTHING if ms is None else f"{_rate(ms, row)}, {LAYERS[row['name']].other}"


def _rate(ms: float, row: Result) -> str:
    return f"{ms:.1f}" if row["gflop"] is None else f"{ms:.1f} ({row['gflop'] / ms * 1e3:.0f})"


def _convolution(row: Result) -> str:
    met = yes(row["met"]) if row["reach"] else "measured"
    times = f"{row['kd_ms']:.1f} | {row['peer_ms']:.1f} | {ratio(row['ratio'])}"
    return f"| {row['name']} | {row['peer']} | {times} | {reach(row['reach'])} | {met} |"


def agreement(record: Mapping[str, Any], name: str) -> str:
    """What it costs processes to agree at a dispatch, on the machine `name`."""
    machine = record["machine"]
    return "\n".join(
        [
            f"{record['processes']} processes of one machine that do nothing but agree, dispatch "
            f"after dispatch as in a run; a word of process 0 is waited for at one of {MOST}:",
            "",
            "| ms/dispatch (quartiles) | at most 1 |",
            "| --- | --- |",
            f"| {ratio(record['ms'])} | {yes(record['met'])} |",
            "",
            f"The slowest process, {record['repeats']} rounds of {record['dispatches']:,} "
            f"dispatches. {name}, load {machine['load_before']:g} before and "
            f"{machine['load_after']:g} after; JAX {record['versions']['jax']}. To repeat it: "
            f"`{record['command']}`.",
        ]
    )


def lost_work(record: Mapping[str, Any], name: str) -> str:
    """Seconds of work that a kill costs, without and with local copies, on the machine `name`."""
    seconds = record["seconds"]
    return "\n".join(
        [
            f"A run that is killed without notice {record['kills']} times, a dispatch of "
            f"{record['dispatch_ms']:g} ms, a checkpoint every {record['checkpoint']} of them, a "
            f"local copy every {record['copy']}; seconds of work lost by a kill:",
            "",
            "| without copies (quartiles) | longest | with copies (quartiles) | longest |",
            "| --- | ---: | --- | ---: |",
            f"| {ratio(seconds['without'])} | {seconds['without']['max']:.2f} | "
            f"{ratio(seconds['with'])} | {seconds['with']['max']:.2f} |",
            "",
            f"{name}; JAX {record['versions']['jax']}. To repeat it: `{record['command']}`.",
        ]
    )


def buckets(record: Mapping[str, Any], name: str) -> str:
    """What a bucket costs a run, on the machine `name`."""
    machine, limits = record["machine"], record["reach"]
    saved, percent = record["save"], 100 * np.asarray(record["metrics"]["all"])
    rows = [
        (
            f"a checkpoint of {4e-6 * record['floats']:.0f} MB stalls the loop, of the "
            f"{record['whole seconds']['median']:.1f} s until it is there",
            ratio(saved),
            f"at most {limits['save']:g}",
            yes(saved["median"] <= limits["save"]),
        ),
        (
            "bytes read to restore it, over its own",
            f"{record['read']:.3f}",
            f"at most {limits['read']:g}",
            yes(record["read"] <= limits["read"]),
        ),
        (
            f"lines of metrics, a dispatch of {record['dispatch ms']['median']:.0f} ms each, of "
            "the loop",
            f"{np.median(percent):.2f}% ({percent.min():.2f} to {percent.max():.2f})",
            f"at most {100 * limits['metrics']:g}%",
            yes(record["metrics"]["median"] <= limits["metrics"]),
        ),
        (
            "from the command to the first metrics of a run that goes on, programs kept",
            f"{ratio(record['start bucket'])} s; on a disk {ratio(record['start disk'])} s",
            "",
            judged(None),
        ),
    ]
    return "\n".join(
        [
            "A work directory in the emulator of Google's buckets, which shares the machine's "
            "cores:",
            "",
            "| what | (quartiles) | to reach | reached |",
            "| --- | --- | --- | --- |",
            *(f"| {' | '.join(cells)} |" for cells in rows),
            "",
            f"Medians of {record['repeats']} rounds. {name}, load {machine['load_before']:g} "
            f"before and {machine['load_after']:g} after; JAX {record['versions']['jax']}. To "
            f"repeat it: `{record['command']}`.",
        ]
    )
