"""A plan as tables: one for the terminal, and a row per topology for the documentation."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from kd.errors import KdError
from kd.pages.report import fill
from kd.pages.tables import Table
from kd.planning.chips import parse_topology
from kd.planning.count import Count
from kd.planning.plan import TOP, Plan, describe_change, gib, plan
from kd.planning.roofline import Cache, Roofline


def tables(plan: Plan) -> list[Table]:
    """Memory, one step, its collectives, the whole run, and the teacher kept or asked.

    Of a step that does not fit only its memory, and then the tables of the change that does.
    """
    shown = plan if plan.changed is None else plan.changed
    first = [_memory(plan)] if plan.changed is not None else []
    every = [
        *first,
        _memory(shown),
        _step(shown),
        _collectives(shown),
        _run(shown),
        _teacher(shown),
    ]
    return [table for table in every if table.rows]


def check_outputs(
    topologies: Sequence[str], table: str | None, json_file: str | None, slices: int = 1
) -> None:
    """Raise a `KdError` unless every topology is one, and the files that a plan is to be written to
    can be.

    A table goes between the marks of a file that is there already, or into a new file; nothing else
    is written over.
    """
    for topology in topologies:
        parse_topology(topology, slices)
    if json_file is not None and (table is not None or len(topologies) > 1):
        raise KdError(
            "--json holds the plan of one topology, and no table; give one --topology, and leave "
            "--table out"
        )
    for option, name in (("--table", table), ("--json", json_file)):
        if name is not None:
            _check_writable(option, pathlib.Path(name))
    if table is not None and pathlib.Path(table).exists():
        try:
            fill(pathlib.Path(table).read_text("utf-8"), "plan", "")
        except (OSError, ValueError) as error:
            raise KdError(
                f"cannot read {table}: {error}; give a text file with marks, or a new one"
            ) from error
        except KdError as error:
            raise KdError(
                f"{table} is there already and has {error}, or name a new file"
            ) from error


def _check_writable(option: str, path: pathlib.Path) -> None:
    if path.is_dir():
        raise KdError(f"{option}={path} is a folder; name a file")
    if not path.parent.is_dir():
        raise KdError(
            f"{option}={path}: there is no folder {path.parent}; make it, or choose another"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise KdError(f"cannot write {option}={path}; choose another folder")


def as_json(plan: Plan) -> str:
    """Everything that was measured, with the verdict."""
    line = plan.roofline
    values: dict[str, Any] = {
        "topology": plan.topology.slice,
        "slices": plan.topology.slices,
        "chips": plan.topology.chips,
        "devices": plan.topology.devices,
        "fits": plan.fits,
        "needed": plan.needed,
        "available": plan.available,
        "verdict": describe_change(plan),
        "change": plan.change,
        "roofline": None if line is None else dataclasses.asdict(line),
        "compiler_seconds": plan.compiler_seconds,
        **plan.answer,
    }
    return json.dumps(values, indent=2)


def _memory(plan: Plan) -> Table:
    rows = [[name, gib(size)] for name, size in plan.answer["held"].items() if size]
    memory = plan.answer["step"].get("memory")
    if memory:
        rows += [[name, gib(memory[name])] for name in ("arguments", "temporaries", "code")]
        rows.append(["outputs (new)", gib(memory["outputs"] - memory["aliased"])])
    rows += [
        ["needed", gib(plan.needed)],
        ["available", gib(plan.available)],
        ["fits", _verdict(plan)],
    ]
    title = (
        f"memory of one device, GiB: {plan.topology}, {plan.topology.chips} chips, "
        f"{plan.topology.devices} devices"
    )
    return Table(title, ["", "GiB"], rows)


def _verdict(plan: Plan) -> str:
    if not plan.fits:
        return "NO"
    return "unknown" if plan.available is None else "yes"


def _step(plan: Plan) -> Table:
    count, line, xla = plan.count, plan.roofline, plan.answer["step"].get("xla", {})
    if count is None:
        return Table("one step", [], [])
    rows = [
        ["FLOPs of products", f"{count.flops:.3e}", _ms(line and line.compute)],
        ["bytes of main memory", f"{count.hbm_bytes:.3e}", _ms(line and line.memory)],
        *_sent(plan, count),
    ]
    if line is not None:
        rows.append([f"at best: {line.bound} bound, MFU {line.mfu:.0%}", "", _ms(line.seconds)])
        rows.append(
            [f"expected at {plan.assumed.mfu:.0%} of the peak", "", _ms(plan.expected_seconds)]
        )
    optimal = xla.get("optimal_seconds")
    rows.append(["the compiler's estimate, without collectives", "", _ms(plan.compiler_seconds)])
    if optimal is not None and optimal > 0:  # else it is no time at all
        said = "each loop once" if count.loops else "its own"
        rows.append([f"XLA's optimal_seconds ({said})", "", _ms(optimal)])
    if "flops" in xla:
        rows.append(["XLA's FLOPs, each loop once", f"{xla['flops']:.3e}", ""])
    if count.unknown_loops:
        rows.append(["loops of unknown length, counted once", str(count.unknown_loops), ""])
    rows.append(["compiling, s", "", f"{plan.answer['step']['compile_seconds']:.1f}"])
    return Table("one step of one device", ["", "amount", "ms"], rows)


def _sent(plan: Plan, count: Count) -> list[list[str]]:
    """Bytes over the network; of several slices over either apart."""
    line = plan.roofline
    network = _ms(line and line.network)
    if plan.topology.slices == 1:
        return [["bytes sent", f"{count.sent:.3e}", network]]
    return [
        ["bytes sent within a slice", f"{count.within:.3e}", network],
        ["bytes sent from slice to slice", f"{count.across:.3e}", _dcn_ms(line)],
    ]


def _dcn_ms(line: Roofline | None) -> str:
    return "rate unknown" if line is None or line.dcn is None else _ms(line.dcn)


def _collectives(plan: Plan) -> Table:
    collectives = {} if plan.count is None else plan.count.collectives
    several = plan.topology.slices > 1
    rows = [
        [kind, str(c.count), *(_mb(size) for size in (c.payload, c.sent, c.across)[: 2 + several])]
        for kind, c in sorted(collectives.items())
    ]
    columns = ["", "count", "whole, MB", "sent, MB", "of them from slice to slice, MB"]
    return Table("collectives of one step", columns[: 4 + several], rows)


def _run(plan: Plan) -> Table:
    rows = []
    line = plan.roofline
    times = (
        []
        if line is None
        else [("at best", line.seconds), (f"at {plan.assumed.mfu:.0%}", plan.expected_seconds)]
    )
    for name, seconds in times:
        if seconds:
            cost = plan.bill(seconds)
            price = "—" if cost.price is None else f"{cost.price:,.2f}"
            row = [
                f"{cost.examples_per_second:,.0f}",
                f"{cost.hours:.2f}",
                f"{cost.chip_hours:,.1f}",
                price,
            ]
            rows.append([name, *row])
    title = (
        f"the run of {plan.answer['facts']['total_steps']:,} steps of "
        f"{plan.answer['facts']['batch_size']:,}"
    )
    return Table(title, ["", "examples/s", "hours", "chip-hours", "price"], rows)


def _teacher(plan: Plan) -> Table:
    kept = {"all logits, bfloat16": plan.cache(None), f"top {TOP} and the rest": plan.cache(TOP)}
    rows = [[name, *_kept(cache)] for name, cache in kept.items() if cache is not None]
    title = "the teacher asked once and kept, against asked in every step"
    for why in {cache.why_not for cache in kept.values() if cache is not None and cache.why_not}:
        title += f"; never pays: {why}"
    return Table(title, ["", "GB", "one pass, s", "reading, s/epoch", "pays from"], rows)


def _kept(cache: Cache) -> list[str]:
    pays = "never" if cache.from_epochs is None else f"{cache.from_epochs} epochs"
    return [
        f"{cache.bytes / 1e9:.2f}",
        f"{cache.pass_seconds:.2g}",
        f"{cache.read_seconds:.2g}",
        pays,
    ]


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f}"


def _ms(seconds: float | None) -> str:
    return "—" if seconds is None else f"{seconds * 1e3:.2f}"


COLUMNS = (
    "topology", "chips", "fits", "needs, GiB", "of, GiB", "state, GiB", "teacher, GiB",
    "GFLOP", "sent, MB", "collectives", "at best, ms", "bound", "MFU",
    "compiler, ms", "examples/s", "compile, s",
)  # fmt: skip


def row(plan: Plan) -> list[str]:
    """One line of `table`: a device's memory and work, and a step's time at best."""
    held, count, line = plan.answer["held"], plan.count, plan.roofline
    state = sum(size for name, size in held.items() if name != "teacher")
    cells = [str(plan.topology), f"{plan.topology.chips:,}", _verdict(plan).lower()]
    cells += [gib(plan.needed), gib(plan.available), gib(state), gib(held["teacher"])]
    if count is None:
        cells += ["—"] * 8
    else:
        kinds = ", ".join(f"{c.count} {kind}" for kind, c in sorted(count.collectives.items()))
        cells += [f"{count.flops / 1e9:,.1f}", _sent_mb(plan, count), kinds or "none"]
        best = ["—"] * 3 if line is None else [_ms(line.seconds), line.bound, f"{line.mfu:.0%}"]
        cells += [*best, _ms(plan.compiler_seconds)]
        cells.append("—" if line is None else f"{plan.bill(line.seconds).examples_per_second:,.0f}")
    return [*cells, f"{plan.answer['step']['compile_seconds']:.0f}"]


def _sent_mb(plan: Plan, count: Count) -> str:
    across = "" if plan.topology.slices == 1 else f" ({count.across / 1e6:,.1f} across)"
    return f"{count.sent / 1e6:,.1f}{across}"


def table(
    config: Any, topologies: Sequence[str], *, make: Callable[..., Plan] = plan, **options: Any
) -> str:
    """A Markdown table with one row per topology, and below it what to change where something does
    not fit.

    A topology that the config cannot be laid out on has a line below too. `options` are those of
    `kd.planning.plan.plan`.

    Raises:
      KdError: no topology could be planned; the first one's reason.
    """
    rows, notes, errors = [], [], []
    for topology in topologies:
        try:
            planned = make(config, topology, **options)
        except KdError as error:
            errors.append(error)
            notes.append(f"{topology}: {error}")
            continue
        rows.append(row(planned))
        if not planned.fits:
            notes.append(describe_change(planned))
    if errors and not rows:
        raise errors[0]
    lines = "\n".join(f"- {note}" for note in notes)
    return Table("plan", COLUMNS, rows).markdown() + (f"\n\n{lines}" if notes else "")
