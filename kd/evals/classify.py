"""How good a classifier is, from its logits. One run at a time; nothing here knows about
populations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from kd.errors import KdError

Logits = Float[np.ndarray, "n v"]
Labels = Int[np.ndarray, " n"]


def log_softmax(logits: Logits) -> Logits:
    """``z - log sum exp z`` in float64."""
    wide = one_classifier(logits).astype(np.float64)
    wide = wide - wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


def expected(log_p: Logits, value: Logits) -> Logits:
    """``p * value``, where a class of probability zero adds nothing, whatever its value:
    ``0 log 0 = 0``.
    """
    possible = log_p > -np.inf
    return np.exp(log_p) * np.where(possible, value, 0.0)


def wrong(logits: Logits, labels: Labels) -> Int[np.ndarray, " k"]:
    """Rows whose most probable class is not the label, in rising order."""
    check_labels(labels, logits)
    return np.flatnonzero(np.argmax(logits, axis=-1) != labels)


def errors(logits: Logits, labels: Labels) -> int:
    """Number of examples whose most probable class is not the label."""
    return len(wrong(logits, labels))


def accuracy(logits: Logits, labels: Labels) -> float:
    """Share of examples whose most probable class is the label, 0 to 1."""
    return 1.0 - errors(logits, labels) / len(labels)


def errors_per_class(logits: Logits, labels: Labels) -> list[int]:
    """Errors among the examples of each class, by label."""
    return np.bincount(
        np.asarray(labels)[wrong(logits, labels)], minlength=np.shape(logits)[-1]
    ).tolist()


def nll(logits: Logits, labels: Labels) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    check_labels(labels, logits)
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def brier(logits: Logits, labels: Labels) -> float:
    """Mean squared distance between the probabilities and the one-hot label, 0 to 2.

    Source: Brier (1950), "Verification of forecasts expressed in terms of probability".
    """
    check_labels(labels, logits)
    probabilities = np.exp(log_softmax(logits))
    probabilities[np.arange(len(labels)), labels] -= 1.0
    return float((probabilities**2).sum(axis=-1).mean())


def ece(logits: Logits, labels: Labels, bins: int = 15) -> float:
    """Expected calibration error, 0 to 1: mean gap between confidence and accuracy, over equal bins
    of confidence.

    Source: Guo et al. (2017), "On calibration of modern neural networks", eq. 3.
    """
    check_labels(labels, logits)
    confidence = np.exp(log_softmax(logits).max(axis=-1))
    right = np.argmax(logits, axis=-1) == labels
    bucket = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(bucket, right, bins) - np.bincount(bucket, confidence, bins)
    return float(np.abs(gap).sum() / len(labels))


def confusion(logits: Logits, labels: Labels) -> Int[np.ndarray, "v v"]:
    """How many examples of each class, by row, have each class as their most probable one."""
    check_labels(labels, logits)
    classes = np.shape(logits)[-1]
    places = np.asarray(labels, np.int64) * classes + np.argmax(logits, axis=-1)
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def f1(logits: Logits, labels: Labels) -> float:
    """Harmonic mean of precision and recall, 0 to 1: of two classes that of class 1, as GLUE has
    it; of more the mean over the classes that are a label or an answer, 0 of one that is never
    right.

    Formula: ``2 right / (answered + labelled)`` of a class.

    Source: van Rijsbergen (1979), "Information retrieval", chapter 7.
    """
    table = confusion(logits, labels)
    either = table.sum(axis=0) + table.sum(axis=1)
    each = 2 * np.diag(table) / np.maximum(either, 1)
    return float(each[1] if len(each) == 2 else each[either > 0].mean())


def matthews(logits: Logits, labels: Labels) -> float:
    """Correlation of answer and label, -1 to 1; 0 where either is always the same class.

    Formula: ``(c s - t p) / sqrt((s^2 - p p) (s^2 - t t))`` with c right ones of s examples, t how
    often each class is the label and p how often it is the answer.

    Source: Matthews (1975); of several classes Gorodkin (2004), "Comparing two K-category
    assignments by a K-category correlation coefficient".
    """
    table = confusion(logits, labels).astype(np.float64)
    total, true, answered = table.sum(), table.sum(axis=1), table.sum(axis=0)
    spread = (total**2 - answered @ answered) * (total**2 - true @ true)
    together = np.trace(table) * total - true @ answered
    return float(together / np.sqrt(spread)) if spread > 0 else 0.0


def perplexity(logits: Logits, labels: Labels) -> float:
    """Among how many equally likely classes the answer is as unsure: ``exp(nll)``, 1 or more."""
    return float(np.exp(nll(logits, labels)))


def one_classifier(logits: Logits) -> Logits:
    """The logits themselves, as an array.

    Raises:
      KdError: those of several classifiers, of no example, or with a row whose largest is not
        finite: NaN is no class, and NumPy would take it for the most probable one.
    """
    array = np.asarray(logits)
    if array.ndim != 2:
        raise KdError(
            f"evaluate one classifier at a time: logits must be [n v], got {array.shape}; loop "
            "over members"
        )
    if array.size == 0:
        raise KdError(
            f"there is nothing to evaluate: logits have shape {array.shape}; choose a split with "
            "examples"
        )
    bad = np.flatnonzero(~np.isfinite(array.max(axis=-1)))
    if len(bad):
        raise KdError(
            f"logits must be finite, those of example {bad[0]} are not: that training diverged; "
            "train anew"
        )
    return array


def check_labels(labels: Any, logits: Any) -> None:
    """Raise a `KdError` unless `labels` are a class of `logits` for each example: NumPy would
    repeat or wrap them.
    """
    array, (examples, classes) = np.asarray(labels), one_classifier(logits).shape
    if array.shape != (examples,) or array.dtype.kind not in "ui":
        raise KdError(
            f"labels must be a whole number for each of the {examples} examples, got "
            f"{array.dtype}{list(array.shape)}; "
            "pass class indices of the same split"
        )
    bad = np.flatnonzero((array < 0) | (array >= classes))
    if len(bad):
        raise KdError(
            f"label {array[bad[0]]} of example {bad[0]} is out of range: these logits know "
            f"classes 0 to {classes - 1}"
        )


def check_pair(student: Logits, teacher: Logits) -> None:
    """Raise a `KdError` unless both answer for the same examples and classes: NumPy would repeat
    one for all.
    """
    if np.shape(one_classifier(student)) != np.shape(one_classifier(teacher)):
        raise KdError(
            "student and teacher must answer for the same examples and classes, got logits "
            f"{np.shape(student)} and "
            f"{np.shape(teacher)}; take both on one data set"
        )


CLASSIFICATION: dict[str, Callable[[Logits, Labels], object]] = {
    "accuracy": accuracy,
    "brier": brier,
    "ece": ece,
    "errors": errors,
    "errors_per_class": errors_per_class,
    "f1": f1,
    "matthews": matthews,
    "nll": nll,
}


def classify(logits: Logits, labels: Labels) -> dict[str, object]:
    """Every entry of `CLASSIFICATION` for one classifier."""
    return {name: metric(logits, labels) for name, metric in CLASSIFICATION.items()}
