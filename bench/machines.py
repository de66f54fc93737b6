"""Claims over the machines that are recorded: the one on which kd does worst decides. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bench.claims import BEST, EAGER

Result = Mapping[str, Any]
Machines = Mapping[str, Result]
"""What was measured on each, by the name of `bench.cpu`, oldest first."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A case and its peer, the ratio to reach, and what was measured, machine by machine."""

    name: str
    peer: str
    reach: Mapping[str, float]
    measured: Mapping[str, Result]

    @property
    def lowest(self) -> float:
        """The ratio on the machine where kd does worst: the lowest speed, or the longest time."""
        ratios = [row["ratio"]["median"] for row in self.measured.values()]
        return max(ratios) if "at_most" in self.reach else min(ratios)

    @property
    def met(self) -> bool | None:
        """On every machine; None where nothing must be reached."""
        if not self.reach:
            return None
        at_least, at_most = self.reach.get("at_least"), self.reach.get("at_most")
        enough = at_least is None or self.lowest >= at_least
        return enough and (at_most is None or self.lowest <= at_most)


def rows(machines: Machines) -> list[Row]:
    """Every claim that was measured on any of them, in the order and with the reach of the newest
    that has it.
    """
    newest_first = list(machines.items())[::-1]
    claims: dict[tuple[str, str], list[tuple[str, Result]]] = {}
    for machine, result in newest_first:
        for row in result.get("comparisons", ()):
            claims.setdefault((row["name"], row["peer"]), []).append((machine, row))
    return [
        Row(name, peer, rows[0][1]["reach"], dict(rows[::-1]))
        for (name, peer), rows in claims.items()
    ]


def against_pytorch(machines: Machines) -> dict[str, tuple[float, str]]:
    """The lowest ratio to PyTorch, eager or the best of it, on any machine, and the peer, by the
    name of the case.
    """
    lowest: dict[str, tuple[float, str]] = {}
    for row in rows(machines):
        if row.peer not in (EAGER, BEST):
            continue
        lowest[row.name] = min((row.lowest, row.peer), lowest.get(row.name, (float("inf"), "")))
    return lowest


def peak(result: Result) -> float | None:
    """GFLOP/s of the faster side's products of matrices; None where they were not measured."""
    return max(result["peak"]["gflops"].values()) if "peak" in result else None


def share(row: Result, side: str, result: Result) -> float | None:
    """The part of the peak that a side reaches, ``kd`` or ``peer``; None where it is not known."""
    most, work = peak(result), row.get("gflop")
    if most is None or work is None:
        return None
    return work / (row[f"{side}_ms"] / 1e3) / most
