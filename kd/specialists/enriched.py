"""What a specialist sees: examples of its own classes, and as many of all others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd.data import Dataset, Order, Rows
from kd.errors import KdError
from kd.specialists.clusters import Classes, check_classes


@dataclasses.dataclass(frozen=True, eq=False)
class Enriched(Dataset):
    """The same examples, of which member i of a population sees those of ``special[i]`` half of the
    time.
    """

    special: Classes = ()

    def order(self, seeds: Sequence[int], batch_size: int) -> Halves:
        """Rows of every member's batches, see `Halves`."""
        if len(seeds) != len(self.special):
            raise KdError(
                f"{len(self.special)} specialists need a seed each, got {len(seeds)}; train them "
                "as one population"
            )
        return Halves(seeds, self.rows_of, batch_size)

    def member(self, i: int) -> Enriched:
        """The data of specialist `i` alone."""
        return dataclasses.replace(self, special=self.special[i : i + 1])

    @property
    def rows_of(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For every specialist the rows of its own classes, and those of all others."""
        assert self.labels is not None
        labelled = np.flatnonzero(self.has_label)
        own = [np.isin(self.labels[labelled], special) for special in self.special]
        return [(labelled[mask], labelled[~mask]) for mask in own]

    @property
    def corrections(self) -> np.ndarray:
        """What every dustbin's logit lacks after training on half special, half other examples:
        the log of how much oftener a special example is seen than another, ``[m]``.

        ``log((n - n_m) / n_m)`` where n_m of n examples are special: with it the odds of special
        and other classes are those of the data.

        Source: Hinton, Vinyals & Dean (2015), section 5.2.
        """
        return np.array([np.log(len(rest) / len(own)) for own, rest in self.rows_of], np.float32)


class Halves(Rows):
    """Batches of which one half is special and one half is not, each cut from permutations of its
    own; a pure function of (seed, step).
    """

    def __init__(
        self,
        seeds: Sequence[int],
        rows: Sequence[tuple[np.ndarray, np.ndarray]],
        batch_size: int,
    ) -> None:
        if batch_size % 2:
            raise KdError(f"half of a batch is special, so its size is even, got {batch_size}")
        half = batch_size // 2
        self._parts = [
            [(part, _order(seed, part, half, number)) for part in parts]
            for number, (seed, parts) in enumerate(zip(seeds, rows, strict=True))
        ]

    def rows(self, step: int) -> np.ndarray:
        """Rows of every member's batch at `step`. Shape ``[m b]``, int32."""
        halves = [[part[order.rows(step)[0]] for part, order in parts] for parts in self._parts]
        return np.stack([np.concatenate(both) for both in halves]).astype(np.int32)


def enriched(data: Any, classes: Any) -> Enriched:
    """The data of specialists, one for each set of `classes`: see `Enriched`. The labels stay those
    of all classes.

    Raises:
      KdError: no data in memory with classes for labels, or sets of classes that cannot be, see
        `kd.specialists.clusters.check_classes`.

    Source: Hinton, Vinyals & Dean (2015), section 5.2.
    """
    if not isinstance(data, Dataset) or data.targets != "classes" or data.positions:
        raise KdError(
            "specialists learn from a data set in memory with a class for each example; make one "
            "with kd.arrays(inputs, labels)"
        )
    if data.labels is None:
        raise KdError("specialists learn from labels and this data has none; pass labelled data")
    values = {field.name: getattr(data, field.name) for field in dataclasses.fields(Dataset)}
    return Enriched(**values, special=check_classes(classes, data.num_classes))


def _order(seed: int, rows: np.ndarray, half: int, number: int) -> Order:
    if len(rows) < half:
        raise KdError(
            f"specialist {number} has {len(rows)} examples on one side and half a batch is {half}; "
            "lower batch_size, or give it more classes"
        )
    return Order((seed,), len(rows), half)
