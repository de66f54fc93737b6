"""The page of the MNIST experiment: every word and number of it comes from results.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.hinton2015.mnist import claims, figures
from experiments.hinton2015.mnist.protocol import RUNS
from experiments.hinton2015.mnist.rows import main_table, missed, plural
from experiments.hinton2015.parts import choices, making, provenance
from kd.evidence import mean_sd
from kd.pages import Page, Table, plus_minus

Results = Mapping[str, Any]

READING = "Mean ± standard deviation over n seeds, last epoch."
PAPER = "The paper's numbers are one run each."
PAIRED = "Student i learns from teacher i."
BANDS = "A band was written down before the run; the verdict is about the mean."
OFFSETS = (
    'Offsets "matched to the frequency" use the training images and how many there are of each '
    'class, and no test data; those "chosen on the test set" are the paper\'s way.'
)
ALL_MET = "Every row lies within its band."
SMALL = """\
The paper shows this on speech. Early stopping looks at validation images; the soft targets are
those of a teacher that saw all training images, and nothing stops them early."""


def page(results: Results) -> Page:
    """Markdown, summary and figures."""
    table = main_table(results)
    text = "\n\n".join(
        [
            f"# {results['experiment']}: sections 2.1, 3 and 6 on {_data(results)}",
            claims.verdict_line(results),
            f"## {table.title}",
            table.markdown(),
            _reading(results),
            *_missed(results),
            "![Test errors of every seed](figures/arms.svg)",
            *_temperature(results),
            *_bias(results),
            "## Ensembles",
            claims.ensemble_table(results).markdown(),
            "The gain is that of the ensemble over the student on hard labels; intervals are 95%, "
            "over seeds and test "
            "examples.",
            *_limit(results),
            "## Soft targets as regularisers (section 6)",
            claims.small_table(results).markdown(),
            SMALL,
            *_hypotheses(results),
            "## Training",
            "Every run, a line for each of its members.",
            "![Test errors against steps](figures/curves.svg)",
            "## What the paper leaves open, and what was chosen",
            _protocol(results).markdown(),
            "\n".join(f"- {note}" for note in results["protocol"]["notes"]),
            "## How this was made",
            making(results),
            _population(results).markdown(),
            "A population is one compiled program for all its members; 1 would be the time of one "
            "run after the other.",
        ]
    )
    drawings = figures.draw(results)
    return Page(text + "\n", table, claims.verdict_line(results), provenance(results), drawings)


def _data(results: Results) -> str:
    source = results["protocol"]["distilled"]["data"]["source"]
    return "MNIST" if source == "tfds:mnist" else source


def _reading(results: Results) -> str:
    """How to read the main table: of the paper and the bands only where it shows them."""
    protocol = results["protocol"]
    paper, bands = ([PAPER] if protocol["paper"] else []), ([BANDS] if protocol["bands"] else [])
    return " ".join([READING, *paper, PAIRED, *bands, OFFSETS])


def _missed(results: Results) -> list[str]:
    if not results["protocol"]["bands"]:
        return []
    names = missed(results)
    return [f"Outside their bands: {'; '.join(names)}." if names else ALL_MET]


def _temperature(results: Results) -> list[str]:
    widths, temperatures, cells = figures.grid(results["sweep"])
    rows = [
        [
            f"{w} × {w}",
            *(plus_minus(cells[w, t]) for t in temperatures),
            str(len(cells[w, temperatures[0]])),
        ]
        for w in widths
    ]
    table = Table("", ["hidden units", *(f"T = {t:g}" for t in temperatures), "n"], rows)
    return [
        "## Temperature and width",
        "Test errors in every cell: the mean and its 95% interval (Student's t over seeds) on the "
        "map, mean ± standard "
        "deviation below it.",
        "![Errors at every width and temperature](figures/temperature-width.svg)",
        table.markdown(),
        claims.temperature_claims(results).markdown(),
        "Intervals are 95%, Student's t over seeds, paired.",
        "![Errors against temperature](figures/temperature.svg)",
    ]


def _bias(results: Results) -> list[str]:
    omitted = plural(results["omitted"]["moved"])
    return [
        "## Classes that the student never saw",
        f"Without {omitted}: errors against the bias of that class, mean and range over seeds.",
        "![Errors against the bias, a class omitted](figures/omitted.svg)",
        f"Only {plural(results['only']['kept'])}: errors against the bias of those classes.",
        "![Errors against the bias, two classes only](figures/only.svg)",
        _offsets(results).markdown(),
    ]


def _offsets(results: Results) -> Table:
    paper = {"omitted": ["+3.5"], "only": ["-7.6"]} if results["protocol"]["paper"] else {}
    rows = []
    for section, name in (("omitted", "a class omitted"), ("only", "two classes only")):
        members = results[section]["members"]
        offsets = [
            plus_minus([m[way]["offset"] for m in members], 2) for way in ("frequency", "best")
        ]
        rows.append([name, *paper.get(section, []), *offsets, str(len(members))])
    ways = ["matched to the frequency", "chosen on the test set"]
    theirs = ["paper"] if paper else []
    return Table("", ["offset of the bias", *theirs, *ways, "n"], rows)


def _limit(results: Results) -> list[str]:
    errors = dict(zip(results["limit"]["temperatures"], results["limit"]["errors"], strict=True))
    shown = [t for t in (10.0, 100.0, 1000.0) if t in errors]
    return [
        "## The limit of high temperature (section 2.1)",
        "Relative distance between the gradient of the soft-target loss and its limit, logit "
        "matching, on the test "
        "images' logits of a student and a teacher, median: "
        f"{', '.join(f'{errors[t]:.1e} at T = {t:g}' for t in shown)}.",
        "![Distance from the limit against temperature](figures/limit.svg)",
    ]


def _hypotheses(results: Results) -> list[str]:
    if not results["hypotheses"]:
        return []
    main = [member["errors"] for member in results["arms"]["distilled"]["members"]]
    rows = [["as above", plus_minus(main), "", str(len(main))]]
    for name, errors in results["hypotheses"].items():
        differences = [ours - theirs for ours, theirs in zip(errors, main, strict=True)]
        rows.append(
            [
                name.replace("_", " "),
                plus_minus(errors),
                f"{mean_sd(differences)[0]:+.1f}",
                str(len(errors)),
            ]
        )
    table = Table("", ["student of one teacher", "test errors", "difference", "n"], rows)
    return [
        "## What the student's errors depend on",
        table.markdown(),
        _hypothesis_runs(results).markdown(),
    ]


def _hypothesis_runs(results: Results) -> Table:
    """What each variant changes, as the config says it."""
    main = choices(results["protocol"]["distilled"])
    rows = []
    for name, run in results["protocol"]["hypotheses"].items():
        changed = {key: value for key, value in choices(run).items() if value != main[key]}
        rows.append(
            [name.replace("_", " "), "; ".join(f"{key}: {value}" for key, value in changed.items())]
        )
    return Table("", ["variant", "what it changes"], rows)


def _population(results: Results) -> Table:
    rows = [
        [
            f"{row['width']} × {row['width']}",
            str(row["members"]),
            f"{1000 * row['single']:.2f}",
            f"{1000 * row['population']:.2f}",
            f"{row['ratio']:.2f}",
        ]
        for row in results["population"]
    ]
    return Table(
        "",
        ["hidden units", "members", "one run, ms/step", "population, ms/step", "ratio per member"],
        rows,
    )


def _protocol(results: Results) -> Table:
    runs = {name: choices(results["protocol"][name]) for name in RUNS}
    rows = [[choice, *(run[choice] for run in runs.values())] for choice in runs["teachers"]]
    return Table("The protocol", ["", *(name.replace("_", " ") for name in runs)], rows)
