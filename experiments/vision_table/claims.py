"""What the table claims: differences in accuracy with their intervals, measures with bands."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from experiments.vision_table.measure import unpacked
from experiments.vision_table.protocol import BASELINE, CONTROL, FAMILIES, LONGER
from kd.evidence import Comparison, compare_counts

Results = Mapping[str, Any]
Split = Literal["val", "test"]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A measure: what it is in words, the published number if there is one, ours with its 95%
    interval where it is a difference, and the band that was written before the run.
    """

    about: str
    paper: float | None
    value: float
    low: float
    high: float
    band: tuple[float, float] | None

    @property
    def met(self) -> bool:
        """Whether our number lies in the band."""
        return self.band is None or self.band[0] <= self.value <= self.band[1]


def arms(results: Results) -> list[str]:
    """The arms by family, hard labels and plain distillation first."""
    told = results["protocol"]["arms"]

    def place(arm: str) -> tuple[int, bool, str]:
        return FAMILIES.index(told[arm]["family"]), arm not in (BASELINE, CONTROL), arm

    return sorted(results["arms"], key=place)


def accuracies(results: Results, arm: str, split: Split) -> list[float]:
    """Accuracy of each of an arm's students, in percent."""
    return [100 * member["accuracy"] for member in results["arms"][arm][split]]


def wrong(results: Results, arm: str, split: Split) -> np.ndarray:
    """Which examples each of an arm's students gets wrong, ``[seeds n]``, 1 or 0."""
    members = results["arms"][arm][split]
    return np.stack([unpacked(m["wrong"], m["examples"]) for m in members]).astype(float)


def examples(results: Results, split: Split) -> int:
    """How many examples a split has."""
    return results["teacher"][split]["examples"]


def against(
    results: Results, several: Sequence[str], split: Split, control: str = CONTROL
) -> Comparison:
    """Errors of an arm, or the mean of several arms', minus those of the control, paired by seed
    and example.
    """
    treatment = np.mean([wrong(results, arm, split) for arm in several], axis=0)
    return compare_counts(treatment.tolist(), wrong(results, control, split).tolist())


def points(results: Results, change: Comparison, split: Split) -> tuple[float, float, float]:
    """A change in errors as points of accuracy: value, and the ends of its interval."""
    scale = -100 / examples(results, split)
    # 0, and never -0
    value, low, high = (x * scale + 0.0 for x in (change.difference, change.high, change.low))
    return value, low, high


def losses(results: Results) -> list[str]:
    """The arms that learn from the teacher, but for plain distillation itself."""
    told = results["protocol"]["arms"]
    return [arm for arm in arms(results) if told[arm]["family"] != "labels" and arm != CONTROL]


def published(results: Results) -> list[str]:
    """The losses of the table that the published pair of networks has numbers for."""
    paper = results["protocol"]["paper"].get(results["protocol"]["pair"], {})
    return [arm for arm in losses(results) if arm in paper]


def published_gain(results: Results, pair: str, several: Sequence[str]) -> float:
    """Mean gain of these losses over plain distillation, as published of a pair of networks."""
    told = results["protocol"]["paper"][pair]
    return float(np.mean([told[arm] for arm in several])) - told[CONTROL]


def best_on_validation(results: Results) -> str:
    """The loss whose students have the fewest errors on the validation images."""
    return max(losses(results), key=lambda arm: sum(accuracies(results, arm, "val")))


def claims(results: Results) -> dict[str, Claim]:
    """Every measure by name, those that the arms and the published numbers allow."""
    told = {
        "teacher": _level(results, "teacher", 100 * results["teacher"]["test"]["accuracy"]),
        "hard": _level(
            results, "hard", float(np.mean(accuracies(results, BASELINE, "test"))), BASELINE
        ),
        "kd_gain": _gain(results, "kd_gain", "tuned KD over hard labels", [CONTROL], BASELINE),
    }
    if LONGER in arms(results):
        about = "tuned KD over hard labels for twice as long"
        told["kd_over_longer"] = _gain(results, "kd_over_longer", about, [CONTROL], LONGER)
    if several := published(results):
        pair = results["protocol"]["pair"]
        about = f"mean of {', '.join(several)} over tuned KD"
        claim = _gain(results, "published_gain", about, several)
        paper = published_gain(results, pair, several)
        told["published_gain"] = dataclasses.replace(claim, paper=paper)
    if losses(results):
        best = best_on_validation(results)
        about = f"{best}, the best on validation, over tuned KD"
        told["best_gain"] = _gain(results, "best_gain", about, [best])
    return told


def survival(told: Mapping[str, Claim]) -> tuple[float, float, float]:
    """Of all claims: the share of the published mean gain over plain distillation that is left,
    and its 95% interval; NaN without published numbers.
    """
    claim = told.get("published_gain")
    if claim is None or not claim.paper:
        return math.nan, math.nan, math.nan
    return claim.value / claim.paper, claim.low / claim.paper, claim.high / claim.paper


@dataclasses.dataclass(frozen=True)
class Compared:
    """Everything that the page says of the results, computed once: each arm but tuned KD against
    it on both splits, all losses that were published together, and the claims.
    """

    arms: Mapping[Split, Mapping[str, Comparison]]
    together: Comparison
    claims: Mapping[str, Claim]


def compared(results: Results) -> Compared:
    """The results' comparisons. Without published numbers all losses stand together."""
    others = [arm for arm in arms(results) if arm != CONTROL]
    splits: tuple[Split, ...] = ("test", "val")
    return Compared(
        {split: {arm: against(results, [arm], split) for arm in others} for split in splits},
        against(results, published(results) or losses(results), "test"),
        claims(results),
    )


def _level(results: Results, name: str, value: float, arm: str = "") -> Claim:
    about = f"test accuracy of {'hard labels' if arm else 'the teacher'}, %"
    return Claim(about, None, value, math.nan, math.nan, _band(results, name))


def _gain(
    results: Results, name: str, about: str, several: Sequence[str], control: str = CONTROL
) -> Claim:
    change = points(results, against(results, several, "test", control), "test")
    return Claim(f"points, {about}", None, *change, _band(results, name))


def _band(results: Results, name: str) -> tuple[float, float] | None:
    band = results["protocol"]["bands"].get(name)
    return None if band is None else (band[0], band[1])
