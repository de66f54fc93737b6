"""The page of the section 3 experiment: every word and number of it comes from results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.hinton2015.parts import choices, making, provenance
from kd.evidence import Comparison, compare_errors, mean_sd
from kd.pages import Page, Table, plain_axes, plus_minus

_INK = {"teachers": "#8c8c8c", "ensemble": "#4d4d4d", "baseline": "#c2543a", "distilled": "#2b6cb0"}
_NAMES = {
    "teachers": "one teacher",
    "ensemble": "ensemble",
    "baseline": "student, hard labels",
    "distilled": "student, distilled",
}
_PAPER = " The paper's numbers are errors of one run each, of one teacher and not of an ensemble."


def page(results: Mapping[str, Any]) -> Page:
    """Markdown, summary and figures."""
    comparison = compare_arms(results)
    main = table(results)
    text = "\n\n".join(
        [
            f"# {results['experiment']}: from an ensemble to one model",
            verdict_line(results, comparison),
            f"## {main.title}",
            main.markdown(),
            "Mean ± standard deviation over n runs, last epoch. NLL in nats, ECE over 15 bins. "
            "Agreement and KL are "
            "with the ensemble, on the test set."
            + (_PAPER if results["protocol"]["paper"] else ""),
            "![Test errors of every seed](figures/arms.svg)",
            "## Temperature",
            temperature_table(results).markdown(),
            "![Test errors against temperature](figures/temperature.svg)",
            "## Training",
            "![Test errors against steps](figures/curves.svg)",
            "## The protocol",
            protocol_table(results).markdown(),
            "Both students see the same batches in the same order, seed by seed. "
            + results["protocol"].get("notes", ""),
            "## How this was made",
            making(results),
        ]
    )
    figures = {
        "arms.svg": _arms(results),
        "temperature.svg": _temperature(results),
        "curves.svg": _curves(results),
    }
    return Page(text + "\n", main, verdict_line(results, comparison), provenance(results), figures)


def compare_arms(results: Mapping[str, Any]) -> Comparison:
    """The distilled student against the same student on hard labels, paired by seed and example."""
    wrong = {
        arm: [m["wrong"] for m in results["arms"][arm]["members"]]
        for arm in ("distilled", "baseline")
    }
    return compare_errors(wrong["distilled"], wrong["baseline"], results["test_examples"])


def verdict_line(results: Mapping[str, Any], comparison: Comparison) -> str:
    """The claim in one sentence, with its interval."""
    return (
        f"**Verdict: {comparison.verdict}.** Distilling changes the student's test errors by "
        f"{comparison.difference:+.1f} of {results['test_examples']:,} (95% interval "
        f"{comparison.low:+.1f} to "
        f"{comparison.high:+.1f}, paired bootstrap over {comparison.seeds} seeds and the test "
        "examples) against the "
        f"same student, steps and batches on hard labels: {comparison.meaning}."
    )


def table(results: Mapping[str, Any]) -> Table:
    """The main table: paper beside ours, one row per arm."""
    paper = results["protocol"]["paper"]
    rows = []
    for arm, name in _NAMES.items():
        members = results["arms"][arm]["members"]
        pair = results["pair"].get(arm)
        rows.append(
            [
                name,
                *([str(paper.get(arm, "–"))] if paper else []),
                plus_minus([m["errors"] for m in members]),
                f"{100 * mean_sd([1 - m['accuracy'] for m in members])[0]:.2f}%",
                f"{mean_sd([m['nll'] for m in members])[0]:.3f}",
                f"{mean_sd([m['ece'] for m in members])[0]:.3f}",
                "–" if pair is None else f"{100 * mean_sd([p['agreement'] for p in pair])[0]:.1f}%",
                "–" if pair is None else f"{mean_sd([p['held_out_kl'] for p in pair])[0]:.3f}",
                str(len(members)),
            ]
        )
    columns = [
        "",
        *(["paper"] if paper else []),
        "errors",
        "rate",
        "NLL",
        "ECE",
        "agree",
        "KL",
        "n",
    ]
    return Table(f"Errors on {results['test_examples']:,} test examples", columns, rows)


def temperature_table(results: Mapping[str, Any]) -> Table:
    """Test errors of the distilled student at each temperature."""
    rows = [
        [f"{row['temperature']:g}", plus_minus(row["errors"]), str(len(row["errors"]))]
        for row in _sweep(results)
    ]
    return Table("Test errors against temperature", ["T", "test errors", "n"], rows)


def protocol_table(results: Mapping[str, Any]) -> Table:
    """What was trained: the choices that the paper leaves open, as the config made them."""
    runs = {
        name: choices(results["protocol"][name]) for name in ("teachers", "baseline", "distilled")
    }
    rows = [[choice, *(run[choice] for run in runs.values())] for choice in runs["teachers"]]
    return Table("The protocol", ["", *runs], rows)


def _sweep(results: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return results["temperatures"]


def _arms(results: Mapping[str, Any]) -> Figure:
    figure, plot = plain_axes(7, 3.4, "", "test errors")
    for x, arm in enumerate(_NAMES):
        errors = [m["errors"] for m in results["arms"][arm]["members"]]
        spread = [
            x + (i - (len(errors) - 1) / 2) * 0.3 / max(len(errors), 2) for i in range(len(errors))
        ]
        plot.scatter(spread, errors, s=22, color=_INK[arm], alpha=0.65, linewidths=0)
        mean = sum(errors) / len(errors)
        plot.plot([x - 0.28, x + 0.28], [mean, mean], color=_INK[arm], linewidth=2)
        plot.annotate(f"{mean:.1f}", (x + 0.3, mean), va="center", fontsize=9, color=_INK[arm])
    plot.set_xticks(range(len(_NAMES)), [name.replace(", ", ",\n") for name in _NAMES.values()])
    plot.set_xlim(-0.5, len(_NAMES) - 0.3)
    plot.set_ylim(bottom=0)
    return figure


def _temperature(results: Mapping[str, Any]) -> Figure:
    figure, plot = plain_axes(7, 3.4, "temperature T", "test errors")
    temperatures = [row["temperature"] for row in _sweep(results)]
    stats = [mean_sd(row["errors"]) for row in _sweep(results)]
    mean, sd = [s[0] for s in stats], [s[1] for s in stats]
    plot.errorbar(
        temperatures,
        mean,
        yerr=sd,
        color=_INK["distilled"],
        marker="o",
        capsize=3,
        label="distilled, mean ± sd",
    )
    base, base_sd = mean_sd([m["errors"] for m in results["arms"]["baseline"]["members"]])
    plot.axhline(base, color=_INK["baseline"], linewidth=1.5, label="hard labels, mean ± sd")
    plot.axhspan(base - base_sd, base + base_sd, color=_INK["baseline"], alpha=0.12, linewidth=0)
    ensemble = results["arms"]["ensemble"]["members"][0]["errors"]
    plot.axhline(
        ensemble, color=_INK["ensemble"], linewidth=1.5, linestyle="--", label="the ensemble"
    )
    plot.set_xscale("log")
    plot.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
    plot.minorticks_off()
    plot.set_ylim(bottom=0)
    plot.legend(frameon=False, fontsize=9)
    return figure


def _curves(results: Mapping[str, Any]) -> Figure:
    figure, plot = plain_axes(7, 3.4, "step", "test errors")
    for arm, curve in results["curves"].items():
        steps = [point["step"] for point in curve]
        stats = [mean_sd(point["errors"]) for point in curve]
        low, high = [m - s for m, s in stats], [m + s for m, s in stats]
        plot.plot(
            steps,
            [m for m, _ in stats],
            marker="o",
            markersize=3,
            color=_INK[arm],
            label=f"{_NAMES[arm]} (mean ± sd)",
        )
        plot.fill_between(steps, low, high, color=_INK[arm], alpha=0.15, linewidth=0)
    plot.set_ylim(bottom=0)
    plot.legend(frameon=False, fontsize=9)
    return figure
