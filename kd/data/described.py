"""A stream of which only the size is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.data.stream import Stream
from kd.errors import KdError


def described(
    examples: int,
    shape: Sequence[int],
    num_classes: int,
    *,
    scale: float = 1 / 255,
    labelled: bool = True,
) -> Stream:
    """A stream of which only the size is known, for planning: `shape` ``[h w c]`` of one example as
    the model sees it.

    Reading from it raises a `KdError`.
    """
    told = tuple(int(n) for n in shape)
    identity = f"described {examples} {told} {num_classes}"
    return Stream(
        _Absent(examples), num_classes, identity, scale, labelled=labelled, record_shape=told
    )


@dataclasses.dataclass(frozen=True)
class _Absent:
    examples: int

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        raise KdError(
            "this data set is only described and has no examples; give data.source to read from"
        )

    def labels(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray([self[int(row)]["label"] for row in rows])
