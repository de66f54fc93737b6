"""How much the examples of each class count."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from kd.data.dataset import Dataset
from kd.data.examples import Examples
from kd.data.stream import Stream
from kd.data.targets import has_label
from kd.data.weights import check_weights
from kd.errors import KdError, unknown

_Examples = TypeVar("_Examples", Dataset, Stream, Examples)
ClassWeights = str | Sequence[float] | Mapping[str, float]


def weigh_classes(data: _Examples, weights: ClassWeights) -> _Examples:
    """The same examples, the weight of each multiplied by that of its class.

    `weights` is a number per class, a mapping from class names (or from indices as text) to
    numbers, 1 for those that it leaves out, or "balanced": ``n / (k n_c)`` for a class with n_c of
    the n labelled examples, where k classes have any, so that all classes weigh the same. An
    example without a label has no class and keeps its weight.

    Raises:
      KdError: labels that are no classes, no weight for each class, an unknown class, a negative
        weight, or none above 0.

    Source: King & Zeng (2001), "Logistic regression in rare events data", for "balanced".
    """
    if not isinstance(data, (Dataset, Stream)):
        raise KdError(f"class weights need a data set, got {type(data).__name__}; see kd.arrays")
    if data.labels is None or data.targets != "classes":
        raise KdError(
            f"class weights need labels that are classes, and this data has "
            f"{'none' if data.labels is None else data.targets}; pass weights per example instead"
        )
    of_class = _table(data, weights)
    there = has_label(data.labels)
    of_example = np.where(there, of_class[np.where(there, data.labels, 0)], 1.0)
    before = 1.0 if data.weights is None else data.weights.astype(np.float64)
    weighed = check_weights(before * of_example, there.shape)
    if isinstance(data, Stream):
        return data.weighed(weighed)
    return dataclasses.replace(data, weights=weighed)


def _table(data: Examples, weights: Any) -> np.ndarray:
    """The weight of every class ``[v]``."""
    assert data.labels is not None
    counts = np.bincount(data.labels[has_label(data.labels)], minlength=data.num_classes)
    if isinstance(weights, str):
        if weights != "balanced":
            raise unknown("kind of class weights", weights, ["balanced"])
        return counts.sum() / ((counts > 0).sum() * np.maximum(counts, 1))
    if isinstance(weights, Mapping):
        table = np.ones(data.num_classes)
        for name, weight in weights.items():
            table[_index(data, name)] = _number(weight)
        return table
    several = (
        weights.ndim == 1 if isinstance(weights, np.ndarray) else isinstance(weights, Sequence)
    )
    if not several:
        raise KdError(
            "class weights are 'balanced', a number for each class, or a mapping from names of "
            f"classes to numbers, got {weights!r:.80}"
        )
    table = np.asarray([_number(weight) for weight in weights])
    if len(table) != data.num_classes:
        raise KdError(
            f"there are {data.num_classes} classes and {len(table)} class weights; give one each"
        )
    return table


def _index(data: Examples, name: Any) -> int:
    names = data.class_names or tuple(map(str, range(data.num_classes)))
    if str(name) in names:
        return names.index(str(name))
    raise unknown("class among the class weights:", str(name), names)


def _number(weight: Any) -> float:
    number = isinstance(weight, (int, float, np.number)) and not isinstance(weight, bool)
    if not number or not 0 <= weight <= sys.float_info.max:
        raise KdError(f"a class weight must be a finite number of 0 or more, got {weight!r}")
    return float(weight)
