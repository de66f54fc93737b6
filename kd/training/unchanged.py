"""Whether training has changed anything: digests of the parameters before and after it."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.core.types import PyTree
from kd.errors import KdError


@functools.partial(jax.jit, static_argnums=1)
def digests(params: PyTree, population: bool) -> jax.Array:
    """A number for every leaf that changes whenever one element of it does: ``[leaves]`` uint32.

    Of a population ``[leaves m]``. Nothing of the parameters is kept, so that a model of half the
    memory can be watched too.
    """
    return jnp.stack([_digest(leaf, int(population)) for leaf in jax.tree.leaves(params)])


def check_changed(before: jax.Array, after: jax.Array, steps: int) -> None:
    """Raise a `KdError` where `steps` steps have left every leaf, or every leaf of a member, as it
    was.
    """
    same = jnp.all(before == after, axis=0)
    if not jnp.any(same):
        return
    members = np.flatnonzero(same).tolist() if same.ndim and same.is_fully_addressable else []
    whose = f" of member {', '.join(map(str, members))}" if members else ""
    raise KdError(
        f"{steps} steps have changed no parameter{whose}: the objective has no gradient there, or "
        "the optimiser freezes all; look at the weights of its terms, their schedules, and at what "
        "each loss reads of the student"
    )


def _digest(leaf: jax.Array, axes: int) -> jax.Array:
    """The bits as whole numbers, each times an odd number of its own, summed modulo 2^32.

    The first `axes` axes are kept.
    """
    bits = _bits(leaf).astype(jnp.uint32)
    place = jnp.zeros(bits.shape, jnp.uint32)
    for axis in range(axes, bits.ndim):
        place = place * np.uint32(bits.shape[axis]) + jax.lax.broadcasted_iota(
            jnp.uint32, bits.shape, axis
        )
    odd = (place * np.uint32(0x9E3779B1)) | np.uint32(1)
    return jnp.sum(bits * odd, axis=tuple(range(axes, bits.ndim)), dtype=jnp.uint32)


def _bits(leaf: Any) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag], axis=-1)
    if leaf.dtype == jnp.bool_:
        return leaf
    width = min(leaf.dtype.itemsize, 4)
    return jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * width}"))
