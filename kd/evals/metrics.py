"""Every metric of a model, by what its labels are, and which way each of them is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from kd.errors import KdError, unknown
from kd.evals import binary as outputs_alone
from kd.evals.binary import BINARY, MULTI_LABEL
from kd.evals.classify import CLASSIFICATION, wrong
from kd.evals.hidden_words import HIDDEN_WORDS
from kd.evals.regression import REGRESSION

MORE_IS_BETTER = {
    "accuracy": True,
    "auroc": True,
    "brier": False,
    "ece": False,
    "errors": False,
    "exact_match": True,
    "f1": True,
    "macro_f1": True,
    "mae": False,
    "matthews": True,
    "mean_average_precision": True,
    "micro_f1": True,
    "nll": False,
    "pearson": True,
    "perplexity": False,
    "r2": True,
    "rmse": False,
    "spearman": True,
}
"""Every metric that is one number, and whether more of it is better."""

DEFAULT_WATCH = {"classes": "errors", "binary": "nll", "numbers": "rmse", "words": "nll"}
"""What early stopping looks at where nobody says."""


def metrics_of(targets: str, outputs: int) -> Mapping[str, Callable[..., object]]:
    """The metrics that fit labels of a kind, of so many outputs, by name. Of hidden "words" the
    answers are scores: see `kd.evals.hidden_words`.
    """
    if targets == "words":
        return HIDDEN_WORDS
    if targets == "binary":
        return BINARY if outputs == 1 else MULTI_LABEL
    return CLASSIFICATION if targets == "classes" else REGRESSION


def measured(
    answers: np.ndarray, labels: np.ndarray, targets: str = "classes"
) -> dict[str, object]:
    """Every metric that fits, of one model's answers ``[n v]``."""
    metrics = metrics_of(targets, np.shape(answers)[-1])
    return {name: metric(answers, labels) for name, metric in metrics.items()}


def wrong_rows(
    answers: np.ndarray, labels: np.ndarray, targets: str = "classes"
) -> np.ndarray | None:
    """Rows that one model gets wrong; None of numbers, which are never quite right, and of hidden
    words.
    """
    if targets in ("numbers", "words"):
        return None
    return (wrong if targets == "classes" else outputs_alone.wrong)(answers, labels)


def badness(name: str, answers: np.ndarray, labels: np.ndarray, targets: str) -> float:
    """A metric of one model, its sign turned where more of it is better: the less, the better.

    Raises:
      KdError: a metric that these labels do not have, or that they do not determine.
    """
    metric = watchable(name, targets, np.shape(answers)[-1])
    value = metric(answers, labels)
    if not isinstance(value, (int, float)):
        raise KdError(
            f"{name} says nothing of these labels, which are all alike or no plain yes or no; "
            "watch another metric, or take more examples"
        )
    return -float(value) if MORE_IS_BETTER[name] else float(value)


def watch_of(name: str | None, targets: str, outputs: int) -> str:
    """The metric by which a run is judged: `name`, or where that is None the usual one of labels of
    this kind. Raises a `KdError` as `watchable` does.
    """
    chosen = DEFAULT_WATCH[targets] if name is None else name
    watchable(chosen, targets, outputs)
    return chosen


def watchable(name: str, targets: str, outputs: int) -> Callable[..., object]:
    """The metric of that name. Raises a `KdError` where labels of this kind have none."""
    metrics = metrics_of(targets, outputs)
    if not isinstance(name, str) or name not in metrics or name not in MORE_IS_BETTER:
        raise unknown(
            f"metric of {targets} labels:", name, [m for m in metrics if m in MORE_IS_BETTER]
        )
    return metrics[name]
