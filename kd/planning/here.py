"""What a step costs on the chips of this machine, as a plan counts it."""

from __future__ import annotations

from collections.abc import Callable

from kd.errors import KdError
from kd.planning.chips import CHIPS
from kd.planning.count import count
from kd.planning.roofline import roofline

KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "tpu7x",
}
"""Chips by what JAX calls their devices (``jax.Device.device_kind``)."""


def at_peak(program: Callable[[], str | None], device_kind: str) -> float:
    """Seconds that the products of matrices of a step take at the peak of these chips.

    `program` gives the text of a compiled one; a loop of unknown length, such as that over the
    steps of a dispatch, counts once. Over the seconds that a step took, this is its MFU.

    Raises:
      KdError: the peak of these devices is not known.
    """
    if device_kind not in KINDS:
        raise KdError(f"no MFU: the peak of a device '{device_kind}' is not known")
    line = roofline(count(program() or ""), CHIPS[KINDS[device_kind]])
    assert line is not None  # all of them have rates
    return line.compute
