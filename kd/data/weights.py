"""How much each example counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kd.data.stored import as_array
from kd.errors import KdError


def check_weights(weights: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Weights float32 of `shape`, ``[n *p]``; None where all of them are 1, which changes nothing.

    Raises:
      KdError: no number for each example, one that is negative or not finite, or none above 0.
    """
    array = as_array("weights", weights)
    if array.shape != shape or array.dtype.kind not in "uifb":
        what = "examples" if len(shape) == 1 else "positions"
        raise KdError(
            f"weights must be a number for each of the {math.prod(shape)} {what}, got "
            f"{array.dtype}{list(array.shape)}; pass {list(shape)}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        values = array.astype(np.float32)
    for bad in np.argwhere(~((values >= 0) & (values < np.inf)))[:1]:
        raise KdError(
            f"weights must be finite and 0 or more, got {array[tuple(bad)]} of example {bad[0]}; "
            "mend it"
        )
    if not values.any():
        raise KdError("the weights are all 0, so nothing is learnt; give an example one above 0")
    return None if (values == 1).all() else values
