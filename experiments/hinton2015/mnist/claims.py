"""The paper's claims in words, each put to a test that was written down before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.hinton2015.mnist.figures import grid
from kd.evidence import MIN_SEEDS, Comparison, compare_errors, interval, mean_sd, t_interval
from kd.pages import Table

Results = Mapping[str, Any]
HIGH, BEST = 8.0, (2.5, 4.0)  # "all temperatures above 8" at 300 units or more; "2.5 to 4" at 30
WIDE, NARROW = 300, 30


def compare_arms(
    results: Results, treatment: str = "distilled", control: str = "baseline"
) -> Comparison:
    """One arm's students against another's, paired by seed and test example."""
    ours, theirs = (
        [member["wrong"] for member in results["arms"][arm]["members"]]
        for arm in (treatment, control)
    )
    return compare_errors(ours, theirs, results["test_examples"])


def verdict_line(results: Results) -> str:
    """The claim of the paper in one sentence, with its interval."""
    change = compare_arms(results)
    return (
        f"**Verdict: {change.verdict}.** Soft targets of one teacher change the student's test "
        "errors by "
        f"{change.difference:+.1f} of {results['test_examples']:,} (95% interval {change.low:+.1f} "
        f"to {change.high:+.1f}, "
        f"paired bootstrap over {change.seeds} seeds and the test examples) against hard labels: "
        f"{change.meaning}."
    )


def temperature_claims(results: Results) -> Table:
    """High temperatures alike in wide students; middling ones best in the narrowest.

    Of what the sweep holds.
    """
    widths, temperatures, cells = grid(results["sweep"])
    high, best = (
        [t for t in temperatures if t >= HIGH],
        [t for t in temperatures if BEST[0] <= t <= BEST[1]],
    )
    sides = {
        "lower": [t for t in temperatures if t < BEST[0]],
        "higher": [t for t in temperatures if t > BEST[1]],
    }
    alike = results["protocol"]["bands"].get("alike")
    rows = []
    if alike is not None and high:
        rows += [
            _alike(w, [mean_sd(cells[w, t])[0] for t in high], alike[1])
            for w in widths
            if w >= WIDE
        ]
    if best:
        rows += [
            _better(w, *side, cells, best)
            for w in widths
            if w <= NARROW
            for side in sides.items()
            if side[1]
        ]
    return Table("The claims on temperature", ["claim", "measured", "verdict"], rows)


def _alike(width: int, means: Sequence[float], most: float) -> list[str]:
    spread = max(means) - min(means)
    claim = f"{width} units: all T of {HIGH:g} and more alike, means within {most:g} errors"
    return [claim, f"{spread:.1f} errors apart", "holds" if spread <= most else "does not hold"]


def _better(
    width: int,
    name: str,
    others: Sequence[float],
    cells: Mapping[tuple[int, float], Sequence[int]],
    best: Sequence[float],
) -> list[str]:
    """Paired by seed: the mean over the best temperatures minus the mean over the others."""
    ours = np.mean([cells[width, t] for t in best], axis=0)
    theirs = np.mean([cells[width, t] for t in others], axis=0)
    low, high = t_interval((ours - theirs).tolist())
    shown = ", ".join(f"{t:g}" for t in others)
    claim = f"{width} units: T of {BEST[0]:g} to {BEST[1]:g} better than {name} ones ({shown})"
    between = "" if np.isnan(low) else f", {low:+.1f} to {high:+.1f}"
    measured = f"{(ours - theirs).mean():+.1f} errors{between}"
    return [claim, measured, _reading(low, high) if len(ours) >= MIN_SEEDS else "too few seeds"]


def _reading(low: float, high: float) -> str:
    """What an interval of "the best minus the others" says, in errors."""
    if high < 0:
        return "holds"
    return "the reverse holds" if low > 0 else "no evidence"


def ensemble_table(results: Results) -> Table:
    """How much of the ensemble's gain over the student on hard labels reaches each student, with
    its interval.
    """
    rows = []
    for average in ("arithmetic", "geometric"):
        share, low, high = gain_share(results, f"ensemble-{average}", f"ensemble, {average}")
        against = compare_arms(results, f"ensemble-{average}", "distilled")
        rows.append(
            [
                f"{average} mean",
                str(results["arms"][f"ensemble, {average}"]["members"][0]["errors"]),
                "–"
                if np.isnan(share)
                else f"{100 * share:.0f}% ({100 * low:.0f}% to {100 * high:.0f}%)",
                f"{against.difference:+.1f} ({against.low:+.1f} to {against.high:+.1f})",
            ]
        )
    columns = [
        "ensemble",
        "its errors",
        "share of its gain in the student",
        "student against that of one teacher, errors",
    ]
    return Table("Ensembles", columns, rows)


def gain_share(results: Results, student: str, ensemble: str) -> tuple[float, float, float]:
    """``(hard - student) / (hard - ensemble)`` in test errors, and its 95% interval over seeds and
    examples.

    NaN where the ensemble gains nothing; samples in which it gains nothing are left out of the
    interval.
    """

    def share(hard: Any, taught: Any, teacher: Any) -> Any:
        gain = np.asarray(hard - teacher)
        return np.divide(hard - taught, gain, out=np.full_like(gain, np.nan), where=gain != 0)

    return interval([indicator(results, arm) for arm in ("baseline", student, ensemble)], share)


def indicator(results: Results, arm: str) -> np.ndarray:
    """Which examples each seed of an arm gets wrong, ``[seeds n]``, 1 or 0."""
    table = np.zeros((len(results["arms"][arm]["members"]), results["test_examples"]))
    for seed, member in enumerate(results["arms"][arm]["members"]):
        table[seed, member["wrong"]] = 1.0
    return table


def small_table(results: Results) -> Table:
    """Section 6: accuracy on the training and on the test images."""
    names = {"full": "hard labels", "hard": "hard labels, early stopping", "soft": "soft targets"}
    rows = []
    for key, name in names.items():
        arm = results["small"][key]
        accuracy = [_percent(arm[split]) for split in ("train", "test")]
        rows.append([f"{arm['examples']:,}", name, *accuracy, str(len(arm["test"]))])
    return Table(
        "Soft targets as regularisers",
        ["examples", "trained on", "train accuracy", "test accuracy", "n"],
        rows,
    )


def _percent(values: Sequence[float]) -> str:
    mean, sd = mean_sd(values)
    return f"{100 * mean:.2f} ± {100 * sd:.2f}%"
