"""How good outputs are that each say yes or no: of one output, or of several (multi-label).

An output says yes where its logit is above 0. Formulas are those of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kd.errors import KdError

Logits = np.ndarray
"""``[n v]``."""
Labels = np.ndarray
"""In [0, 1], ``[n v]``; ``[n]`` is taken for ``[n 1]``."""


def wrong(logits: Logits, labels: Labels) -> np.ndarray:
    """Rows of which an output lies on the other side of one half than its label, in rising
    order.
    """
    z, y = check_binary(logits, labels)
    return np.flatnonzero(((z > 0) != (y > 0.5)).any(axis=1))


def errors(logits: Logits, labels: Labels) -> int:
    """Number of examples of which an output is on the wrong side."""
    return len(wrong(logits, labels))


def exact_match(logits: Logits, labels: Labels) -> float:
    """Share of examples of which every output is on the right side, 0 to 1; of one output the
    accuracy.
    """
    return 1.0 - errors(logits, labels) / len(labels)


def nll(logits: Logits, labels: Labels) -> float:
    """Mean over examples of the cross-entropy with the labels, summed over outputs, in nats."""
    z, y = check_binary(logits, labels)
    each = y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)
    return float(each.sum(axis=1).mean())


def brier(logits: Logits, labels: Labels) -> float:
    """Mean squared distance between the chance of a yes and the label, over examples and outputs,
    0 to 1.

    Source: Brier (1950), "Verification of forecasts expressed in terms of probability".
    """
    z, y = check_binary(logits, labels)
    return float(np.mean((np.exp(-np.logaddexp(0, -z)) - y) ** 2))


def auroc(logits: Logits, labels: Labels) -> float | None:
    """Chance that a yes has a higher logit than a no, ties one half; of several outputs the mean.

    None of an output whose labels are all alike, which is left out, and of labels between 0 and 1.

    Source: Hanley & McNeil (1982), "The meaning and use of the area under a ROC curve".
    """
    from sklearn.metrics import roc_auc_score

    z, y = check_binary(logits, labels)
    both = [k for k in range(y.shape[1]) if 0 < y[:, k].sum() < len(y)]
    if not both or not _hard(y):
        return None
    return float(np.mean([roc_auc_score(y[:, k], z[:, k]) for k in both]))


def f1(logits: Logits, labels: Labels, average: str = "micro") -> float | None:
    """Harmonic mean of precision and recall, 0 to 1: over all outputs together ("micro"), or the
    mean of each output's ("macro"), 0 of one that neither says yes nor should.

    None of labels between 0 and 1.

    Source: van Rijsbergen (1979), "Information retrieval", chapter 7.
    """
    from sklearn.metrics import f1_score

    z, y = check_binary(logits, labels)
    if not _hard(y):
        return None
    options: Any = {"average": "binary" if y.shape[1] == 1 else average, "zero_division": 0}
    y, z = (y[:, 0], z[:, 0]) if y.shape[1] == 1 else (y, z)
    return float(f1_score(y > 0.5, z > 0, **options))


def mean_average_precision(logits: Logits, labels: Labels) -> float | None:
    """Mean over outputs of the precision at each yes, examples in falling order of their logits.

    Outputs without a yes are left out. None where that is all, and of labels between 0 and 1.

    Source: Buckley & Voorhees (2000), "Evaluating evaluation measure stability".
    """
    from sklearn.metrics import average_precision_score

    z, y = check_binary(logits, labels)
    some = [k for k in range(y.shape[1]) if y[:, k].any()]
    if not some or not _hard(y):
        return None
    return float(np.mean([average_precision_score(y[:, k], z[:, k]) for k in some]))


def check_binary(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 ``[n v]``.

    Raises:
      KdError: other shapes, no example, or numbers that are not finite or not in [0, 1].
    """
    z = np.asarray(logits).astype(np.float64)
    y = np.asarray(labels).astype(np.float64)
    y = y.reshape(len(y), -1) if y.ndim == 1 else y
    if z.ndim != 2 or z.size == 0 or z.shape != y.shape:
        raise KdError(
            f"yes or no is judged output by output: logits must be [n v] and labels as many, got "
            f"{z.shape} and {y.shape}"
        )
    if not np.isfinite(z).all() or not ((y >= 0) & (y <= 1)).all():
        raise KdError("logits must be finite and labels lie in [0, 1]; leave out what has none")
    return z, y


def _hard(labels: Labels) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


BINARY: dict[str, Callable[[Logits, Labels], object]] = {
    "accuracy": exact_match,
    "auroc": auroc,
    "brier": brier,
    "errors": errors,
    "f1": f1,
    "nll": nll,
}
"""Of one output."""

MULTI_LABEL: dict[str, Callable[[Logits, Labels], object]] = {
    "auroc": auroc,
    "brier": brier,
    "errors": errors,
    "exact_match": exact_match,
    "macro_f1": lambda logits, labels: f1(logits, labels, "macro"),
    "mean_average_precision": mean_average_precision,
    "micro_f1": f1,
    "nll": nll,
}
"""Of several outputs."""
