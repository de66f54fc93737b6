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


REGRESSION: dict[str, Callable[[Answers, Answers], object]] = {"mae": mae, "r2": r2, "rmse": rmse}
