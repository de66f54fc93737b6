"""What became of the hypotheses about gain and student, written from results.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.hinton2015.bands import shown
from experiments.hinton2015.specialists import claims
from kd.evidence import Comparison
from kd.pages import Table, plus_minus

Results = Mapping[str, Any]
Claimed = Mapping[str, Mapping[str, Any]]


def about_gain(results: Results) -> list[str]:
    """The hypotheses about the gain in Markdown; nothing if there are none."""
    tested = results["protocol"]["hypotheses"]
    if not tested:
        return []
    return [
        "## Why the gain is what it is: hypotheses, each put to the test",
        "Each changes what is said and nothing else, with the same "
        f"{len(results['seeds'])} seeds; all of them are shown, and nothing is chosen by their "
        "test numbers. The gain is relative, over the generalists that the specialists began with; "
        "errors are those on the test examples against the first row's.",
        _listed(tested),
        gain_table(results).markdown(),
    ]


def about_student(results: Results) -> list[str]:
    """The hypotheses about the step back in Markdown; nothing if there are none."""
    tested = results["protocol"]["steps_back"]
    if not tested:
        return []
    return [
        "## Why the student keeps what it keeps: hypotheses, each put to the test",
        "In the same way. The share is that of the gain of the specialists above, whoever teaches; "
        "errors are against the first row's.",
        _listed(tested),
        student_table(results).markdown(),
    ]


def gain_table(results: Results) -> Table:
    """A row for each hypothesis: accuracies on validation and test examples, the gain, and what
    that says.
    """
    rows = [[*_team_row(results, "as above", results["teams"]), "–"]]
    for name, teams in results["hypotheses"].items():
        change = claims.compare(results, claims.team(results, teams=teams), claims.team(results))
        rows.append([*_team_row(results, _words(name), teams), _change(change)])
    columns = [
        "",
        "validation: generalist",
        "with specialists",
        "test: generalist",
        "with specialists",
        "conditional",
        "relative gain",
        "errors",
    ]
    return Table("Hypotheses", columns, rows)


def student_table(results: Results) -> Table:
    """A row for each step back: accuracies on validation and test examples, the share of the gain,
    and what that says.
    """
    main = claims.wrong(results, "of_specialists")
    rows = [[*_student_row(results, "as above", "of_specialists"), "–"]]
    for name in results["protocol"]["steps_back"]:
        change = claims.compare(results, claims.wrong(results, f"back_{name}"), main)
        rows.append([*_student_row(results, _words(name), f"back_{name}"), _change(change)])
    columns = ["", "T", "validation", "test", "share of the specialists' gain", "errors"]
    return Table("Steps back", columns, rows)


def _team_row(results: Results, name: str, teams: claims.Teams) -> list[str]:
    accuracies = [
        f"{plus_minus(claims.accuracies(results, rows, split), 2)}%"
        for split in ("validation", "test")
        for rows in (
            claims.alone(results, teams, split),
            claims.team(results, teams=teams, split=split),
        )
    ]
    before, after = claims.conditional(teams)
    gain = claims.gain(results, claims.team(results, teams=teams), claims.alone(results, teams))
    return [
        name,
        *accuracies,
        f"{plus_minus(before, 1)}% to {plus_minus(after, 1)}%",
        f"{shown(*gain)}%",
    ]


def _student_row(results: Results, name: str, system: str) -> list[str]:
    temperature = results["protocol"]["temperatures"][claims.temperature(results, system)]
    return [
        name,
        f"{temperature:g}",
        f"{plus_minus(claims.seen(results, system), 2)}%",
        f"{plus_minus(claims.accuracies(results, claims.wrong(results, system)), 2)}%",
        shown(*claims.kept(results, system)),
    ]


def _listed(tested: Claimed) -> str:
    return "\n".join(f"- *{_words(name)}*: {change['claim']}." for name, change in tested.items())


def _change(change: Comparison) -> str:
    return f"{change.difference:+.1f} ({change.low:+.1f} to {change.high:+.1f})"


def _words(name: str) -> str:
    return name.replace("_", " ")
