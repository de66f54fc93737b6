"""What every kind of checkpoint shares: a thread that finishes one, keys as plain integers, and
where the pieces of an array lie.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kd.core.types import PyTree

Ends = tuple[tuple[int, int], ...]
"""Where a piece of an array begins and ends, by dimension."""


class Saving:
    """A thread that finishes the checkpoint of `step`."""

    def __init__(self, step: int, finish: Callable[[int], None]) -> None:
        self.step, self._finish = step, finish
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="kd-checkpoint")
        self._thread.start()

    def error(self) -> Exception | None:
        """What went wrong, when it has ended."""
        self._thread.join()
        return self._error

    def _run(self) -> None:
        try:
            self._finish(self.step)
        except Exception as error:
            self._error = error


def to_arrays(tree: PyTree) -> PyTree:
    """Typed keys become plain integers; everything else stays."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """What to restore in the place of a leaf; the integers of a typed key are split as the key
    is.
    """
    form = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(form.shape, form.dtype, sharding=leaf.sharding)


def is_key(x: Any) -> bool:
    """Whether an array holds typed keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def ends_of(index: Sequence[slice], shape: Sequence[int]) -> Ends:
    """Where the piece `index` of an array of that `shape` begins and ends."""
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
