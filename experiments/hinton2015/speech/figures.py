"""Figures of sections 4 and 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from experiments.hinton2015.speech.claims import accuracies
from kd.evidence import mean_sd
from kd.pages import plain_axes

_INK = {"baseline": "#c2543a", "distilled": "#2b6cb0", "ensemble": "#4d4d4d"}
_SMALL_INK = {"hard 100%": "#8c8c8c", "hard 3%": "#c2543a", "soft 3%": "#2b6cb0"}


def systems_figure(results: Mapping[str, Any]) -> Figure:
    """Frame accuracy of every model of section 4, and the mean of each system."""
    figure, plot = plain_axes(7, 3.4, "", "frame accuracy, %")
    for x, (name, members) in enumerate(results["systems"].items()):
        values, ink = accuracies(results, members), _INK[name.partition(" ")[0]]
        spread = [
            x + (i - (len(values) - 1) / 2) * 0.3 / max(len(values), 2) for i in range(len(values))
        ]
        plot.scatter(spread, values, s=22, color=ink, alpha=0.65, linewidths=0)
        mean = mean_sd(values)[0]
        plot.plot([x - 0.28, x + 0.28], [mean, mean], color=ink, linewidth=2)
        plot.annotate(f"{mean:.1f}", (x + 0.3, mean), va="center", fontsize=9, color=ink)
    names = [name.replace(" T", "\nT") for name in results["systems"]]
    plot.set_xticks(range(len(names)), names)
    plot.set_xlim(-0.5, len(names) - 0.3)
    return figure


def small_figure(results: Mapping[str, Any]) -> Figure:
    """Section 6: frame accuracy on training and on test data."""
    figure, plot = plain_axes(7, 3.4, "", "frame accuracy, %")
    for x, (name, members) in enumerate(results["small"].items()):
        pairs = [[100 * m["train_accuracy"] for m in members], accuracies(results, members)]
        looks = zip(
            (-0.2, 0.2), pairs, (0.45, 1.0), ("black", "white"), ("train", "test"), strict=True
        )
        for shift, values, alpha, ink, split in looks:
            mean, sd = mean_sd(values)
            plot.bar(x + shift, mean, 0.36, yerr=sd, capsize=3, color=_SMALL_INK[name], alpha=alpha)
            plot.annotate(
                f"{split}\n{mean:.1f}", (x + shift, 2), ha="center", fontsize=9, color=ink
            )
    plot.set_xticks(range(len(results["small"])), list(results["small"]))
    plot.set_ylim(0, 100)
    return figure
