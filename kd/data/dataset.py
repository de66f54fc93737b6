"""An in-memory data set: arrays with an identity per example."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Sequence

import numpy as np

from kd.errors import KdError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and labels. An example's row is its identity (``batch["index"]``).

    Shapes: ``inputs[n ...]`` in any numeric type, ``labels[n]`` int32 or None; the model sees ``inputs * scale`` as
    float32, so images may stay bytes in memory.
    """

    inputs: np.ndarray = dataclasses.field(repr=False)
    labels: np.ndarray | None = dataclasses.field(repr=False)
    num_classes: int
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.inputs)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of every byte: two data sets with the same fingerprint are the same data set."""
        digest = hashlib.sha256(f"{self.inputs.shape} {self.inputs.dtype} {self.num_classes} {self.scale}".encode())
        digest.update(np.ascontiguousarray(self.inputs).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()[:16]


def arrays(
    inputs: np.ndarray, labels: np.ndarray | None = None, *, num_classes: int | None = None, scale: float = 1.0
) -> Dataset:
    """A data set from NumPy arrays; without labels, a transfer set for soft targets alone.

    `num_classes` defaults to the largest label plus one.

    Raises:
      KdError: no examples, lengths that differ, inputs that are not finite numbers, labels that are not whole
        numbers in ``[0, num_classes)``.
    """
    inputs = np.asarray(inputs)
    if inputs.ndim == 0:
        raise KdError("inputs must be an array with one row per example, got a single value; pass [n ...]")
    if len(inputs) == 0:
        raise KdError("the split is empty: 0 examples; choose another split or widen its slice")
    if inputs.dtype.kind not in "uifb" or (inputs.dtype.kind == "f" and not np.isfinite(inputs).all()):
        raise KdError(f"inputs must be finite numbers, got {inputs.dtype} with NaN, infinity or objects; clean them")
    if labels is None:
        if num_classes is None:
            raise KdError("without labels num_classes cannot be counted; pass num_classes")
        return Dataset(inputs, None, num_classes, scale)
    labels = np.asarray(labels)
    if labels.shape != inputs.shape[:1]:
        raise KdError(f"labels have shape {labels.shape} and there are {len(inputs)} examples; pass one label each")
    if labels.dtype.kind not in "ui":
        raise KdError(f"labels must be whole numbers, got {labels.dtype}; pass class indices, not one-hot rows")
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if labels.min() < 0 or labels.max() >= classes:
        bad = int(np.flatnonzero((labels < 0) | (labels >= classes))[0])
        raise KdError(
            f"label {labels[bad]} of example {bad} is out of range: there are {classes} classes, 0 to {classes - 1}"
        )
    return Dataset(inputs, labels.astype(np.int32), classes, scale)


_SLICE = re.compile(r"(?P<name>\w+)(\[(?P<start>\d+%?)?:(?P<stop>\d+%?)?\])?")


def parse_split(split: str) -> tuple[str, str | None, str | None]:
    """``"train[50000:]"`` or ``"train[:3%]"`` as (name, start, stop).

    Raises:
      KdError: a split that is not of this form.
    """
    found = _SLICE.fullmatch(split)
    if found is None:
        raise KdError(f"split '{split}' is not of the form train, train[:50000], train[50000:] or train[:3%]")
    return found["name"], found["start"], found["stop"]


def take(data: Dataset, split: str) -> Dataset:
    """The slice of `data` that `split` names, e.g. ``train[:3%]``.

    Raises:
      KdError: the slice holds no example, or reaches beyond the data.
    """
    _, start, stop = parse_split(split)
    rows = slice(_position(start, len(data), 0), _position(stop, len(data), len(data)))
    inputs = data.inputs[rows]
    if len(inputs) == 0:
        raise KdError(f"split '{split}' is empty: it takes 0 of {len(data)} examples; widen the slice")
    labels = None if data.labels is None else data.labels[rows]
    return Dataset(inputs, labels, data.num_classes, data.scale)


def of_classes(data: Dataset, classes: Sequence[int]) -> Dataset:
    """The examples whose label is one of `classes`; the number of classes stays what it was.

    A transfer set made so lacks the other classes: the student sees none of their examples, and can still answer them.

    Raises:
      KdError: no labels to choose by, no classes, or a class that is out of range or has no example.

    Source: Hinton, Vinyals & Dean (2015), section 3, on transfer sets without 3s, or of 7s and 8s only.
    """
    if data.labels is None:
        raise KdError("examples are chosen by class and there are no labels; set data.classes to none")
    have = np.unique(data.labels).tolist()
    absent = [c for c in classes if c not in have]
    if absent or not classes:
        raise KdError(f"data.classes must name classes that the split holds, {have}, got {tuple(classes)}")
    rows = np.flatnonzero(np.isin(data.labels, classes))
    return Dataset(data.inputs[rows], data.labels[rows], data.num_classes, data.scale)


def _position(text: str | None, n: int, default: int) -> int:
    if text is None:
        return default
    position = round(n * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    if position > n:
        raise KdError(f"a split may take up to {n} examples, or 100%, of this data, got {text}; lower it")
    return position
