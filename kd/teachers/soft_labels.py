"""Soft labels from anywhere: a table of logits or probabilities as a teacher."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from kd.core.manifest import Kind, check_rows
from kd.core.types import Average, Outputs, Teacher
from kd.data.examples import Examples
from kd.errors import KdError
from kd.teachers.answers import check_data
from kd.teachers.make import check_average, kept

_TOLERANCE = 0.01  # of a sum of probabilities: files hold few digits
_LARGEST = float(np.finfo(np.float32).max)


def soft_labels(
    *,
    data: Examples,
    logits: Any = None,
    probabilities: Any = None,
    temperature: float = 1.0,
    average: Average | None = None,
) -> Teacher:
    """A teacher that is a table: what any model, library or person says of each example of `data`.

    Give `logits` or `probabilities`, one row per example, in the order of `data`. A loss softens
    them as it does a model's: ``softmax(z / T)`` of logits z, and ``softmax(t log(p) / T)`` of
    probabilities p that were softened at `temperature` t, which is p itself at T = t. A probability
    may be 0 where the objective allows it: soft_targets, kl and jsd, for which 0 log 0 = 0. Shapes:
    ``[n *p v]``, with `average` ``[e n *p v]``, whose members are kept apart.

    Raises:
      KdError: both or neither of them, rows, numbers or sums that do not fit, logits that look
        like probabilities.
    """
    if (logits is None) == (probabilities is None):
        raise KdError("soft labels are logits or probabilities: pass exactly one of the two")
    check_data(data)
    if average is not None:
        check_average(average)
    kind: Kind = "logits" if probabilities is None else "probabilities"
    ahead = int(average is not None)
    values = _array(kind, logits if probabilities is None else probabilities, ahead)
    check_rows(values.shape[ahead], len(data))
    _refuse(kind, "hold NaN or infinity", ~(np.abs(values) <= _LARGEST), ahead)
    _check_temperature(kind, temperature)
    if kind == "logits":
        if _are_probabilities(values):
            raise KdError(
                "these logits look like probabilities: each row lies in [0, 1] and sums to 1; "
                "pass probabilities="
            )
        table = values
    else:
        _check_probabilities(values, ahead, average)
        table = temperature * _log(values)
    answers = Outputs(table.astype(np.float32), average)
    return kept(answers, data=data.fingerprint, kind=kind, temperature=float(temperature))


def _array(kind: str, values: Any, ahead: int) -> np.ndarray:
    """`values` as floats of single precision or better, with axes for rows and classes."""
    if np.ma.is_masked(values):
        raise KdError(f"{kind} hold masked values; fill them, or leave their examples out")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise KdError(f"{kind} are no array ({error}); pass numbers, [n v]") from error
    if array.dtype.kind not in "fiub":
        raise KdError(f"{kind} must be real numbers, got {array.dtype}; pass floats, [n v]")
    if array.ndim < 2 + ahead or not array.shape[-1]:
        wanted = "[e n v] with average" if ahead else "[n v]"
        raise KdError(
            f"{kind} must have a number per class in each row, {wanted}, got shape "
            f"{list(array.shape)}; class indices are labels: kd.arrays(inputs, labels)"
        )
    return array.astype(np.promote_types(array.dtype, np.float32), copy=False)


def _refuse(kind: str, what: str, wrong: Any, ahead: int) -> None:
    """Raise a `KdError` that names the first row where `wrong` is true."""
    if wrong.any():
        row = np.argwhere(wrong)[0][ahead]
        raise KdError(f"{kind} {what}, first in row {row}; mend the table or leave its example out")


def _check_temperature(kind: str, temperature: Any) -> None:
    number = isinstance(temperature, (int, float, np.number)) and not isinstance(temperature, bool)
    if not number or not 0 < temperature <= sys.float_info.max:
        raise KdError(f"temperature must be a finite number above 0, got {temperature!r}")
    if kind == "logits" and temperature != 1:
        raise KdError(
            "temperature says how probabilities were softened, and logits are not; leave it out, "
            "or pass probabilities="
        )


def _are_probabilities(values: np.ndarray) -> bool:
    inside = values.min() >= 0 and values.max() <= 1
    return bool(inside and (abs(values.sum(axis=-1) - 1) <= _TOLERANCE).all())


def _check_probabilities(values: np.ndarray, ahead: int, average: Average | None) -> None:
    kind = "probabilities"
    _refuse(kind, "are below 0 (are they logits? pass logits=)", values < 0, ahead)
    sums = values.sum(axis=-1)
    _refuse(kind, "do not sum to 1", abs(sums - 1) > _TOLERANCE, ahead)
    if average == "geometric":
        shared = (values > 0).all(axis=0).any(axis=-1)
        _refuse(kind, "leave no class that all members allow", np.logical_not(shared), 0)


def _log(values: np.ndarray) -> np.ndarray:
    """Logarithm, -infinity of 0."""
    with np.errstate(divide="ignore"):
        return np.log(values)
