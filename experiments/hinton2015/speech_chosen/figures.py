"""The figure of the trials: what the validation speakers say of each length and temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from kd.pages import plain_axes

_HARD = "#c2543a"


def trials_figure(results: Mapping[str, Any], arms: Sequence[str]) -> Figure:
    """Validation accuracy against length: of the hard arm, and of the soft arm a line for each
    temperature; the chosen trials are ringed.
    """
    figure, plot = plain_axes(7, 3.4, "epochs", "validation frame accuracy, %")
    frames = results["judged"]["frames"]
    for arm in arms:
        trials = results["trials"][arm]
        heats = sorted({trial["temperature"] or 0.0 for trial in trials})
        for heat in heats:
            line = [t for t in trials if (t["temperature"] or 0.0) == heat]
            line.sort(key=lambda trial: trial["epochs"])
            plot.plot(
                [trial["epochs"] for trial in line],
                [accuracy(trial, frames) for trial in line],
                marker="o",
                markersize=4,
                color=_ink(heat, heats),
                label=f"T = {heat:g}" if heat else "hard labels",
            )
        ring = results["best"][arm]
        plot.scatter(
            [ring["epochs"]], [accuracy(ring, frames)], s=120, facecolors="none", edgecolors="black"
        )
    plot.set_xscale("log")
    ticks = sorted({trial["epochs"] for arm in arms for trial in results["trials"][arm]})
    plot.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    plot.minorticks_off()
    plot.legend(frameon=False, fontsize=8)
    return figure


def accuracy(trial: Mapping[str, Any], frames: int) -> float:
    """Frame accuracy of a trial on the validation speakers, in per cent."""
    return 100 * (1 - trial["errors"] / frames)


def _ink(heat: float, heats: Sequence[float]) -> Any:
    """Hard labels in their own colour, temperatures from light to dark blue."""
    if not heat:
        return _HARD
    return matplotlib.colormaps["Blues"](0.4 + 0.5 * heats.index(heat) / max(len(heats) - 1, 1))
