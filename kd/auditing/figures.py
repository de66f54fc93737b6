"""The figures of an audit."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kd.auditing import sweep
from kd.pages.report import plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Audit = Mapping[str, Any]
_TEACHER, _STUDENT, _MISSING = "#4d4d4d", "#2b6cb0", "#c2543a"
_LABELLED_CLASSES = 30


def figures(audit: Audit) -> dict[str, Figure]:
    """Every figure by file name; of a sweep that one which can show all settings."""
    if sweep.settings(audit):
        return {"entropy.svg": entropy(audit)}
    drawn = {"entropy.svg": entropy(audit), "class_kl.svg": class_kl(audit)}
    return drawn if audit["missing"] is None else {**drawn, "bias.svg": bias(audit)}


def entropy(audit: Audit) -> Figure:
    """Mean entropy of both sides' softened answers against the temperature, and that of chance."""
    figure, axes = plain_axes(7, 3.4, "temperature T", "entropy, nats")
    temperatures = audit["entropy"]["temperatures"]
    taught = "teachers (mean)" if "pairs" in audit["teacher"] else "teacher"
    axes.plot(
        temperatures,
        audit["entropy"]["teacher"],
        color=_TEACHER,
        linewidth=6,
        alpha=0.3,
        label=taught,
    )
    students = np.asarray(audit["entropy"]["student"])
    of_settings = sweep.settings(audit) or {"student": list(range(len(students)))}
    colors = _colors(len(of_settings))
    for color, (setting, members) in zip(colors, of_settings.items(), strict=True):
        _band(axes, temperatures, students[members], color, setting, marker="o")
    axes.axhline(
        math.log(len(audit["examples_per_class"])),
        color="#9a9a9a",
        linestyle="--",
        label="chance, log v",
    )
    axes.set_xscale("log")
    axes.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _colors(count: int) -> list[str]:
    """A colour for each line: the student's own where there is one, else from dark to light."""
    if count == 1:
        return [_STUDENT]
    shades = [colorsys.hls_to_rgb(0.58, 0.2 + 0.55 * i / (count - 1), 0.6) for i in range(count)]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in shade) for shade in shades]


def class_kl(audit: Audit) -> Figure:
    """What each predicted class adds to the divergence, by true class, as a heat map."""
    table = np.asarray(audit["class_kl"], float)  # None becomes NaN, which stays blank
    figure, axes = plain_axes(6.4, 5.2, "predicted class", "true class")
    axes.grid(visible=False)
    image = axes.imshow(table, cmap="Blues", vmin=0)
    figure.colorbar(image, ax=axes, shrink=0.85, label="nats")
    if len(table) <= _LABELLED_CLASSES:
        axes.set_xticks(range(len(table)))
        axes.set_yticks(range(len(table)))
    return figure


def bias(audit: Audit) -> Figure:
    """Errors in all and on the classes never shown against the offset of their bias, and the chosen
    offsets.
    """
    probe = audit["missing"]
    figure, axes = plain_axes(6.2, 3.6, "offset of the bias", "errors")
    drawn = (
        ("errors", _STUDENT, "all examples"),
        ("errors_on_classes", _MISSING, "classes never shown"),
    )
    for name, color, label in drawn:
        _band(
            axes,
            probe["offsets"],
            np.asarray([curve[name] for curve in probe["curves"]]),
            color,
            label,
        )
    rules = (
        ("none", ":", "as it is"),
        ("matched", "-", "matched"),
        ("best", "--", f"chosen on {audit['split']}"),
    )
    for rule, style, label in rules:
        if rule in probe["members"][0]:
            mean = float(np.mean([member[rule]["offset"] for member in probe["members"]]))
            axes.axvline(
                mean, color="#7a7a7a", linewidth=1, linestyle=style, label=f"{label}, {mean:+.2f}"
            )
    axes.set_ylim(bottom=0)
    # no corner is free for sure
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _band(axes: Any, x: Any, members: np.ndarray, color: str, label: str, marker: str = "") -> None:
    """The mean of the members, and one standard deviation on both sides where there are several."""
    mean = members.mean(axis=0)
    several = len(members) > 1
    axes.plot(
        x, mean, color=color, marker=marker, label=f"{label} (mean ± sd)" if several else label
    )
    if several:
        sd = members.std(axis=0, ddof=1)
        axes.fill_between(x, mean - sd, mean + sd, color=color, alpha=0.15, linewidth=0)
