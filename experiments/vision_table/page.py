"""The page of the table: every word and number of it comes from results.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from experiments.hinton2015.parts import choices, making, provenance
from experiments.vision_table import figures
from experiments.vision_table.claims import (
    Compared,
    accuracies,
    arms,
    compared,
    examples,
    losses,
    points,
    published,
    published_gain,
    survival,
)
from experiments.vision_table.protocol import BASELINE, CONTROL
from experiments.vision_table.tuning import at_the_edge
from kd.pages import Page, Table, plus_minus

Results = Mapping[str, Any]

READING = """\
Mean ± standard deviation over n seeds, last epoch. Points are accuracy minus that of tuned KD, with
a 95% interval (paired bootstrap over seeds and images); the verdict is about the test images. Of so
many intervals of 95% one in twenty misses by chance. The validation images chose each arm's
numbers, so their columns, marked †, flatter what was tuned; they are many, and show what the few
test images cannot. Time is that of the run of all seeds over that of hard labels, as it happened to
be on that machine; the trials have asked the teacher already."""


def page(results: Results) -> Page:
    """Markdown, summary and figures."""
    told = compared(results)
    table, verdict = main_table(results, told), verdict_line(results, told)
    parts = [
        f"# {results['experiment']}: which gains over plain distillation survive equal compute?",
        verdict,
        f"## {table.title}",
        table.markdown(),
        READING,
        "![Every arm against tuned KD](figures/forest.svg)",
        *_survival(results, told),
        *_bands(told),
        *_tuning(results),
        "## The protocol",
        protocol_table(results).markdown(),
        "\n".join(f"- {note}" for note in results["protocol"]["notes"]),
        "## How this was made",
        making(results),
    ]
    text = "\n\n".join(parts) + "\n"
    return Page(text, table, verdict, provenance(results), figures.draw(results, told))


def verdict_line(results: Results, told: Compared) -> str:
    """What is left of the published gains, or else what the losses come to, in a sentence."""
    several, change = published(results) or losses(results), told.together
    return (
        f"**Verdict: {change.verdict}.** Tuned as much and trained as long as plain distillation, "
        f"{', '.join(several)} are on average {_gain(points(results, change, 'test'))} points of "
        f"test accuracy above it (95% interval, paired bootstrap over {change.seeds} seeds and "
        f"{change.units:,} images): {change.meaning}.{_left(results, told)}"
        f"{_each(results, told)}{_missed(told)}"
    )


def _left(results: Results, told: Compared) -> str:
    value, low, high = survival(told.claims)
    if math.isnan(value):
        return ""
    pair = results["protocol"]["pair"]
    paper = published_gain(results, pair, published(results))
    return (
        f" Published of {pair} are {paper:+.2f}: {100 * value:.0f}% of that is left "
        f"({100 * low:.0f}% to {100 * high:.0f}%)."
    )


def _each(results: Results, told: Compared) -> str:
    verdicts = [told.arms["test"][arm].verdict for arm in losses(results)]
    return (
        f" Of {len(verdicts)} losses {verdicts.count('HELPS')} help against tuned KD, "
        f"{verdicts.count('HURTS')} hurt, and of {verdicts.count('NO EVIDENCE')} there is no "
        "evidence."
    )


def _missed(told: Compared) -> str:
    banded = [claim for claim in told.claims.values() if claim.band is not None]
    missed = [claim.about for claim in banded if not claim.met]
    if not banded:
        return ""
    if not missed:
        return f" All {len(banded)} bands are met."
    return f" **Missed: {len(missed)} of {len(banded)} bands**: {'; '.join(missed)}."


def main_table(results: Results, told: Compared) -> Table:
    """A row for every arm: its numbers, accuracy on test and on validation, against tuned KD."""
    rows = [_row(results, told, arm) for arm in arms(results)]
    columns = [
        "arm", "family", "numbers", "test, %", "over tuned KD", "verdict", "val, % †",
        "over tuned KD †", "time", "n",
    ]  # fmt: skip
    title = (
        f"Accuracy on {examples(results, 'test'):,} test images, and on the "
        f"{examples(results, 'val'):,} of validation"
    )
    return Table(title, columns, [_teacher(results), *rows])


def _teacher(results: Results) -> list[str]:
    accuracy = {split: 100 * results["teacher"][split]["accuracy"] for split in ("test", "val")}
    # it was trained on the validation images
    return ["teacher", "–", "–", f"{accuracy['test']:.1f}", "–", "–", "–", "–", "–", "1"]


def _row(results: Results, told: Compared, arm: str) -> list[str]:
    gains = {"test": "–", "val": "–"}
    if arm != CONTROL:
        gains = {s: _gain(points(results, told.arms[s][arm], s)) for s in told.arms}
    seconds = results["arms"][arm]["seconds"] / results["arms"][BASELINE]["seconds"]
    return [
        arm,
        results["protocol"]["arms"][arm]["family"],
        _numbers(results["numbers"].get(arm, {})),
        plus_minus(accuracies(results, arm, "test")),
        gains["test"],
        "–" if arm == CONTROL else told.arms["test"][arm].verdict,
        plus_minus(accuracies(results, arm, "val")),
        gains["val"],
        f"{seconds:.1f}×",
        str(len(results["arms"][arm]["test"])),
    ]


def _numbers(numbers: Mapping[str, Mapping[str, float]]) -> str:
    shown = [
        f"{number} {value:g}" if len(numbers) == 1 else f"{term}.{number} {value:g}"
        for term, values in numbers.items()
        for number, value in values.items()
    ]
    return ", ".join(shown) or "–"


def _survival(results: Results, told: Compared) -> list[str]:
    paper, several = results["protocol"]["paper"], published(results)
    if not several:
        return []
    ours = [points(results, told.arms["test"][arm], "test") for arm in several]
    rows = [
        [pair, *(f"{theirs[arm] - theirs[CONTROL]:+.2f}" for arm in several),
         f"{published_gain(results, pair, several):+.2f}"]
        for pair, theirs in paper.items()
    ]  # fmt: skip
    mean = points(results, told.together, "test")
    rows.append(["here, tuned alike", *map(_gain, ours), _gain(mean)])
    table = Table("", ["points over plain KD", *several, "mean"], rows)
    return [
        "## How much of the published spread survives?",
        table.markdown(),
        "Published: CIFAR-100, the best of 240 epochs, plain KD at its first numbers. Here: the "
        "protocol below, whose teacher, data, student and length are others, so that what is "
        "compared is the size of the gaps and not the accuracies.",
    ]


def _bands(told: Compared) -> list[str]:
    banded = [claim for claim in told.claims.values() if claim.band is not None]
    if not banded:
        return []
    rows = [
        [
            claim.about,
            "–" if claim.paper is None else f"{claim.paper:+.2f}",
            f"{claim.value:.2f}"
            if math.isnan(claim.low)
            else _gain((claim.value, claim.low, claim.high)),
            f"{claim.band[0]:g} to {claim.band[1]:g}" if claim.band else "–",
            "met" if claim.met else "**missed**",
        ]
        for claim in banded
    ]
    return [
        "## Against the bands",
        Table("", ["measure", "published", "ours", "band", "verdict"], rows).markdown(),
        "A band was written down before the run and is about the value; a missed one stays missed.",
    ]


def _tuning(results: Results) -> list[str]:
    if not results["tuning"]:
        return ["## Tuning", "Nothing was tuned in this form: the config says the numbers."]
    count = examples(results, "val")
    rows = []
    for arm in (arm for arm in arms(results) if arm in results["tuning"]):
        told = results["tuning"][arm]
        share = [100 * (1 - errors / count) for errors in told["errors"]]
        numbers = results["numbers"][arm]
        edges = [
            number
            for term, columns in told["columns"].items()
            for number, values in columns.items()
            if at_the_edge(values, numbers[term][number])
        ]
        rows.append(
            [
                arm,
                _numbers(numbers),
                f"{share[told['chosen']]:.1f}",
                f"{min(share):.1f} to {max(share):.1f}",
                str(len(share)),
                ", ".join(dict.fromkeys(edges)) or "–",
            ]
        )
    columns = ["arm", "chosen", "its validation accuracy, %", "all trials", "trials", "at an edge"]
    epochs, seed = results["protocol"]["trial_epochs"], results["protocol"]["trial_seed"]
    return [
        "## Tuning",
        Table("", columns, rows).markdown(),
        f"Trials of {epochs:g} epochs with seed {seed}. A number at an edge is the least or the "
        "largest that was tried: a wider grid might do better.",
        "![Every trial of every loss](figures/trials.svg)",
    ]


def protocol_table(results: Results) -> Table:
    """What every arm was trained with, as the config says."""
    protocol = results["protocol"]
    run = protocol["run"]
    told = {
        "teacher": f"{_network(protocol['teacher']['model'])}, published weights",
        "student": _network(run["student"]),
        "trained on": f"{run['data']['source']}, {run['data']['train']}",
        "numbers chosen on": run["data"]["eval"],
        "tested on": protocol["test"],
        "views of each image": str(run["data"]["views"]),
        **{key: value for key, value in choices(run).items() if key in _SHOWN},
        "weight decay": f"{run['optim']['weight_decay']:g}",
        "gradients clipped at": f"{run['optim']['clip_norm']:g}",
    }
    return Table("The protocol", ["", "every arm"], [list(row) for row in told.items()])


_SHOWN = ("epochs", "batch", "optimiser, momentum", "learning rate, shape", "jitter, pixels")


def _network(model: Mapping[str, Any]) -> str:
    return f"{model['name']}-{model['depth']}" if "depth" in model else str(model["name"])


def _gain(gain: tuple[float, float, float]) -> str:
    """Points of accuracy with their interval."""
    value, low, high = (round(x, 2) + 0.0 for x in gain)
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
