"""Parts of a data set: slices of a split, the examples of some classes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd.data.dataset import Dataset
from kd.data.targets import has_label
from kd.data.weights import check_weights
from kd.data.windows import Windows
from kd.errors import KdError
from kd.hints import checked

_SLICE = re.compile(r"(?P<name>\w+)(\[(?P<start>\d+%?)?:(?P<stop>\d+%?)?\])?")


def parse_split(split: str) -> tuple[str, str | None, str | None]:
    """``"train[50000:]"`` or ``"train[:3%]"`` as (name, start, stop).

    Raises:
      KdError: a split that is not of this form.
    """
    match = _SLICE.fullmatch(split)
    if match is None:
        raise KdError(
            f"split '{split}' is not of the form train, train[:50000], train[50000:] or train[:3%]"
        )
    return match["name"], match["start"], match["stop"]


def take(data: Dataset, split: str) -> Dataset:
    """The slice of `data` that `split` names, e.g. ``train[:3%]``.

    Raises:
      KdError: the slice holds no example, or reaches beyond the data.
    """
    rows = split_rows(split, len(data))
    return _examples(data, slice(rows.start, rows.stop))


def split_rows(split: str, examples: int) -> range:
    """Which rows of so many `split` names. Raises a `KdError` as `take` does."""
    _, start, stop = parse_split(split)
    rows = range(_position(start, examples, 0), _position(stop, examples, examples))
    if len(rows) == 0:
        raise KdError(
            f"split '{split}' is empty: it takes 0 of {examples} examples; widen the slice"
        )
    return rows


@checked
def of_classes(data: Dataset, classes: Sequence[int]) -> Dataset:
    """The examples whose label is one of `classes`; the number of classes stays what it was.

    A transfer set made so lacks the other classes: the student sees none of their examples, and can
    still answer them.

    Raises:
      KdError: no labels to choose by, no classes, or a class that is out of range or has no
        example.

    Source: Hinton, Vinyals & Dean (2015), section 3, on transfer sets without 3s, or of 7s and 8s
    only.
    """
    if data.labels is None:
        raise KdError(
            "examples are chosen by class and there are no labels; set data.classes to none"
        )
    if data.targets != "classes":
        raise KdError(f"examples are chosen by class and their labels are {data.targets}")
    have, classes = np.unique(data.labels[data.has_label]).tolist(), tuple(classes)
    absent = [c for c in classes if c not in have]
    if absent or not classes:
        raise KdError(f"data.classes must name classes that the split holds, {have}, got {classes}")
    if data.positions:
        raise KdError("examples are chosen by class and these have a label for each position")
    rows = np.flatnonzero(np.isin(data.labels, classes))
    return _examples(data, rows)


def _examples(data: Dataset, rows: slice | np.ndarray) -> Dataset:
    labels, named = None if data.labels is None else data.labels[rows], data.names[rows]
    if labels is not None and not has_label(labels).any():
        labels = None
    weights = None if data.weights is None else data.weights[rows]
    if weights is not None:
        weights = check_weights(weights, weights.shape)
    stored = data.inputs
    inputs = stored.take(rows) if isinstance(stored, Windows) else stored[rows]
    shown = None if data.teacher_inputs is None else _examples(data.teacher_inputs, rows)
    told: dict[str, Any] = {"labels": labels, "weights": weights, "named": named}
    return dataclasses.replace(data, inputs=inputs, teacher_inputs=shown, **told)


def _position(text: str | None, n: int, default: int) -> int:
    if text is None:
        return default
    position = round(n * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    if position > n:
        raise KdError(
            f"a split may take up to {n} examples, or 100%, of this data, got {text}; lower it"
        )
    return position
