"""What a member costs over the sizes of a population, from the rows that were recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

REACH = 1.1
"""The most that a member may cost: of the best way, of the best size."""

Row = Mapping[str, Any]
"""``{"members": size, "auto": way, "ms": {way: spread of a member's step}}``"""


def line(rows: Sequence[Row]) -> list[dict[str, float] | None]:
    """For each row a member's step, computed as ``auto`` does, over that of the best size: median
    and quartiles. A straight line is 1 everywhere; of one size there is none.
    """
    if len(rows) < 2:
        return [None for _ in rows]
    times = [row["ms"][row["auto"]] for row in rows]
    best = min(time["median"] for time in times)
    return [{key: time[key] / best for key in ("median", "q1", "q3")} for time in times]


def knee(rows: Sequence[Row]) -> str:
    """A sentence: up to how many members a vmap costs little more per member than at its best."""
    times = {row["members"]: row["ms"]["vmap"]["median"] for row in rows}
    if len(times) < 2:
        return "Of one size there is no knee."
    best = min(times, key=lambda size: times[size])
    ratios = {size: time / times[best] for size, time in times.items()}
    largest = max(size for size, ratio in ratios.items() if ratio <= REACH)
    beyond = min((size for size in times if size > largest), default=None)
    later = "" if beyond is None else f", and of {beyond:,} {ratios[beyond]:.2f} times"
    return (
        f"By vmap a member of {best:,} costs least; {largest:,} is the largest population whose "
        f"members cost at most {REACH:g} times as much{later}."
    )
