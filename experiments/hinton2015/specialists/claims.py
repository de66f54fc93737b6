"""What the results claim: accuracies, relative gains and what of them a student keeps, each with an
interval, against its band.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kd.evidence import Comparison, compare_errors, interval

Results = Mapping[str, Any]
Rows = Sequence[Sequence[int]]
TAUGHT = ("self", "of_ensemble", "of_specialists")
"""Systems that learn at several temperatures, of which validation chooses one."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """One measure: the paper's number if there is one, ours with its 95% interval, the band written
    before the run.
    """

    name: str
    about: str
    paper: float | None
    value: float
    low: float
    high: float
    band: tuple[float, float]

    @property
    def met(self) -> bool:
        """Whether our number lies in the band."""
        return self.band[0] <= self.value <= self.band[1]

    @property
    def missed(self) -> str:
        """A missed band in words; empty for one that is met."""
        if self.met:
            return ""
        side = "not defined, of"
        if not math.isnan(self.value):
            side = "above" if self.value > self.band[1] else "below"
        return (
            f"{self.about}, {shown(self.value, self.low, self.high)}, {side} {self.band[0]:g} to "
            f"{self.band[1]:g}"
        )


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
    each, found = len(results["seeds"]), results["systems"][system]
    if system in TAUGHT:
        start = each * temperature(results, system)
        return list(found[start : start + each])
    return list(found[:each])


def wrong(results: Results, system: str) -> Rows:
    """The test rows that each model of a system gets wrong."""
    return [member["wrong"] for member in members(results, system)]


def team(results: Results, top: int | None = None, teams: Any = None) -> Rows:
    """The test rows that generalist and specialists get wrong together, seed by seed."""
    chosen = str(results["protocol"]["top"] if top is None else top)
    return [one["test"]["tops"][chosen]["wrong"] for one in teams or results["teams"]]


def alone(results: Results, teams: Any = None) -> Rows:
    """The test rows that the same generalists get wrong by themselves."""
    return [one["test"]["generalist"]["wrong"] for one in teams or results["teams"]]


def accuracies(results: Results, rows: Rows) -> list[float]:
    """Test accuracy of each model, in per cent."""
    return [100 * (1 - len(one) / results["examples"]["test"]) for one in rows]


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

    def share(base: Any, best: Any, one: Any) -> Any:
        whole = np.asarray(base - best, float)
        return np.where(whole > 0, (base - one) / np.where(whole > 0, whole, 1), np.nan)

    return _interval(results, [alone(results), team(results), wrong(results, system)], share)


def compare(results: Results, treatment: Rows, control: Rows) -> Comparison:
    """Test errors of one system minus those of another, paired by seed and example."""
    return compare_errors(treatment, control, results["examples"]["test"])


def conditional(teams: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Accuracy on examples of a specialist's classes when only these may be answered, over all
    specialists: of every generalist, and of its specialists, in per cent.
    """
    sums = [np.sum(one["test"]["conditional"], axis=0) for one in teams]
    return [[100 * float(one[i] / one[0]) for one in sums] for i in (1, 2)]


def by_coverage(results: Results, top: int) -> list[list[Any]]:
    """By how many specialists have the right class: examples, how many generalist and team get
    right, summed over the seeds.
    """
    counts: dict[int, np.ndarray] = {}
    for one, ours, theirs in zip(results["teams"], team(results, top), alone(results), strict=True):
        covering = np.asarray(one["test"]["coverage"])
        right = np.ones((2, len(covering)), int)
        right[0, list(theirs)] = right[1, list(ours)] = 0
        for number in np.unique(covering).tolist():
            rows = covering == number
            found = np.array([rows.sum(), *right[:, rows].sum(axis=1)])
            counts[number] = counts.get(number, 0) + found
    return [[number, *map(int, counts[number])] for number in sorted(counts)]


def claims(results: Results) -> list[Claim]:
    """Every measure that has a band, beside the paper's."""
    paper, bands = results["protocol"]["paper"], results["protocol"]["bands"]
    found = {
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
        for name, (about, values) in found.items()
        if name in bands
    ]


def shown(value: float, low: float, high: float) -> str:
    """A number and its interval as text."""
    return "not defined" if math.isnan(value) else f"{value:.2f} ({low:.2f} to {high:.2f})"


def _interval(
    results: Results, arms: Sequence[Rows], statistic: Callable[..., Any]
) -> tuple[float, float, float]:
    """A statistic of arms' errors, with its bootstrap interval over seeds and test examples."""
    total = results["examples"]["test"]
    tables = []
    for rows in arms:
        table = np.zeros((len(rows), total))
        for line, one in zip(table, rows, strict=True):
            line[list(one)] = 1.0
        tables.append(table.tolist())
    return interval(tables, statistic)
