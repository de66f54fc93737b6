"""The order of examples: a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kd.errors import KdError
from kd.placement.mesh import is_whole


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
            f"{batch_size}; set data.batch_size"
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


def permutation(seed: int, epoch: int, examples: int) -> np.ndarray:
    """The order of one epoch. Shape ``[n]``, int32."""
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return generator.permutation(examples).astype(np.int32)


def rows(seed: int, step: int, examples: int, batch_size: int) -> np.ndarray:
    """Rows of the batch at `step`, cut from the permutation of its epoch. Shape ``[b]``, int32."""
    return Order((seed,), examples, batch_size).rows(step)[0]


class Rows:
    """Which examples each member of a population sees at each step, and how long their batch is."""

    lengths: tuple[int | None, ...] = (None,)
    """Every length that a batch has; None is that of the data."""

    def rows(self, step: int) -> np.ndarray:
        """Rows of every member's batch at `step`. Shape ``[m b]``, int32."""
        raise NotImplementedError

    def length(self, step: int) -> int | None:
        """How long the examples of the batch at `step` are; None: as the data has them."""
        del step
        return None

    def alike(self, step: int, stop: int) -> int:
        """Up to where, and to `stop` at most, the batches are as long as that of `step`."""
        if len(self.lengths) == 1:
            return stop
        length = self.length(step)
        return next((s for s in range(step + 1, stop) if self.length(s) != length), stop)


class Order(Rows):
    """`rows` of every member of a population, step after step.

    It keeps each member's permutation of the present epoch and of the one before or after, so that
    a member costs the same whatever their number, and threads may ask for steps out of turn.
    """

    def __init__(self, seeds: Sequence[int], examples: int, batch_size: int) -> None:
        self._seeds, self._examples, self._batch_size = tuple(seeds), examples, batch_size
        self.per_epoch = steps_per_epoch(examples, batch_size)
        self._kept: dict[tuple[int, int], tuple[int, np.ndarray]] = {}

    def rows(self, step: int) -> np.ndarray:
        """Rows of every member's batch at `step`. Shape ``[m b]``, int32."""
        epoch, position = divmod(step, self.per_epoch)
        part = slice(position * self._batch_size, (position + 1) * self._batch_size)
        return np.stack([self._permutation(seed, epoch)[part] for seed in self._seeds])

    def _permutation(self, seed: int, epoch: int) -> np.ndarray:
        place = (seed, epoch % 2)
        kept_epoch, order = self._kept.get(place, (None, None))
        if order is None or kept_epoch != epoch:
            order = self._drawn(seed, epoch)
            self._kept[place] = (epoch, order)
        return order

    def _drawn(self, seed: int, epoch: int) -> np.ndarray:
        return permutation(seed, epoch, self._examples)


def padded_rows(examples: int, batch_size: int) -> np.ndarray:
    """Every row once, in order, cut into batches; -1 pads the last.

    Shape ``[batches b]``, int32.
    """
    batches = -(-examples // batch_size)
    table = np.full(batches * batch_size, -1, np.int32)
    table[:examples] = np.arange(examples)
    return table.reshape(batches, batch_size)
