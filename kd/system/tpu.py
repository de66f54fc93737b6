"""libtpu on a machine without a TPU, where `kd plan` alone has a use for it."""

from __future__ import annotations

import glob
import importlib.metadata
import importlib.util
import os
from collections.abc import MutableMapping

_DEVICES = ("/dev/accel*", "/dev/vfio/[0-9]*")  # the files by which a machine shows its TPUs


def leave_alone(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have JAX compute on the processor where libtpu is installed, no TPU is there, and nothing else
    offers devices. Left to itself JAX looks for a TPU first, and pages of libtpu's errors precede
    what a command says.
    """
    if "JAX_PLATFORMS" in environment or importlib.util.find_spec("libtpu") is None:
        return
    if any(glob.glob(pattern) for pattern in _DEVICES):
        return
    if not importlib.metadata.entry_points(group="jax_plugins"):
        environment["JAX_PLATFORMS"] = "cpu"
