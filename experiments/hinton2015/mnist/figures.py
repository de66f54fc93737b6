"""The figures of the MNIST page, each drawn from the results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.hinton2015.mnist.rows import plural
from kd.evidence import mean_sd, t_interval
from kd.pages import plain_axes

Results = Mapping[str, Any]
INK = {"teachers": "#8c8c8c", "baseline": "#c2543a", "distilled": "#2b6cb0", "other": "#4d4d4d"}


def draw(results: Results) -> dict[str, Figure]:
    """Every figure by file name."""
    return {
        "arms.svg": _arms(results),
        "temperature-width.svg": _heat_map(results["sweep"]),
        "temperature.svg": _temperature(results["sweep"]),
        "omitted.svg": _bias(results["omitted"]),
        "only.svg": _bias(results["only"]),
        "limit.svg": _limit(results["limit"]),
        "curves.svg": _curves(results["curves"]),
    }


def grid(
    sweep: Sequence[Mapping[str, Any]],
) -> tuple[list[int], list[float], dict[tuple[int, float], list[int]]]:
    """Widths, temperatures, and the errors of each cell."""
    cells = {(row["width"], row["temperature"]): row["errors"] for row in sweep}
    return sorted({w for w, _ in cells}), sorted({t for _, t in cells}), cells


def _arms(results: Results) -> Figure:
    names = {
        "teachers": "teachers",
        "baseline": "student,\nhard labels",
        "distilled": "student,\nsoft targets",
        "ensemble-arithmetic": "of the ensemble,\narithmetic",
        "ensemble-geometric": "of the ensemble,\ngeometric",
    }
    figure, plot = plain_axes(7.5, 3.4, "", "test errors")
    for x, (arm, _) in enumerate(names.items()):
        errors = [m["errors"] for m in results["arms"][arm]["members"]]
        ink = INK.get(arm, INK["other"])
        spread = [
            x + (i - (len(errors) - 1) / 2) * 0.3 / max(len(errors), 2) for i in range(len(errors))
        ]
        plot.scatter(spread, errors, s=22, color=ink, alpha=0.65, linewidths=0)
        mean = mean_sd(errors)[0]
        plot.plot([x - 0.28, x + 0.28], [mean, mean], color=ink, linewidth=2)
        plot.annotate(f"{mean:.1f}", (x + 0.3, mean), va="center", fontsize=9, color=ink)
    plot.set_xticks(range(len(names)), list(names.values()), fontsize=9)
    plot.set_xlim(-0.5, len(names) - 0.3)
    plot.set_ylim(bottom=0)
    return figure


def _heat_map(sweep: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean errors and their 95% intervals, shaded by how far each is above its row's best."""
    widths, temperatures, cells = grid(sweep)
    means = np.array([[mean_sd(cells[w, t])[0] for t in temperatures] for w in widths])
    excess = means / means.min(axis=1, keepdims=True) - 1
    figure = Figure(figsize=(7.5, 0.65 * len(widths) + 1.2))
    plot = figure.subplots()
    image = plot.imshow(100 * excess, cmap="YlOrRd", aspect="auto", vmin=0)
    for i, width in enumerate(widths):
        for j, temperature in enumerate(temperatures):
            low, high = t_interval(cells[width, temperature])
            dark = excess[i, j] > 0.6 * excess.max()
            ink = "white" if dark else "#1b1f24"
            plot.text(
                j,
                i,
                f"{means[i, j]:.0f}\n{low:.0f}-{high:.0f}",
                ha="center",
                va="center",
                fontsize=8.5,
                color=ink,
            )
    plot.set_xticks(range(len(temperatures)), [f"{t:g}" for t in temperatures])
    plot.set_yticks(range(len(widths)), [f"{w} × {w}" for w in widths])
    plot.set_xlabel("temperature T")
    plot.set_ylabel("hidden units")
    figure.colorbar(image, ax=plot, label="% above the row's best")
    return figure


