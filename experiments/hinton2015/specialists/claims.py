"""What the results claim: accuracies, relative gains and what of them a student keeps, each with an
interval, against its band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.hinton2015.bands import Claim
from experiments.hinton2015.specialists.lines import marked, numbers
from kd.evidence import Comparison, compare_errors, interval

Results = Mapping[str, Any]
Rows = Sequence[Sequence[int]]
Teams = Sequence[Mapping[str, Any]]
FROM_LABELS = ("generalist", "longer", "ensemble")
"""Systems that learn from labels; the others at several temperatures, of which validation chooses
one.
"""


def temperature(results: Results, system: str) -> int:
    """Which temperature has the fewest validation errors over the seeds of a system."""
    each, members = len(results["seeds"]), results["systems"][system]
    seen = [member["validation"] for member in members]
    totals = [sum(seen[i * each : (i + 1) * each]) for i in range(len(seen) // each)]
    return totals.index(min(totals))


def members(results: Results, system: str) -> list[Mapping[str, Any]]:
    """The models of a system that are compared, seed by seed: at the chosen temperature, or the
    generalists that have specialists.
    """
    each, trained = len(results["seeds"]), results["systems"][system]
    start = 0 if system in FROM_LABELS else each * temperature(results, system)
    return list(trained[start : start + each])


def wrong(results: Results, system: str) -> Rows:
    """The test rows that each model of a system gets wrong."""
    return [marked(member["wrong"]) for member in members(results, system)]


def team(
    results: Results, top: int | None = None, teams: Teams | None = None, split: str = "test"
) -> Rows:
    """The rows of a split that generalist and specialists get wrong together, seed by seed."""
    asked = str(results["protocol"]["top"] if top is None else top)
    return [marked(team[split]["tops"][asked]["wrong"]) for team in teams or results["teams"]]


def alone(results: Results, teams: Teams | None = None, split: str = "test") -> Rows:
    """The rows that the same generalists get wrong by themselves."""
    return [marked(team[split]["generalist"]) for team in teams or results["teams"]]


def accuracies(results: Results, rows: Rows, split: str = "test") -> list[float]:
    """Accuracy of each model on a split, in per cent."""
    return [100 * (1 - len(wrong) / results["examples"][split]) for wrong in rows]


def seen(results: Results, system: str) -> list[float]:
    """Validation accuracy of each model of a system, in per cent."""
    total = results["examples"]["validation"]
    return [100 * (1 - member["validation"] / total) for member in members(results, system)]


def gain(results: Results, treatment: Rows, control: Rows) -> tuple[float, float, float]:
    """Relative gain in test accuracy, in per cent, ``100 (a - b) / b``, and its 95% interval."""
    total = results["examples"]["test"]

    def relative(ours: Any, theirs: Any) -> Any:
        right = np.asarray(total - theirs, float)
        return np.where(right > 0, 100 * (theirs - ours) / np.where(right > 0, right, 1), np.nan)

    return _interval(results, [treatment, control], relative)


def kept(results: Results, system: str) -> tuple[float, float, float]:
    """Share of what the specialists gain that a system has: value, and 95% interval; NaN where they
    gain nothing.
    """

    def share(base: Any, best: Any, ours: Any) -> Any:
        whole = np.asarray(base - best, float)
        return np.where(whole > 0, (base - ours) / np.where(whole > 0, whole, 1), np.nan)

    return _interval(results, [alone(results), team(results), wrong(results, system)], share)


def compare(results: Results, treatment: Rows, control: Rows) -> Comparison:
    """Test errors of one system minus those of another, paired by seed and example."""
    return compare_errors(treatment, control, results["examples"]["test"])


def conditional(teams: Teams) -> list[list[float]]:
    """Accuracy on test examples of a specialist's classes when only these may be answered, over all
    specialists: of every generalist, and of its specialists, in per cent.
    """
    counts = [team["test"]["conditional"] for team in teams]
    return [
        [100 * count[system] / count["examples"] for count in counts]
        for system in ("generalist", "specialists")
    ]


def coverage(results: Results, team: Mapping[str, Any]) -> np.ndarray:
    """How many specialists have the right class, for every test example."""
    special = np.concatenate([numbers(classes) for classes in team["classes"]])
    of_class = np.bincount(special, minlength=len(results["class_names"]))
    return of_class[numbers(results["labels"])]


def by_coverage(results: Results) -> list[list[int]]:
    """By how many specialists have the right class: examples, how many of them the generalist gets
    right, and how many the team at each number of top classes; summed over the seeds.
    """
    systems = [alone(results), *(team(results, top) for top in results["protocol"]["tops"])]
    covering = np.concatenate([coverage(results, team) for team in results["teams"]])
    right = [1 - _table(rows, results["examples"]["test"]).ravel() for rows in systems]
    counts = [np.bincount(covering), *(np.bincount(covering, each) for each in right)]
    return [
        [number, *(int(count[number]) for count in counts)]
        for number in np.unique(covering).tolist()
    ]


def gain_where(results: Results, covered: Callable[[int], bool]) -> float:
    """Relative gain in per cent, over the examples of which such a number of specialists has the
    right class; NaN where the generalist gets none of them right.
    """
    place = 3 + list(results["protocol"]["tops"]).index(results["protocol"]["top"])
    rows = [row for row in by_coverage(results) if covered(row[0])]
    before, after = (sum(row[column] for row in rows) for column in (2, place))
    return 100 * (after - before) / before if before else math.nan


def claims(results: Results) -> list[Claim]:
    """Every measure that has a band, beside the paper's."""
    paper, bands = results["protocol"]["paper"], results["protocol"]["bands"]
    measured = {
        "gain": (
            "relative gain in accuracy of the specialists, %",
            gain(results, team(results), alone(results)),
        ),
        "kept": (
            "share of the specialists' gain that their student keeps",
            kept(results, "of_specialists"),
        ),
    }
    return [
        Claim(name, about, paper.get(name), *values, tuple(bands[name]))
        for name, (about, values) in measured.items()
        if name in bands
    ]


def _interval(
    results: Results, arms: Sequence[Rows], statistic: Callable[..., Any]
) -> tuple[float, float, float]:
    """A statistic of arms' errors, with its bootstrap interval over seeds and test examples."""
    total = results["examples"]["test"]
    return interval([_table(rows, total) for rows in arms], statistic)


def _table(rows: Rows, total: int) -> np.ndarray:
    """1 for every example that is wrong, seed by seed."""
    table = np.zeros((len(rows), total))
    for errors, wrong in zip(table, rows, strict=True):
        errors[list(wrong)] = 1
    return table
