"""The order of examples: a pure function of (seed, step)."""

from __future__ import annotations

import functools

import numpy as np

from kd.errors import KdError
from kd.mesh import is_whole


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Whole batches in an epoch; the remainder, different in every epoch, is left out.

    Raises:
      KdError: a batch larger than the data set, without examples, or no whole number of them.
    """
    if not is_whole(batch_size):
        raise KdError(f"data.batch_size must be a whole number, got {batch_size!r}")
    if not 1 <= batch_size <= examples:
        raise KdError(
            f"data.batch_size must lie between 1 and the {examples} examples of the split, got "
            f"{batch_size}"
        )
    return examples // batch_size


def steps_of(epochs: float, examples: int, batch_size: int) -> int:
    """Epochs in whole steps, at least one. Raises a `KdError` as `steps_per_epoch` does."""
    steps = max(round(epochs * steps_per_epoch(examples, batch_size)), 1)
    if steps >= 2**31:
        raise KdError(
            f"a run takes fewer than 2^31 steps, and {epochs:g} epochs are {steps}; lower epochs"
        )
    return steps


@functools.lru_cache(maxsize=64)
def _permutation(seed: int, epoch: int, examples: int) -> np.ndarray:
    return (
        np.random.Generator(np.random.Philox(key=[seed, epoch]))
        .permutation(examples)
        .astype(np.int32)
    )


def rows(seed: int, step: int, examples: int, batch_size: int) -> np.ndarray:
    """Rows of the batch at `step`: the epoch's permutation, cut into batches.

    Shape ``[b]``, int32.
    """
    per_epoch = steps_per_epoch(examples, batch_size)
    epoch, position = divmod(step, per_epoch)
    return _permutation(seed, epoch, examples)[position * batch_size : (position + 1) * batch_size]


def padded_rows(examples: int, batch_size: int) -> np.ndarray:
    """Every row once, in order, cut into batches; -1 pads the last.

    Shape ``[batches b]``, int32.
    """
    batches = -(-examples // batch_size)
    table = np.full(batches * batch_size, -1, np.int32)
    table[:examples] = np.arange(examples)
    return table.reshape(batches, batch_size)
