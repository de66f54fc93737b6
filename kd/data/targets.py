"""Labels of a data set: one class of several, a yes or no of every output, or numbers."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from kd.core.types import Targets
from kd.data.stored import as_array
from kd.errors import KdError, unknown

NO_LABEL = -1
"""In place of a class: the example has no label. Among labels that are floats it is NaN."""


def check_labels(
    labels: object, shape: tuple[int, ...], outputs: int | None, targets: Targets | None
) -> tuple[np.ndarray, int, Targets]:
    """Labels as they are kept, the number of outputs that they ask for, and of which kind they are.

    `shape` is that of the answers, ``[n *p]``: the examples, and the positions of each where there
    are some. Classes are int32 ``[n *p]``, and of positions nothing else; "binary" labels and
    "numbers" are float32, ``[n]`` of one output and ``[n v]`` of several. Without `targets` whole
    numbers ``[n]`` are classes; floats, truth values and labels ``[n v]`` are "binary" where all of
    them lie in [0, 1], and numbers where not.

    Raises:
      KdError: labels of another shape or type, out of range, or an example that has none.
    """
    array = _filled(labels)
    check_targets(targets)
    if len(shape) > 1 and (array.shape != shape or targets not in (None, "classes")):
        raise KdError(
            f"each example has {list(shape[1:])} positions, so labels are classes {list(shape)}; "
            f"got {array.dtype}{list(array.shape)}"
        )
    if len(shape) == 1 and (array.ndim not in (1, 2) or len(array) != shape[0] or not array.size):
        raise KdError(
            f"labels have shape {array.shape} and there are {shape[0]} examples; pass one label "
            "each, or a row of them; of several positions an example, positions too"
        )
    if array.dtype.kind not in "uifb":
        raise KdError(
            f"labels must be whole numbers, or floats, got {array.dtype}; pass class indices, and "
            "class_names beside them"
        )
    if len(shape) > 1:
        flat, classes = _classes(array.reshape(-1), outputs)
        return flat.reshape(shape), classes, "classes"
    kind = _kind(array) if targets is None else targets
    if kind == "classes":
        return *_classes(array, outputs), kind
    return *_floats(array, outputs, kind), kind


def check_targets(targets: Any) -> None:
    """Raise a `KdError` unless `targets` is a kind of labels, or None."""
    if targets is not None and not (isinstance(targets, str) and targets in get_args(Targets)):
        raise unknown("kind of targets", str(targets), get_args(Targets))


def has_label(labels: np.ndarray) -> np.ndarray:
    """Which examples have a label: truth values ``[n]``, or ``[n *p]`` of classes by position."""
    if labels.dtype.kind != "f":
        return labels != NO_LABEL
    return ~np.isnan(labels.reshape(len(labels), -1)[:, 0])


def judged(
    labels: np.ndarray | None, weights: np.ndarray | None, shape: tuple[int, ...]
) -> np.ndarray:
    """Which examples have a label to be judged by: truth values of `shape`, ``[n *p]``. Positions
    of weight 0 are padding, and have none.
    """
    if labels is None:
        return np.zeros(shape, bool)
    labelled = has_label(labels)
    return labelled if len(shape) == 1 or weights is None else labelled & (weights > 0)


def _filled(labels: object) -> np.ndarray:
    """The labels as an array of numbers, in which -1 or NaN stands where None stood."""
    array = as_array("labels", labels)
    if array.dtype.kind != "O":
        return array
    none = np.asarray(array == None)  # noqa: E711 (of every element)
    try:
        numbers = np.where(none, np.nan, array).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise KdError(
            f"labels must be numbers, got {array.dtype} ({error}); pass class indices, and "
            "class_names beside them"
        ) from error
    whole = numbers.ndim == 1 and bool((none | (np.mod(numbers, 1) == 0)).all())
    return np.where(none, NO_LABEL, numbers).astype(np.int64) if whole else numbers


def _kind(labels: np.ndarray) -> Targets:
    if labels.ndim == 1 and labels.dtype.kind in "ui":
        return "classes"
    if labels.dtype.kind == "b":
        return "binary"
    values = labels[has_label(labels)] if labels.dtype.kind == "f" else labels
    return "binary" if bool(((values >= 0) & (values <= 1)).all()) else "numbers"


def _classes(labels: np.ndarray, num_classes: int | None) -> tuple[np.ndarray, int]:
    """Labels int32 ``[n]`` and the number of classes, or a `KdError`."""
    if labels.dtype.kind == "f" and labels.ndim == 1:  # a table with gaps holds 0.0, 1.0 and NaN
        labels = np.where(np.isnan(labels), NO_LABEL, labels)
        labels = labels.astype(np.int64) if bool((np.mod(labels, 1) == 0).all()) else labels
    if labels.dtype.kind not in "ui" or labels.ndim != 1:
        raise KdError(
            f"labels must be whole numbers, got {labels.dtype}{list(labels.shape)}; pass class "
            "indices, not one-hot rows"
        )
    classes = int(labels.max()) + 1 if num_classes is None else int(num_classes)
    if classes >= 2**31:
        raise KdError(
            f"the largest label is {classes - 1}, and labels are class indices below 2^31; mend "
            "the labels"
        )
    outside = labels >= classes if labels.dtype.kind == "u" else _outside(labels, classes)
    for bad in np.flatnonzero(outside)[:1]:
        raise KdError(
            f"label {labels[bad]} of example {bad} is out of range: there are {classes} classes, "
            f"0 to {classes - 1}, and -1 is no label"
        )
    labels = labels.astype(np.int32)
    if not has_label(labels).any():
        raise _none_labelled()
    if np.array_equal(np.unique(labels), [-1, 1]):
        raise KdError(
            "labels are -1 and 1, and -1 means that an example has none; classes count from 0: "
            "pass (labels + 1) // 2"
        )
    return labels, classes


def _outside(labels: np.ndarray, classes: int) -> np.ndarray:
    return (labels < NO_LABEL) | (labels >= classes)


def _floats(labels: np.ndarray, outputs: int | None, kind: Targets) -> tuple[np.ndarray, int]:
    """Labels float32 ``[n]`` or ``[n v]``, and v, or a `KdError`."""
    with np.errstate(over="ignore"):
        values = labels.astype(np.float32).reshape(len(labels), -1)
    if outputs is not None and outputs != values.shape[1]:
        raise KdError(
            f"labels of shape {labels.shape} ask for {values.shape[1]} outputs, and num_classes is "
            f"{outputs}; leave num_classes out"
        )
    missing = np.isnan(values)
    for bad in np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))[:1]:
        raise KdError(
            f"example {bad} has {missing[bad].sum()} of {values.shape[1]} labels missing; an "
            "example has all of them or none"
        )
    if missing.all():
        raise _none_labelled()
    wrong = np.isinf(values) if kind == "numbers" else (values < 0) | (values > 1)
    for bad in np.flatnonzero(wrong.any(axis=1))[:1]:
        wanted = "finite numbers" if kind == "numbers" else "in [0, 1]"
        raise KdError(
            f"{kind} labels must be {wanted}, got {labels[bad]} of example {bad}; mend it"
        )
    return (values[:, 0] if values.shape[1] == 1 else values), values.shape[1]


def _none_labelled() -> KdError:
    return KdError("no example has a label; leave labels out, and pass num_classes")
