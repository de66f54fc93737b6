"""Figures of section 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from experiments.hinton2015.specialists import claims
from kd.evidence import mean_sd
from kd.pages import plain_axes

_SHORT = {
    "generalist": "generalist",
    "team": "with\nspecialists",
    "longer": "generalist,\nlonger",
    "ensemble": "ensemble",
    "self": "student of\ngeneralist",
    "of_ensemble": "student of\nensemble",
    "of_specialists": "student of\nspecialists",
}
_INK = {"team": "#2b6cb0", "of_specialists": "#2b6cb0", "ensemble": "#4d4d4d"}
_OTHER = "#c2543a"


def systems_figure(results: Mapping[str, Any]) -> Figure:
    """Test accuracy of every model, and the mean of each system."""
    figure, plot = plain_axes(8, 3.4, "", "test accuracy, %")
    for x, name in enumerate(_SHORT):
        rows = claims.team(results) if name == "team" else claims.wrong(results, name)
        values, ink = claims.accuracies(results, rows), _INK.get(name, _OTHER)
        width = max(len(values), 2)
        spread = [x + (i - (len(values) - 1) / 2) * 0.3 / width for i in range(len(values))]
        plot.scatter(spread, values, s=22, color=ink, alpha=0.65, linewidths=0)
        mean = mean_sd(values)[0]
        plot.plot([x - 0.28, x + 0.28], [mean, mean], color=ink, linewidth=2)
        plot.annotate(f"{mean:.1f}", (x + 0.3, mean), va="center", fontsize=9, color=ink)
    plot.set_xticks(range(len(_SHORT)), list(_SHORT.values()), fontsize=8)
    plot.set_xlim(-0.5, len(_SHORT) - 0.3)
    return figure


def coverage_figure(results: Mapping[str, Any]) -> Figure:
    """Relative gain in accuracy by the number of specialists that have the right class."""
    figure, plot = plain_axes(6, 3, "specialists that have the right class", "relative gain, %")
    rows = claims.by_coverage(results)
    covering = [row[0] for row in rows]
    for place, top in enumerate(results["protocol"]["tops"]):
        gains = [100 * (row[3 + place] - row[2]) / max(row[2], 1) for row in rows]
        plot.plot(covering, gains, marker="o", label=f"n = {top}")
    plot.axhline(0, color="#8c8c8c", linewidth=1)
    plot.set_xticks(covering)
    plot.legend(frameon=False, fontsize=9)
    return figure
