"""Named random streams: everything random is a function of (seed, step, name), so a resume has
nothing to remember.
"""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp

IMPLEMENTATION = "threefry2x32"
"""How every key of a run makes its numbers, whatever JAX's own default is."""


def key(seed: Any) -> jax.Array:
    """The key of a seed, where all randomness of a run starts: that of ``jax.random.key``, without
    the offset that ``JAX_RANDOM_SEED_OFFSET`` adds to every seed.
    """
    low = jnp.asarray(seed, jnp.uint32)
    return wrapped(jnp.stack([jnp.zeros_like(low), low]))


def wrapped(data: jax.Array) -> jax.Array:
    """The key whose integers are `data`: what ``jax.random.key_data`` takes apart."""
    return jax.random.wrap_key_data(data, impl=IMPLEMENTATION)


def named(key: jax.Array, name: str) -> jax.Array:
    """Key of the stream `name` below `key`: ``fold_in(key, crc32(name))``."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def stream(key: jax.Array, step: jax.Array | int, name: str) -> jax.Array:
    """Key of the stream `name` at `step`: ``fold_in(fold_in(key, step), crc32(name))``."""
    return named(jax.random.fold_in(key, step), name)
