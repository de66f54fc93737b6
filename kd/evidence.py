"""Evidence: paired bootstrap intervals and a verdict, from which examples each seed got wrong."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from kd.errors import KdError

MIN_SEEDS = 5
Verdict = Literal["HELPS", "NO EVIDENCE", "HURTS"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Test errors of a treatment minus those of its control: mean over seeds, 95% interval, verdict."""

    difference: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> Verdict:
        """HELPS or HURTS if the whole interval lies on one side of zero over at least 5 seeds, else NO EVIDENCE."""
        if self.seeds < MIN_SEEDS:
            return "NO EVIDENCE"
        if self.high < 0:
            return "HELPS"
        return "HURTS" if self.low > 0 else "NO EVIDENCE"


def compare_errors(
    treatment: Sequence[Sequence[int]], control: Sequence[Sequence[int]], examples: int, *, resamples: int = 4000
) -> Comparison:
    """Paired bootstrap of the difference in errors, over seeds and over test examples at once.

    Both are resampled with replacement: an interval over seeds alone would speak of these test examples only.
    Seed i of the treatment is paired with seed i of the control, and every example with itself.

    Args:
      treatment, control: for each seed, the rows of the test set that it got wrong.
      examples: size of the test set.
      resamples: bootstrap samples; the generator's seed is fixed, so a report is reproducible.

    Raises:
      KdError: no seeds, or not the same number in both arms.

    Source: Efron & Tibshirani (1993), "An introduction to the bootstrap", percentile intervals.
    """
    if not treatment or len(treatment) != len(control):
        raise KdError(f"a paired comparison needs the same seeds in both arms, got {len(treatment)} and {len(control)}")
    difference = _matrix(treatment, examples) - _matrix(control, examples)
    seeds = len(difference)
    discordant = difference[:, np.any(difference != 0, axis=0)]
    rng = np.random.default_rng(0)
    share = np.full(discordant.shape[1] + 1, 1 / examples)
    share[-1] = 1 - discordant.shape[1] / examples
    weights = rng.multinomial(examples, share, size=resamples)[:, :-1]
    picks = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    samples = np.einsum("rs,sk,rk->r", picks, discordant, weights, optimize=True)
    low, high = np.percentile(samples, [2.5, 97.5])
    return Comparison(float(difference.sum() / seeds), float(low), float(high), seeds)


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); the latter is 0 for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


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
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _matrix(wrong: Sequence[Sequence[int]], examples: int) -> np.ndarray:
    matrix = np.zeros((len(wrong), examples))
    for seed, rows in enumerate(wrong):
        matrix[seed, list(rows)] = 1.0
    return matrix
