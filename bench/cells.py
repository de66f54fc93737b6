"""What stands in a cell of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTHING = "—"


def left_out(reasons: Mapping[str, str]) -> list[str]:
    """A line for each reason."""
    cases: dict[str, list[str]] = {}
    for case, why in reasons.items():
        cases.setdefault(why, []).append(case)
    return [f"Left out: {'; '.join(names)}: {why}." for why, names in cases.items()]


def reach(limits: Mapping[str, float]) -> str:
    if "at_least" in limits:
        return f"at least {limits['at_least']:g}x the speed"
    return f"at most {limits['at_most']:g}x the time" if limits else ""


def ratio(spread: Mapping[str, Any]) -> str:
    return f"{spread['median']:.2f} ({spread['q1']:.2f} to {spread['q3']:.2f})"


def median(spread: Mapping[str, Any]) -> str:
    return f"{spread['median']:.2f}"


def yes(met: bool) -> str:
    return "yes" if met else "no"


def judged(met: bool | None) -> str:
    return "measured" if met is None else yes(met)
