"""A trace as a table: where the time of some steps went."""

from __future__ import annotations

import pathlib

from kd.pages.tables import Table, show
from kd.training.profile import Profile, Window, window
from kd.training.trace import COLLECTIVES, Traced, read


def profile_of(text: str | None) -> Profile | None:
    """The steps of ``--profile=100:110``, and a table of where their time went.

    Raises:
      KdError: `text` names no steps.
    """
    return None if text is None else Profile(window(text), show_profile)


def show_profile(file: pathlib.Path, steps: Window) -> None:
    """Print the table of a trace."""
    show(table(read(file), steps))


def table(traced: Traced, steps: Window) -> Table:
    """Milliseconds a step by kind of operation, longest first, collectives, gaps, and within the
    gaps what the process did.
    """
    count = steps.end - steps.first

    def row(name: str, seconds: float, times: str = "") -> list[str]:
        share = seconds / traced.seconds if traced.seconds else 0.0
        return [name, f"{seconds / count * 1e3:.3f}", f"{share:.1%}", times]

    kinds = {COLLECTIVES: (0.0, 0.0), **traced.kinds}
    longest = sorted(kinds.items(), key=lambda kind: -kind[1][0])
    rows = [row(name, spent, f"{times / count:,.1f}") for name, (spent, times) in longest]
    host = {"wait": 0.0, **traced.host}
    rows += [
        row("gaps: the device does nothing", traced.gaps),
        row("all", traced.seconds),
        row("the process waits for input", host.pop("wait")),
        *(row(f"the process is in '{name}'", spent) for name, spent in sorted(host.items())),
    ]
    whole = f"{traced.seconds * 1e3:,.1f} ms"
    of = "a device" if traced.devices == 1 else f"a device, the mean of {traced.devices}"
    title = f"steps {steps.first} to {steps.end}, {count} in {whole}: time of {of}"
    return Table(title, ["", "ms a step", "share", "times a step"], rows)
