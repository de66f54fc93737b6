"""Where arrays live: a mesh over the devices, and the one place that compiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kd.errors import KdError


def make_mesh(devices: int | None = None) -> Mesh:
    """A data-parallel mesh over the first `devices` devices (all of them by default), with one axis, ``data``.

    Raises:
      KdError: more devices than there are.
    """
    have = jax.devices()
    count = len(have) if devices is None else devices
    if not 1 <= count <= len(have):
        raise KdError(f"mesh.devices is {count} and this machine has {len(have)}; set mesh.devices between 1 and that")
    # Auto axes: explicit ones reject embeddings, dropout and x[perm].
    return Mesh(np.asarray(have[:count]), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def check_batch(mesh: Mesh, batch_size: int) -> None:
    """Raise a `KdError` unless `batch_size` divides over the mesh."""
    if batch_size % mesh.size:
        raise KdError(f"data.batch_size {batch_size} does not divide over {mesh.size} devices; use a multiple")


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def last_axis(mesh: Mesh, ndim: int) -> NamedSharding:
    """Split along the last of `ndim` axes: the batch axis of tables of rows ``[k b]`` and ``[k m b]``."""
    return NamedSharding(mesh, PartitionSpec(*[None] * (ndim - 1), "data"))


def compile_many(run: Callable[..., Any], mesh: Mesh, examples: Sequence[Any], rows_ndim: int) -> Any:
    """Compile ``run(state, teacher_variables, data, rows, count, hparams)`` ahead of time, once, for `mesh`.

    State, teacher, data and hparams are replicated, rows are split over ``data``; the state is donated.
    """
    everywhere = replicated(mesh)
    shardings = (everywhere, everywhere, everywhere, last_axis(mesh, rows_ndim), everywhere, everywhere)
    jitted = jax.jit(run, in_shardings=shardings, out_shardings=everywhere, donate_argnums=0)
    return jitted.lower(*examples).compile()
