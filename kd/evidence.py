"""Evidence: paired bootstrap intervals and a verdict, from which examples each seed got wrong."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from kd.errors import KdError

MIN_SEEDS = 5
MIN_UNITS = 5
Rows = Sequence[Sequence[int] | np.ndarray] | np.ndarray
"""For each seed, the rows of the test set that it got wrong."""
Verdict = Literal["HELPS", "NO EVIDENCE", "HURTS"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Test errors of a treatment minus those of its control: mean over seeds, 95% interval,
    verdict.

    `units` are what was resampled besides the seeds: examples, or the clusters that they come in.
    """

    difference: float
    low: float
    high: float
    seeds: int
    units: int

    @property
    def verdict(self) -> Verdict:
        """HELPS or HURTS if the whole interval lies on one side of zero over at least 5 seeds and 5
        units, else NO EVIDENCE.
        """
        if self.seeds < MIN_SEEDS or self.units < MIN_UNITS:
            return "NO EVIDENCE"
        if self.high < 0:
            return "HELPS"
        return "HURTS" if self.low > 0 else "NO EVIDENCE"

    @property
    def meaning(self) -> str:
        """Why the verdict is what it is, in words."""
        if self.seeds < MIN_SEEDS:
            return f"a verdict takes {MIN_SEEDS} seeds or more"
        if self.units < MIN_UNITS:
            return (
                f"a verdict takes {MIN_UNITS} test examples or more, and where they come in "
                f"clusters as many of those; here are {self.units}"
            )
        relations = {"HELPS": "lies below", "HURTS": "lies above", "NO EVIDENCE": "holds"}
        return f"the interval {relations[self.verdict]} zero"


def compare_errors(
    treatment: Rows, control: Rows, examples: int, *, resamples: int = 4000
) -> Comparison:
    """Paired bootstrap of the difference in errors, over seeds and over test examples at once.

    Both are resampled with replacement: an interval over seeds alone would speak of these test
    examples only. Seed i of the treatment is paired with seed i of the control, and every example
    with itself. The percentile interval is widened for few seeds, see `few_factor`: without that,
    arms that differ by their seeds alone get a false verdict 15 times in 100 where there are five
    of them.

    Args:
      treatment: for each seed, the rows of the test set that it got wrong.
      control: the same of the other arm.
      examples: size of the test set.
      resamples: bootstrap samples; the generator's seed is fixed, so a report is reproducible.

    Raises:
      KdError: no seeds, or not the same number in both arms; rows that are not those of a test set
        of that size.

    Source: Efron & Tibshirani (1993), "An introduction to the bootstrap", percentile intervals;
    Hesterberg (2015), "What teachers should know about the bootstrap", on small samples.
    """
    if not len(treatment) or len(treatment) != len(control):
        raise KdError(
            f"a paired comparison needs the same seeds in both arms, got {len(treatment)} and "
            f"{len(control)}"
        )
    if not isinstance(examples, (int, np.integer)) or examples < 1:
        raise KdError(
            "examples must be the size of the test set, a whole number of 1 or more, got "
            f"{examples!r}"
        )
    return _paired(_matrix(treatment, examples) - _matrix(control, examples), resamples)


def compare_counts(
    treatment: Sequence[Sequence[float]],
    control: Sequence[Sequence[float]],
    *,
    resamples: int = 4000,
) -> Comparison:
    """`compare_errors` where examples come in units that must be resampled whole: utterances,
    speakers, documents.

    Args:
      treatment: for each seed, the number of errors in every unit.
      control: the same of the other arm.
      resamples: bootstrap samples.

    Raises:
      KdError: no seeds or units, counts that are not finite, or not the same number of seeds and
        units in both arms.

    Source: Davison & Hinkley (1997), "Bootstrap methods and their application", section 3.8, on
    clustered data.
    """
    if not len(treatment) or not len(control):
        raise KdError(
            "a paired comparison needs the same seeds and units in both arms, got none in one of "
            "them"
        )
    arms = _table(treatment), _table(control)
    if arms[0].shape != arms[1].shape:
        raise KdError(
            "a paired comparison needs the same seeds and units in both arms, got shapes "
            f"{arms[0].shape} and {arms[1].shape}"
        )
    return _paired(arms[0] - arms[1], resamples)


