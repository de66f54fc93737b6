"""How good the members of a run are, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.pages.tables import Table, plus_minus

METRICS = (
    "errors",
    "accuracy",
    "exact_match",
    "auroc",
    "f1",
    "micro_f1",
    "macro_f1",
    "mean_average_precision",
    "rmse",
    "mae",
    "r2",
    "nll",
    "ece",
    "brier",
    "agreement",
    "agreement_on_errors",
    "held_out_kl",
)


def members_table(
    title: str, members: Sequence[Mapping[str, Any]], settings: Sequence[str]
) -> Table:
    """A row for each metric; where members differ in more than seeds, a row for each of their
    `settings` instead.

    A mean over different settings would be a mean over nothing that anybody drew. `settings` may be
    empty.
    """
    names = [name for name in METRICS if any(member.get(name) is not None for member in members)]
    points = list(dict.fromkeys(settings))
    if len(points) < 2:
        rows = [[name, *_cell(members, name)] for name in names]
        return Table(title, ["metric", "mean ± sd" if len(members) > 1 else "value", "n"], rows)
    alike = {
        point: [m for m, own in zip(members, settings, strict=True) if own == point]
        for point in points
    }
    rows = [
        [point, *(_cell(some, name)[0] for name in names), str(len(some))]
        for point, some in alike.items()
    ]
    return Table(title, ["", *names, "n"], rows)


def _cell(members: Sequence[Mapping[str, Any]], name: str) -> tuple[str, str]:
    values = [member[name] for member in members if member.get(name) is not None]
    if not values:
        return "–", "0"
    return plus_minus(values, 1 if name == "errors" else 4), str(len(values))
