"""What became of the hypotheses about missed bands, written from results.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.hinton2015.specialists import claims
from kd.pages import Table, plus_minus

Results = Mapping[str, Any]


def section(results: Results) -> list[str]:
    """The hypotheses' part of the page in Markdown; nothing if there are none."""
    if not results["hypotheses"]:
        return []
    claimed = "\n".join(
        f"- *{_name(name)}*: {results['protocol']['hypotheses'][name]['claim']}."
        for name in results["hypotheses"]
    )
    return [
        "## Why the gain is what it is: hypotheses, each put to the test",
        "Each changes what is said and nothing else, with the same "
        f"{len(results['seeds'])} seeds; all of them are shown and nothing is chosen by these "
        "numbers. The gain is relative, over the generalists that the specialists began with.",
        claimed,
        table(results).markdown(),
    ]


def table(results: Results) -> Table:
    """A row for each hypothesis: both accuracies, the gain, and what that says."""
    rows = [_row(results, "as above", results["teams"])]
    rows += [_row(results, _name(name), teams) for name, teams in results["hypotheses"].items()]
    columns = ["", "generalist", "with specialists", "conditional", "relative gain", "errors"]
    return Table("Hypotheses", columns, rows)


def _row(results: Results, name: str, teams: Any) -> list[str]:
    ours, theirs = claims.team(results, teams=teams), claims.alone(results, teams)
    change = claims.compare(results, ours, claims.team(results))
    before, after = claims.conditional(teams)
    return [
        name,
        f"{plus_minus(claims.accuracies(results, theirs), 2)}%",
        f"{plus_minus(claims.accuracies(results, ours), 2)}%",
        f"{plus_minus(before, 1)}% to {plus_minus(after, 1)}%",
        claims.shown(*claims.gain(results, ours, theirs)) + "%",
        "–"
        if name == "as above"
        else f"{change.difference:+.1f} ({change.low:+.1f} to {change.high:+.1f})",
    ]


def _name(name: str) -> str:
    return name.replace("_", " ")
