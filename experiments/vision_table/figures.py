"""The figures of the table: differences against tuned KD, and what every trial came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from experiments.vision_table.claims import Compared, arms, examples, points
from kd.pages import plain_axes

INK = {"labels": "#8c8c8c", "logits": "#2b6cb0", "features": "#c2543a", "relations": "#3b8a5a"}
Results = Mapping[str, Any]


def draw(results: Results, told: Compared) -> dict[str, Figure]:
    """The figures by file name."""
    drawings = {"forest.svg": forest(results, told)}
    return {**drawings, "trials.svg": trials(results)} if results["tuning"] else drawings


def forest(results: Results, told: Compared) -> Figure:
    """Points of accuracy over tuned KD of every arm: the test images, and above them hollow those
    of validation.
    """
    gains = {
        split: {arm: points(results, change, split) for arm, change in changes.items()}
        for split, changes in told.arms.items()
    }
    names = sorted(gains["test"], key=lambda arm: gains["test"][arm][0])
    figure, plot = plain_axes(
        7, 0.8 + 0.42 * len(names), "points of accuracy over tuned KD, with 95% intervals", ""
    )
    plot.axvline(0, color="#4d4d4d", linewidth=1)
    for split, shift, face in (("test", -0.1, None), ("val", 0.16, "white")):
        for place, arm in enumerate(names):
            value, low, high = gains[split][arm]
            color = _ink(results, arm)
            plot.errorbar(
                value,
                place + shift,
                xerr=[[max(value - low, 0)], [max(high - value, 0)]],
                color=color,
                marker="o",
                markersize=5,
                capsize=2,
                linewidth=1.4,
                markerfacecolor=face or color,
                alpha=1.0 if face is None else 0.7,
            )
    plot.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    plot.set_title(
        f"filled: {examples(results, 'test'):,} test images; hollow: {examples(results, 'val'):,} "
        "of validation, which chose the numbers",
        fontsize=8,
        loc="left",
    )
    return figure


def trials(results: Results) -> Figure:
    """Accuracy on validation of every trial of every loss; the chosen one is filled."""
    figure, plot = plain_axes(7, 3.6, "", "validation accuracy of a trial, %")
    tuned = [arm for arm in arms(results) if arm in results["tuning"]]
    for place, arm in enumerate(tuned):
        told = results["tuning"][arm]
        values = [100 * (1 - errors / examples(results, "val")) for errors in told["errors"]]
        spread = [place + (i - (len(values) - 1) / 2) * 0.1 for i in range(len(values))]
        color = _ink(results, arm)
        faces = [color if i == told["chosen"] else "white" for i in range(len(values))]
        plot.scatter(spread, values, s=24, facecolors=faces, edgecolors=color, linewidths=1)
    names = [name.replace("_", "\n") for name in tuned]
    plot.set_xticks(range(len(names)), names, fontsize=7)
    return figure


def _ink(results: Results, arm: str) -> str:
    return INK[results["protocol"]["arms"][arm]["family"]]