def _temperature(sweep: Sequence[Mapping[str, Any]]) -> Figure:
    widths, temperatures, cells = grid(sweep)
    figure, plot = plain_axes(7.5, 3.6, "temperature T", "test errors (log scale)")
    shades = ("#9ecae1", "#4292c6", "#2171b5", "#08306b")
    for width, ink in zip(widths, shades[-len(widths) :], strict=False):
        stats = [mean_sd(cells[width, t]) for t in temperatures]
        plot.errorbar(
            temperatures,
            [mean for mean, _ in stats],
            yerr=[sd for _, sd in stats],
            color=ink,
            marker="o",
            markersize=4,
            capsize=3,
            label=f"{width} × {width}",
        )
    plot.set_xscale("log")
    plot.set_yscale("log")
    plot.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
    plot.minorticks_off()
    ticks = [
        t
        for t in (50, 70, 100, 140, 200, 300, 400, 600)
        if 0.8 * plot.get_ylim()[0] < t < plot.get_ylim()[1]
    ]
    plot.set_yticks(ticks, [str(t) for t in ticks])
    plot.legend(
        frameon=False,
        fontsize=9,
        title="hidden units",
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    return figure


def _bias(section: Results) -> Figure:
    """Errors against the offset, mean and range over seeds, with both offsets that the text
    names.
    """
    moved = plural(section["moved"])
    figure, plot = plain_axes(7.5, 3.6, f"offset of the bias of {moved}", "test errors")
    labels = {"errors": "all errors", "errors_on_classes": f"errors on {moved}"}
    for (count, label), ink in zip(
        labels.items(), (INK["distilled"], INK["baseline"]), strict=True
    ):
        curves = np.array([member["curve"][count] for member in section["members"]])
        plot.plot(section["offsets"], curves.mean(axis=0), color=ink, label=label)
        plot.fill_between(
            section["offsets"],
            curves.min(axis=0),
            curves.max(axis=0),
            color=ink,
            alpha=0.15,
            linewidth=0,
        )
    for offset, style in (("frequency", "--"), ("best", ":")):
        at = mean_sd([member[offset]["offset"] for member in section["members"]])[0]
        name = {"frequency": "matched frequency", "best": "best on the test set"}[offset]
        plot.axvline(
            at, color=INK["other"], linestyle=style, linewidth=1.2, label=f"{name}, {at:+.1f}"
        )
    plot.set_ylim(bottom=0)
    plot.legend(frameon=False, fontsize=9)
    return figure


def _limit(limit: Results) -> Figure:
    figure, plot = plain_axes(7.5, 3.4, "temperature T", "relative distance of the gradient")
    temperatures, errors = limit["temperatures"], limit["errors"]
    plot.plot(
        temperatures,
        errors,
        color=INK["distilled"],
        marker="o",
        markersize=4,
        label="median test example",
    )
    guide = [errors[-1] * temperatures[-1] / t for t in temperatures]
    plot.plot(temperatures, guide, color=INK["other"], linestyle=":", label="1/T")
    plot.set_xscale("log")
    plot.set_yscale("log")
    plot.set_ylim(top=3 * max(errors))
    plot.legend(frameon=False, fontsize=9)
    return figure


def _curves(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Every training run in a panel of its own: errors of each member against the share of the run
    that is over.
    """
    across = 4
    down = -(-len(curves) // across)
    figure = Figure(figsize=(9, 1.9 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel, (arm, points) in zip(panels, curves.items(), strict=False):
        last = points[-1]["step"]
        table = np.array([point["errors"] for point in points])
        panel.plot(
            [100 * p["step"] / last for p in points],
            table,
            color=INK.get(arm, INK["other"]),
            alpha=0.45,
            lw=0.9,
        )
        panel.set_title(arm.replace("_", " "), fontsize=8)
        panel.set_yscale("log")
        panel.tick_params(labelsize=7, which="both")
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    figure.supxlabel("% of the run", fontsize=9)
    figure.supylabel("test errors (log scale)", fontsize=9)
    return figure