def interval(
    arms: Sequence[np.ndarray | Sequence[Sequence[float]]],
    statistic: Callable[..., np.ndarray],
    *,
    resamples: int = 4000,
) -> tuple[float, float, float]:
    """A statistic of several arms' errors, and its 95% bootstrap interval: (value, low, high).

    `statistic` is elementwise in one array per arm, the total errors averaged over the arm's seeds.
    Units (the last axis of every arm: its errors in each utterance or speaker) are resampled once
    for all arms, which are paired by them; seeds are resampled in each arm alone, for arms may have
    different numbers of them, and the interval is widened for the fewest of seeds and units that
    vary, see `few_factor`. Where the statistic is not defined (NaN), the sample is left out.

    Raises:
      KdError: no arms, arms of different units, or one that is no table of finite numbers.
    """
    tables = [_table(arm) for arm in arms]
    if not tables or any(table.shape[1:] != tables[0].shape[1:] for table in tables):
        raise KdError(
            "arms must be tables [seeds units] of the same units, got "
            f"{[table.shape for table in tables]}"
        )
    rng = np.random.default_rng(0)
    units = tables[0].shape[1]
    weights = rng.multinomial(units, np.full(units, 1 / units), size=resamples)
    picks = [
        rng.multinomial(len(t), np.full(len(t), 1 / len(t)), size=resamples) / len(t)
        for t in tables
    ]
    samples = [
        np.einsum("rs,su,ru->r", p, t, weights, optimize=True)
        for p, t in zip(picks, tables, strict=True)
    ]
    value = statistic(*[table.sum(axis=1).mean() for table in tables])
    resampled = statistic(*samples)
    low, high = _widened(float(value), resampled[~np.isnan(resampled)], [units, *map(len, tables)])
    return float(value), low, high


def few_factor(few: int) -> float:
    """By how much a percentile interval of so `few` seeds is widened:
    ``t(n - 1) / z * sqrt(n / (n - 1))``.

    A bootstrap of n values has their spread without the ``n - 1``, and the normal's tails. Widened
    so, the interval of a mean of n normal values is Student's; of many values it stays as it is.
    One value cannot vary, and is no reason.
    """
    from scipy import stats

    if few < 2:
        return 1.0
    return float(stats.t.ppf(0.975, few - 1) / stats.norm.ppf(0.975) * math.sqrt(few / (few - 1)))


def _widened(value: float, samples: np.ndarray, sizes: Sequence[int]) -> tuple[float, float]:
    """The 95% percentile interval, its ends further from `value` by the factor of the smallest
    sample that varies.
    """
    if not len(samples):
        return math.nan, math.nan
    low, high = np.percentile(samples, [2.5, 97.5])
    factor = few_factor(min((size for size in sizes if size > 1), default=1))
    return float(value - factor * (value - low)), float(value + factor * (high - value))


def _paired(difference: np.ndarray, resamples: int) -> Comparison:
    """Bootstrap of the mean total of ``difference[seed unit]``, over seeds and units; units without
    any are lumped.
    """
    if resamples < 1:
        raise KdError(f"resamples must be 1 or more, got {resamples}; 4000 give a 95% interval")
    seeds, units = difference.shape
    discordant = difference[:, np.any(difference != 0, axis=0)]
    rng = np.random.default_rng(0)
    share = np.full(discordant.shape[1] + 1, 1 / units)
    share[-1] = 1 - discordant.shape[1] / units
    weights = rng.multinomial(units, share, size=resamples)[:, :-1]
    picks = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    samples = np.einsum("rs,sk,rk->r", picks, discordant, weights, optimize=True)
    mean = float(difference.sum() / seeds)
    return Comparison(mean, *_widened(mean, samples, difference.shape), seeds, units)


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); the latter is 0 for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean of a few values, by Student's t: ``mean ± t(n - 1) sd / sqrt(n)``;
    NaN for one value.

    Source: Student (1908), "The probable error of a mean".
    """
    from scipy import stats

    mean, sd = mean_sd(values)
    if len(values) < 2:
        return math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
    return mean - half, mean + half


def machine() -> dict[str, Any]:
    """The hardware and versions that a result must name."""
    names = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.partition(":")[2].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _matrix(wrong: Rows, examples: int) -> np.ndarray:
    matrix = np.zeros((len(wrong), examples))
    for seed, rows in enumerate(wrong):
        places = np.asarray(rows)
        # A mask would be taken for rows 0 and 1, and a row below 0 for one at the end: wrong
        # numbers without a word.
        if places.ndim != 1 or (places.size and places.dtype.kind not in "ui"):
            raise KdError(
                "each seed gives the rows that it got wrong, whole numbers in a row, got "
                f"{places.dtype}"
                f"{list(places.shape)} for seed number {seed}; kd.evals.wrong(logits, labels) "
                "makes them"
            )
        if places.size and not (places.min() >= 0 and places.max() < examples):
            raise KdError(
                f"rows must lie in 0 to {examples - 1}, got {places.min()} to {places.max()}; give "
                "the test set's"
            )
        matrix[seed, places.astype(int)] = 1.0
    return matrix


def _table(counts: Any) -> np.ndarray:
    """Errors of an arm as ``[seeds units]``, float64."""
    try:
        table = np.asarray(counts, float)
    except (TypeError, ValueError) as error:
        raise KdError(f"errors must be numbers, as many units for every seed: {error}") from error
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise KdError(
            f"errors must be a table [seeds units] of finite numbers, got shape {table.shape}, or "
            "NaN in it"
        )
    return table
