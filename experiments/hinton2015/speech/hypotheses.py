"""What became of the hypotheses about missed bands: a table of each, written from results.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.hinton2015.bands import shown
from experiments.hinton2015.parts import choices
from experiments.hinton2015.speech.claims import (
    accuracies,
    against,
    chosen,
    share_of_gain,
    share_of_way,
    word_error_rates,
)
from experiments.hinton2015.speech.protocol import Arm, Hypothesis
from kd.evidence import Comparison
from kd.pages import Table, plus_minus

Results = Mapping[str, Any]
_BAND: Mapping[Arm, str] = {
    "distilled": "share_of_gain",
    "baseline": "share_of_gain",
    "small_soft": "small_share",
}
_TITLES = {"share_of_gain": "share of the gain", "small_share": "share of the way"}


@dataclasses.dataclass(frozen=True)
class Tested:
    """A hypothesis and its outcome: the share (value, low, high), and wrong frames against the run
    that it varies.

    `above` compares with its control, if it has one; `band` is the one that the run it varies is
    held to.
    """

    share: tuple[float, float, float]
    change: Comparison
    above: Comparison | None
    band: Sequence[float] | None


def tested(results: Results, name: str) -> Tested:
    """The outcome of one hypothesis, its seeds paired with those of the run that it varies."""
    case, members = hypothesis(results, name), results["hypotheses"][name]
    share = share_of_way if case.of == "small_soft" else share_of_gain
    control = None if case.control is None else results["hypotheses"][case.control]
    return Tested(
        share(results, members),
        against(results, members, _varied(results, case.of)),
        None if control is None else against(results, members, control),
        results["protocol"]["bands"].get(_BAND[case.of]),
    )


def hypothesis(results: Results, name: str) -> Hypothesis:
    """A hypothesis as the config put it."""
    return Hypothesis(**results["protocol"]["hypotheses"][name])


def outcome(results: Results, name: str) -> str:
    """What a hypothesis' numbers say, in two or three words."""
    test, case = tested(results, name), hypothesis(results, name)
    if test.band is not None and test.band[0] <= test.share[0] <= test.band[1]:
        return "**enough**"
    words = {"HELPS": "part of it", "HURTS": "worse", "NO EVIDENCE": "no evidence"}
    return "(control)" if case.of == "baseline" else words[test.change.verdict]


def numbers(results: Results, name: str) -> str:
    """Points of frame accuracy against the run that it varies and its control; accuracy on its
    training data.
    """
    test, case, members = (
        tested(results, name),
        hypothesis(results, name),
        results["hypotheses"][name],
    )
    parts = [f"{_points(results, test.change)} points"]
    if test.above is not None:
        parts.append(
            f"against its control, {_name(case.control or '')}, {_points(results, test.above)}"
        )
    seen = plus_minus([100 * m["train_accuracy"] for m in members], 2)
    return "; ".join([*parts, f"{seen}% of its training frames right"])


def section(results: Results) -> list[str]:
    """The hypotheses' part of the page in Markdown; nothing if there are none."""
    tables = [_table(results, band) for band in _TITLES]
    if not any(table.rows for table in tables):
        return []
    return [
        "## Why bands are missed: hypotheses, each put to the test",
        "Written down after the results above were seen and before any of these was run, and all "
        "of them are shown: "
        "nothing is chosen by these numbers. Each changes what is said and nothing else of the "
        "run that it varies "
        f"({chosen(results)}; the baselines; soft 3%), with the same {len(results['seeds'])} "
        "seeds. Points are points "
        f"of frame accuracy on the {results['protocol']['split']} speakers against that run, "
        "paired by seed and "
        "speaker. Where no control is named, hard labels were not given the same change.",
        "\n".join(
            f"- *{_name(name)}*: {hypothesis(results, name).claim}. {numbers(results, name)}."
            for name in results["hypotheses"]
        ),
        *(table.markdown() for table in tables if table.rows),
        "*Enough*: inside the band by itself. *Part of it*, *worse*: the whole interval of the "
        "points lies on that "
        "side of zero. *No evidence*: it holds zero.",
        *(_teacher(results, name) for name in results["teachers"]),
    ]


def _table(results: Results, band: str) -> Table:
    rows = []
    for name, members in results["hypotheses"].items():
        case = hypothesis(results, name)
        if _BAND[case.of] == band:
            rows.append(
                [
                    _name(name),
                    _changed(results, case),
                    _percent(accuracies(results, members)),
                    _percent(word_error_rates(members)),
                    shown(*tested(results, name).share),
                    outcome(results, name),
                ]
            )
    columns = [
        "hypothesis",
        "what was changed",
        "frame accuracy",
        "WER",
        _TITLES[band],
        "what it says",
    ]
    return Table("", columns, rows)


def _percent(values: Sequence[float]) -> str:
    # one line in a wide table
    return f"{plus_minus(values, 2)}%".replace(" ", "\N{NO-BREAK SPACE}")


def _changed(results: Results, case: Hypothesis) -> str:
    """What the hypothesis' run has otherwise than the run that it varies."""
    before, after = choices(_config(results, case.of)), choices(case.run)
    changes = [f"{key}: {value}" for key, value in after.items() if value != before[key]]
    teachers = {"baseline": "the ensemble"}
    return "; ".join(
        [
            *changes,
            *([f"teacher: {teachers.get(case.teacher, case.teacher)}"] if case.teacher else []),
        ]
    )


def _config(results: Results, arm: Arm) -> Mapping[str, Any]:
    """The config of what a hypothesis varies; of the distilled runs the one at the chosen
    temperature.
    """
    run = results["protocol"][arm]
    if arm != "distilled":
        return run
    soft = {
        **run["objective"]["soft_targets"],
        "temperature": results["protocol"]["temperatures"][results["chosen"]],
    }
    return {**run, "objective": {**run["objective"], "soft_targets": soft}}


def _varied(results: Results, arm: Arm) -> Sequence[Mapping[str, Any]]:
    systems = {
        "distilled": results["systems"][chosen(results)],
        "baseline": results["systems"]["baseline"][: len(results["seeds"])],
        "small_soft": results["small"]["soft 3%"],
    }
    return systems[arm]


def _teacher(results: Results, name: str) -> str:
    """How good a teacher is that was made for hypotheses, beside the ensemble of section 4."""
    changes = choices(results["protocol"]["teachers"][name])
    before, members = choices(results["protocol"]["baseline"]), results["teachers"][name]
    different = "; ".join(
        f"{key}: {value}" for key, value in changes.items() if value != before[key]
    )
    ours, first = (
        f"{accuracies(results, whole)[0]:.2f}% on test, its members "
        f"{plus_minus(accuracies(results, members), 2)}% and "
        "on the frames they were trained on "
        f"{plus_minus([100 * m['train_accuracy'] for m in members], 2)}%"
        for whole, members in (
            ([members["ensemble"]], members["members"]),
            (results["systems"]["ensemble"], results["systems"]["baseline"]),
        )
    )
    return (
        f"Teacher `{name}`: an ensemble of {len(members['members'])}, "
        f"{different or 'no other config'}. Frame accuracy "
        f"{ours}; the ensemble of section 4 {first}."
    )


def _points(results: Results, change: Comparison) -> str:
    """A change in wrong frames as points of accuracy, with its interval."""
    errors = (change.difference, change.high, change.low)
    # 0, and never -0
    value, low, high = (round(-100 * wrong / results["frames"], 2) + 0.0 for wrong in errors)
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def _name(name: str) -> str:
    return name.replace("_", " ")
