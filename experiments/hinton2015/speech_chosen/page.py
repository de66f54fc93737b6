"""The page of the second protocol: every word and number of it comes from results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.hinton2015.parts import making, provenance
from experiments.hinton2015.speech import hypotheses
from experiments.hinton2015.speech.claims import accuracies, claims
from experiments.hinton2015.speech.figures import small_figure, systems_figure
from experiments.hinton2015.speech.page import (
    bands_table,
    protocol_table,
    small_table,
    systems_table,
    verdict_line,
)
from experiments.hinton2015.speech_chosen.figures import accuracy, trials_figure
from experiments.hinton2015.speech_chosen.protocol import RIVALS
from kd.pages import Page, Table, plus_minus

NAMES = {
    "baseline": "baseline, hard labels",
    "distilled": "student of the ensemble",
    "small_hard": "hard 3%, early stopping",
    "small_soft": "soft 3%",
}
"""What the page calls the arms."""


def page(results: Mapping[str, Any]) -> Page:
    """Choice, sections 4 and 6, bands, hypotheses, trials, and how it was made."""
    parts = [
        f"# {results['experiment']}: lengths and temperatures chosen on the validation speakers",
        verdict_line(results),
        *_choice(results),
        *_sections(results),
        *_bands(results),
        *_hypotheses(results),
        *_trials(results),
        "## The chosen runs",
        protocol_table(results).markdown(),
        results["protocol"]["notes"],
        "## How this was made",
        making(results),
    ]
    figures = {
        "trials-all.svg": trials_figure(results, ("baseline", "distilled")),
        "trials-small.svg": trials_figure(results, ("small_hard", "small_soft")),
        "systems.svg": systems_figure(results),
        "small.svg": small_figure(results),
    }
    text = "\n\n".join(part for part in parts if part) + "\n"
    return Page(text, systems_table(results), verdict_line(results), provenance(results), figures)


def choices_table(results: Mapping[str, Any]) -> Table:
    """What was chosen of each arm, and whether its grid was wide enough to say so."""
    rows = [
        [
            name,
            str(len(results["trials"][arm])),
            f"{results['best'][arm]['epochs']:g}",
            _heat(results["best"][arm]),
            f"{accuracy(results['best'][arm], results['judged']['frames']):.2f}%",
            ", ".join(_edges(results, arm)) or "no",
        ]
        for arm, name in NAMES.items()
    ]
    columns = ["arm", "trials", "epochs", "T", "validation frame accuracy", "at an end of its grid"]
    return Table("Chosen on the validation speakers", columns, rows)


def _choice(results: Mapping[str, Any]) -> list[str]:
    judged = results["judged"]
    return [
        "## What was chosen, and on what",
        "A second protocol beside the first, whose numbers and bands stand as they are. The first "
        "took lengths, and the temperature of the 3%, without a choice; here every arm, those on "
        "hard labels too, has its length and its temperature chosen on all "
        f"{judged['speakers']} validation speakers ({judged['frames']:,} frames) and on nothing "
        "else.",
        choices_table(results).markdown(),
        "A trial is one model, with the first of the seeds. The trial with the most validation "
        "frames right is chosen; of equals the shorter, then the one at the lower temperature. "
        "An arm on hard labels has as many trials as the soft one that it is held against, and "
        "its longest is no shorter. One seed is a noisy judge, and so each chosen arm is trained "
        f"anew with all {len(results['seeds'])} seeds to its last epoch (hard 3% to its best look "
        "at the validation speakers), and of all models of an arm these alone are shown the "
        f"{results['protocol']['split']} speakers, once.",
        "![Validation accuracy of the trials on all data](figures/trials-all.svg)",
        "![Validation accuracy of the trials on 3%](figures/trials-small.svg)",
    ]


def _sections(results: Mapping[str, Any]) -> list[str]:
    members = plus_minus(accuracies(results, results["members"]), 2)
    return [
        "## Section 4: the ensemble into one model",
        systems_table(results).markdown(),
        f"On the {results['protocol']['split']} speakers: {results['frames']:,} frames, "
        f"{len(results['speakers'].split()):,} utterances. Mean ± standard deviation over n models "
        "that differ in their first weights alone. The ensemble is the first protocol's, "
        f"{len(results['members'])} models of {results['members_epochs']:g} epochs, {members}% "
        "each; the gain is that over the baseline whose length was chosen.",
        "![Frame accuracy of every model](figures/systems.svg)",
        "## Section 6: soft targets as regularisers",
        small_table(results).markdown(),
        "The teacher of soft 3% is a single model on all data, of the first protocol.",
        "![Frame accuracy on training and test data](figures/small.svg)",
    ]


def _bands(results: Mapping[str, Any]) -> list[str]:
    if not results["protocol"]["bands"]:
        return []
    return [
        "## Paper, ours, band",
        bands_table(results).markdown(),
        "The bands are the first protocol's, written before either run; a missed one stays missed.",
    ]


def _hypotheses(results: Mapping[str, Any]) -> list[str]:
    """Those of the bands that are missed were run, the others are told."""
    written = results["protocol"]["hypotheses"]
    if not written or not claims(results):
        return []
    told = (
        "## Should a band be missed: hypotheses",
        "Written down before any of these runs, for the share of the gain and the share of the "
        "way. Those about a missed band are run, as long and as hot as was chosen for the arm that "
        "they vary, and change one thing of it. Nothing is chosen by them.",
    )
    idle = [
        f"- *{name.replace('_', ' ')}* (not run, its band is met): {hypothesis['claim']}."
        for name, hypothesis in written.items()
        if name not in results["hypotheses"]
    ]
    # the first two parts of that section speak of the first protocol
    return [*told, *hypotheses.section(results)[2:], "\n".join(idle)]


def _trials(results: Mapping[str, Any]) -> list[str]:
    """Every trial: a table of each soft arm, and one of the hard arm beside it."""
    parts = ["## Every trial", "Frame accuracy on the validation speakers, one model each."]
    for soft, hard in RIVALS.items():
        parts += [_grid(results, soft).markdown(), _grid(results, hard).markdown()]
    return parts


def _grid(results: Mapping[str, Any], arm: str) -> Table:
    frames, trials = results["judged"]["frames"], results["trials"][arm]
    lengths = dict.fromkeys(trial["epochs"] for trial in trials)
    heats = dict.fromkeys(trial["temperature"] for trial in trials)
    cells = {(trial["temperature"], trial["epochs"]): trial for trial in trials}
    rows = []
    for heat in heats:
        row = [cells[heat, length] for length in lengths]
        marked = [_cell(trial, results["best"][arm], frames) for trial in row]
        rows.append([_heat(row[0]) if heat else "hard labels", *marked])
    return Table("", [f"{NAMES[arm]}, epochs", *(f"{length:g}" for length in lengths)], rows)


def _cell(trial: Mapping[str, Any], best: Mapping[str, Any], frames: int) -> str:
    value = f"{accuracy(trial, frames):.2f}%"
    return f"**{value}**" if trial == best else value


def _heat(trial: Mapping[str, Any]) -> str:
    return "–" if trial["temperature"] is None else f"T = {trial['temperature']:g}"


def _edges(results: Mapping[str, Any], arm: str) -> Sequence[str]:
    """At which ends of its grid the chosen trial lies."""
    best, trials = results["best"][arm], results["trials"][arm]
    named = {
        "epochs": ("shortest", "longest"),
        "temperature": ("lowest T", "highest T"),
    }
    edges = []
    for key, (low, high) in named.items():
        values = sorted({trial[key] for trial in trials if trial[key] is not None})
        if len(values) > 1 and best[key] == values[0]:
            edges.append(low)
        if len(values) > 1 and best[key] == values[-1]:
            edges.append(high)
    return edges
