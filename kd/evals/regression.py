"""How good outputs are that are numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kd.errors import KdError

Answers = np.ndarray
"""``[n v]``, labels too; ``[n]`` is taken for ``[n 1]``."""


def rmse(answers: Answers, labels: Answers) -> float:
    """Square root of the mean squared error over examples and outputs, in the labels' unit."""
    z, y = check_numbers(answers, labels)
    return float(np.sqrt(np.mean((z - y) ** 2)))


def mae(answers: Answers, labels: Answers) -> float:
    """Mean absolute error over examples and outputs, in the labels' unit."""
    z, y = check_numbers(answers, labels)
    return float(np.mean(np.abs(z - y)))


def r2(answers: Answers, labels: Answers) -> float | None:
    """Share of the labels' variance that is explained, 1 at most; the mean over outputs.

    Formula: ``1 - sum (y - z)^2 / sum (y - mean y)^2`` of each output. Outputs whose labels are all
    alike are left out; None where that is all.
    """
    z, y = check_numbers(answers, labels)
    spread = np.sum((y - y.mean(axis=0)) ** 2, axis=0)
    some = spread > 0
    if not some.any():
        return None
    missed = np.sum((y - z) ** 2, axis=0)
    return float(np.mean(1 - missed[some] / spread[some]))


def pearson(answers: Answers, labels: Answers) -> float | None:
    """Linear correlation of answers and labels, -1 to 1; the mean over outputs.

    Outputs whose labels or answers are all alike are left out; None where that is all.

    Source: Pearson (1895), "Note on regression and inheritance in the case of two parents".
    """
    return _correlation(*check_numbers(answers, labels))


def spearman(answers: Answers, labels: Answers) -> float | None:
    """Correlation of the ranks of answers and labels, -1 to 1; equal numbers share the mean of
    their ranks. Outputs as in `pearson`.

    Source: Spearman (1904), "The proof and measurement of association between two things".
    """
    z, y = check_numbers(answers, labels)
    return _correlation(_ranks(z), _ranks(y))


def _correlation(z: Answers, y: Answers) -> float | None:
    """The mean over outputs ``[n v]`` that vary."""
    z, y = z - z.mean(axis=0), y - y.mean(axis=0)
    spread = np.sqrt(np.sum(z**2, axis=0) * np.sum(y**2, axis=0))
    some = spread > 0
    if not some.any():
        return None
    return float(np.clip(np.mean(np.sum(z * y, axis=0)[some] / spread[some]), -1, 1))


def _ranks(values: Answers) -> Answers:
    """Ranks from 1 in each column ``[n v]``, of equal numbers their mean."""
    columns = []
    for column in values.T:
        _, place, count = np.unique(column, return_inverse=True, return_counts=True)
        columns.append((np.cumsum(count) - (count - 1) / 2)[place])
    return np.stack(columns, axis=1)


def check_numbers(answers: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 ``[n v]``. Raises a `KdError` where shapes differ, or a number is not
    finite.
    """
    z = np.asarray(answers).astype(np.float64)
    y = np.asarray(labels).astype(np.float64)
    z, y = (values.reshape(len(values), -1) if values.ndim == 1 else values for values in (z, y))
    if z.ndim != 2 or z.size == 0 or z.shape != y.shape:
        raise KdError(
            f"answers must be [n v] and labels as many, got {z.shape} and {y.shape}; give the "
            "model an output per label"
        )
    if not np.isfinite(z).all() or not np.isfinite(y).all():
        raise KdError("answers and labels must be finite; leave out what has no label")
    return z, y


REGRESSION: dict[str, Callable[[Answers, Answers], object]] = {
    "mae": mae,
    "pearson": pearson,
    "r2": r2,
    "rmse": rmse,
    "spearman": spearman,
}
