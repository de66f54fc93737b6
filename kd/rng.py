"""Named random streams: everything random is a function of (seed, step, name), so a resume has
nothing to remember.
"""

from __future__ import annotations

import zlib

import jax


def stream(key: jax.Array, step: jax.Array | int, name: str) -> jax.Array:
    """Key of the stream `name` at `step`: ``fold_in(fold_in(key, step), crc32(name))``."""
    return jax.random.fold_in(jax.random.fold_in(key, step), zlib.crc32(name.encode()))
