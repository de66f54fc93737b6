"""Windows of frames: examples that overlap, of which nothing is held twice."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from kd.data.stored import as_array
from kd.errors import KdError
from kd.placement.mesh import is_whole


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """The inputs of examples that are parts of one row of frames, such as speech or packed text.

    Example i is ``frames[starts[i] : starts[i] + width]``; what overlaps is stacked in the batch
    and never in memory. It is indexed as the array ``[n width ...]`` would be. Shapes:
    ``frames[N ...]``, ``starts[n]`` int32.
    """

    frames: np.ndarray = dataclasses.field(repr=False)
    starts: np.ndarray = dataclasses.field(repr=False)
    width: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, width, ...)``."""
        return (len(self.starts), self.width, *self.frames.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Type in which the frames are stored."""
        return self.frames.dtype

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.frames.nbytes + self.starts.nbytes

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The examples `rows`, stacked; of one row the example."""
        starts = self.starts[rows]
        return self.frames[np.add.outer(starts, np.arange(self.width))]

    def take(self, rows: Any) -> Windows:
        """The windows `rows` of the same frames, which other examples share."""
        return dataclasses.replace(self, starts=self.starts[rows])


def windows(frames: np.ndarray, starts: Any, width: int) -> Windows:
    """The windows of `width` frames that begin at `starts`.

    Raises:
      KdError: starts that are no whole numbers, or windows that reach beyond the frames.
    """
    starts = as_array("starts", starts)
    if not is_whole(width) or not 1 <= width <= len(frames):
        raise KdError(
            f"window must lie between 1 and the {len(frames)} frames of inputs, got {width}"
        )
    if starts.ndim != 1 or starts.dtype.kind not in "ui" or len(starts) == 0:
        raise KdError(
            f"starts must be whole numbers, one per example, got {starts.dtype}{list(starts.shape)}"
        )
    if starts.min() < 0 or starts.max() > len(frames) - width:
        bad = int(np.flatnonzero((starts < 0) | (starts > len(frames) - width))[0])
        raise KdError(
            f"the window of example {bad}, {width} frames from {starts[bad]}, leaves the "
            f"{len(frames)} frames of inputs"
        )
    return Windows(frames, starts.astype(np.int32), int(width))
