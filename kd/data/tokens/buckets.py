"""Batches of a few lengths: texts of about one length stand in one batch, so that little of it is
padding.

The length of a batch is a function of the step alone, so that all members of a population share it;
its rows are a function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kd.data.order import Order, Rows, permutation

_EVALUATED = 4  # lengths of batches that are evaluated
_OF_LENGTHS = 2**32 - 1  # no member's seed: which length comes at which step


def bucket_lengths(lengths: np.ndarray, count: int) -> tuple[int, ...]:
    """The `count` lengths, or fewer, that pad texts of these `lengths` least when each text is
    padded to the shortest that holds it, in rising order.

    Exact, by dynamic programming over the lengths that there are: with n(l) texts of length l,
    ``cost(k, l) = min over j < l of cost(k - 1, j) + l * (n(j + 1) + ... + n(l))``.
    """
    present, texts = np.unique(lengths, return_counts=True)
    upto = np.concatenate([[0], np.cumsum(texts)])
    padded = present[None] * (upto[1:][None] - upto[:-1][:, None])  # of [first, last], both in
    padded = np.where(np.tri(len(present), dtype=bool).T, padded.astype(np.float64), np.inf)
    cost, begins = padded[0], []
    for _ in range(min(count, len(present)) - 1):
        # the last bucket begins at first; cost[first - 1] is that of the buckets before
        before = np.concatenate([[np.inf], cost[:-1]])[:, None] + padded
        begins.append(before.argmin(axis=0))
        cost = before.min(axis=0)
    last, chosen = len(present) - 1, []
    for begin in reversed(begins):
        chosen.append(int(present[last]))
        last = int(begin[last]) - 1
    return (*sorted([*chosen, int(present[last])]),)


class Buckets(Order):
    """An `Order` whose batches have several lengths: `length` says which a step has.

    An epoch sorts the seed's permutation by bucket, the longest first, cuts it into batches, and
    takes them in an order that is a function of the epoch alone. A batch is as long as its first
    text needs, and where texts of a bucket do not fill their last batch, shorter ones do. So which
    lengths an epoch has depends on no seed, and what is left out are a few of the shortest texts,
    others in every epoch.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        lengths: np.ndarray,
        buckets: int | tuple[int, ...],
        batch_size: int,
    ) -> None:
        super().__init__(seeds, len(lengths), batch_size)
        if isinstance(buckets, int):
            buckets = bucket_lengths(lengths, buckets)
        ends = np.sort(np.asarray(buckets))
        self._buckets = np.searchsorted(ends, lengths)
        longest_first = -np.sort(-self._buckets)
        firsts = longest_first[: self.per_epoch * batch_size : batch_size]
        self._lengths = ends[firsts].tolist()
        self.lengths = tuple(sorted(set(self._lengths)))

    def length(self, step: int) -> int:
        """How long the batch at `step` is."""
        return self._lengths[self._batch(step)]

    def rows(self, step: int) -> np.ndarray:
        """Rows of every member's batch at `step`. Shape ``[m b]``, int32."""
        return super().rows(step - step % self.per_epoch + self._batch(step))

    def _batch(self, step: int) -> int:
        """Which of the epoch's batches, the longest first, comes at `step`."""
        epoch, position = divmod(step, self.per_epoch)
        return int(self._permutation(_OF_LENGTHS, epoch)[position])

    def _drawn(self, seed: int, epoch: int) -> np.ndarray:
        if seed == _OF_LENGTHS:
            return permutation(seed, epoch, self.per_epoch)
        order = super()._drawn(seed, epoch)
        return order[np.argsort(-self._buckets[order], kind="stable")]


def order_of(data: Any, seeds: Sequence[int], batch_size: int) -> Rows:
    """Which examples of `data`, in memory or streamed, each member sees at each step."""
    if data.tokens is None or data.tokens.buckets == 1:
        return Order(seeds, len(data), batch_size)
    return Buckets(seeds, data.token_lengths, data.tokens.buckets, batch_size)


def by_length(data: Any) -> list[tuple[np.ndarray, int]]:
    """The rows of texts that are evaluated together, and how long they are; of data that is not
    split none. A few lengths alone: each is compiled.
    """
    tokens = data.tokens
    if tokens is None or tokens.buckets == 1 or data.positions or data.teacher_inputs is not None:
        return []
    ends = np.asarray(bucket_lengths(data.token_lengths, _EVALUATED))
    places = np.searchsorted(ends, data.token_lengths)
    return [(np.flatnonzero(places == k), int(end)) for k, end in enumerate(ends)]


def padding_waste(data: Any, batch_size: int) -> float:
    """Share of the positions of an epoch's batches that hold padding, 0 to 1.

    `data` is a data set of tokens, in memory or streamed.
    """
    order, lengths = data.order((0,), batch_size), data.token_lengths
    steps, width = range(len(data) // batch_size), data.first.shape[1]
    kept = sum(int(lengths[order.rows(step)[0]].sum()) for step in steps)
    return 1 - kept / (batch_size * sum(order.length(step) or width for step in steps))
