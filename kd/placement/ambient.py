"""What the environment may not decide: the numbers of a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import jax

from kd.core import rng
from kd.errors import KdError
from kd.placement.compiled import keeping_compiled


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """JAX as every run has it, as a context or a decorator: arrays of 32 bits, random numbers of
    one kind, the usual promotion of types, programs that are compiled whole, and transfers that
    nobody guards. What is compiled is kept: see `keeping_compiled`.

    Without it ``JAX_ENABLE_X64``, ``JAX_DEFAULT_PRNG_IMPL``, ``JAX_THREEFRY_PARTITIONABLE`` and
    ``JAX_NUMPY_DTYPE_PROMOTION`` would give several results under one fingerprint, and
    ``JAX_DISABLE_JIT`` and ``JAX_TRANSFER_GUARD`` none. Around it they stay what the caller has
    set.

    Raises:
      KdError: ``JAX_PLATFORMS`` names devices that are not here.
    """
    _check_devices()
    with (
        keeping_compiled(),
        jax.enable_x64(False),
        jax.default_prng_impl(rng.IMPLEMENTATION),
        jax.threefry_partitionable(True),
        jax.numpy_dtype_promotion("standard"),
        jax.disable_jit(False),
        jax.transfer_guard("allow"),
    ):
        yield


def _check_devices() -> None:
    try:
        jax.devices()
    except Exception as error:  # a RuntimeError for most platforms, a bare AssertionError for some
        platforms = os.environ.get("JAX_PLATFORMS", "")
        cause = f" ({str(error).splitlines()[0]})" if str(error) else ""
        raise KdError(
            f"JAX_PLATFORMS={platforms} and JAX finds no such devices{cause}; set it to "
            "what there is, such as cpu, or leave it unset"
        ) from error
