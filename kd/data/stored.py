"""Numbers as they are stored: what may be stored, and the one way from stored to seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd.data.seen import Seen
from kd.errors import KdError

_LOST = 0.01  # of what differs between examples: more may float32 not round away
_CONSTANT = 1e-12  # of its size: a feature that varies less holds the noise of float64


def prepare(stored: Any, unit: Any) -> Any:
    """Stored numbers as a model sees them: ``stored * unit`` in float32. Shapes: ``[...]``.

    Memory, streams and predictions come by here, in NumPy on the host and in JAX on the device;
    `unit` is the data's scale as a float32 of theirs. Whole numbers become float32 too, which holds
    them exactly below 2^24; those that are identities, such as tokens, have no unit, None, and stay
    whole: int32.
    """
    return stored.astype(np.int32) if unit is None else stored.astype(np.float32) * unit


def as_array(name: str, values: object) -> np.ndarray:
    """An array in a type that devices know: native byte order, long double as float64.

    Raises:
      KdError: a dictionary, rows of different lengths, a masked array with masked values.
    """
    if isinstance(values, Mapping):
        raise KdError(f"{name} are a dictionary; a data set holds one array, one row per example")
    if isinstance(values, np.ma.MaskedArray) and np.ma.count_masked(values):
        raise KdError(
            f"{name} have {np.ma.count_masked(values)} masked values, which no model can see; fill "
            "them: array.filled(value)"
        )
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise KdError(f"{name} are no array: {error}; make the rows equally long") from error
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_numbers(inputs: np.ndarray, *, precise: bool = True) -> None:
    """Raise a `KdError` unless inputs ``[n ...]`` are finite numbers that devices have, and, where
    they are to be `precise`, that float32 can tell apart.
    """
    kind, size = inputs.dtype.kind, inputs.dtype.itemsize
    if kind not in "uifb" or (kind == "f" and not np.isfinite(inputs).all()):
        raise KdError(
            f"inputs must be finite numbers, got {inputs.dtype} with NaN, infinity or objects; "
            "clean them"
        )
    if kind in "ui" and size > 4 and np.abs(inputs.astype(np.float64)).max(initial=0) >= 2**31:
        raise KdError(
            "inputs hold whole numbers of 2^31 or more, which devices cut to 32 bits; pass them "
            "as floats"
        )
    if precise and ((kind == "f" and size > 4) or (kind in "ui" and size > 2)):
        _check_precision(inputs.reshape(len(inputs), -1))


def check_ids(inputs: np.ndarray) -> None:
    """Raise a `KdError` unless inputs ``[n ...]`` are identities: whole numbers of 0 or more."""
    if inputs.dtype.kind not in "ui" or inputs.min() < 0:
        raise KdError(
            f"ids must be whole numbers of 0 or more, got {inputs.dtype} from {inputs.min()}; "
            "leave ids out where inputs are numbers"
        )


def check_numeric(ids: bool, scale: object) -> None:
    """Raise a `KdError` where identities are to be multiplied."""
    if ids:
        raise KdError(f"inputs are identities, and a scale of {scale} is of numbers; leave it out")


def _check_precision(inputs: np.ndarray) -> None:
    """Of each feature ``[n k]``: what float32 rounds away, against what differs between
    examples.
    """
    with np.errstate(over="ignore"):
        rounded = inputs.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise KdError(
            f"inputs reach {np.abs(inputs).max():.3g}, which float32 cannot hold; divide them"
        )
    if np.array_equal(rounded, inputs):
        return
    unit = np.abs(inputs.astype(np.float64)).max(axis=0)
    unit[unit == 0] = 1
    lost = np.sqrt(np.mean(np.square((rounded - inputs) / unit), axis=0))
    spread = np.std(inputs / unit, axis=0)
    differs = (inputs != inputs[:1]).any(axis=0)
    gone = differs & (lost > _LOST * spread)
    plain = gone & (spread > _CONSTANT)
    if not plain.any() and not (gone.any() and gone[differs].all()):
        return
    feature = int(np.argmax(plain if plain.any() else gone))
    mean, deviation = np.mean(inputs[:, feature]), spread[feature] * unit[feature]
    raise KdError(
        f"inputs are {inputs.dtype} and float32, which models see, rounds away what differs "
        f"between examples: feature {feature} is {mean:.10g} ± {deviation:.3g}; subtract its mean "
        "and divide by its deviation"
    )


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether one example has the shape of a picture: ``[h w]``, or ``[h w c]`` with 1, 3 or 4
    channels.
    """
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3, 4))


def default_scale(inputs: np.ndarray) -> float:
    """Pictures ``[n h w]`` or ``[n h w c]`` of 8 or 16 bits are divided by the largest number of
    their type; all else stays as it is.

    Raises:
      KdError: pictures of unsigned numbers of which it cannot be known what is white.
    """
    if inputs.dtype.kind != "u" or not is_image(inputs.shape[1:]):
        return 1.0
    if inputs.dtype.itemsize > 2 or (inputs.dtype.itemsize == 2 and 0 < inputs.max() <= 255):
        raise KdError(
            f"images are {inputs.dtype} up to {inputs.max()}, and what is white is not known; say "
            "it by scale (config.data.scale), e.g. 1/255"
        )
    return 1 / int(np.iinfo(inputs.dtype).max)


def check_scale(scale: object) -> float:
    """A scale as a float. Raises a `KdError` unless it is a finite number other than 0."""
    number = isinstance(scale, (int, float, np.integer, np.floating)) and not isinstance(
        scale, bool
    )
    if not number or not 0 < abs(scale) < math.inf:  # pyright: ignore[reportArgumentType]
        raise KdError(
            f"scale multiplies the inputs and must be a finite number other than 0, got {scale!r}"
        )
    return float(scale)  # pyright: ignore[reportArgumentType]


def check_seen(seen: Seen) -> None:
    """Raise a `KdError` where the scale takes the numbers out of what float32 can tell apart."""
    if seen.scale == 1.0 or seen.low is None or seen.high is None:
        return
    with np.errstate(over="ignore"):
        ends = np.asarray([seen.low, seen.high]).astype(np.float32)
    if not np.isfinite(ends).all() or (ends[0] == ends[1] and seen.low != seen.high):
        raise KdError(
            f"a scale of {seen.scale:g} makes inputs from {seen.low:g} to {seen.high:g}, which "
            "float32 cannot tell apart; choose another"
        )
