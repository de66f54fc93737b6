"""PNGs and JPEGs, and those in an array_record file, read at random and decoded by Pillow."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image


def jpegs(number: int, pixels: int) -> Iterator[bytes]:
    """Smooth noise, which packs about as well as photographs do."""
    rng, coarse = np.random.default_rng(7), max(pixels // 8, 1)
    for _ in range(number):
        image = Image.fromarray(rng.integers(256, size=(coarse, coarse, 3), dtype=np.uint8))
        packed = io.BytesIO()
        image.resize((pixels, pixels), Image.Resampling.BICUBIC).save(packed, "JPEG", quality=90)
        yield packed.getvalue()


def pngs(number: int, pixels: int) -> Iterator[bytes]:
    """Grey spots on black, which fill about as much of an image as written digits do."""
    rng, coarse = np.random.default_rng(7), max(pixels // 4, 1)
    for _ in range(number):
        spots = rng.integers(256, size=(coarse, coarse), dtype=np.uint8)
        image = Image.fromarray(np.where(rng.random(spots.shape) < 0.1, spots, np.uint8(0)))
        packed = io.BytesIO()
        image.resize((pixels, pixels), Image.Resampling.BICUBIC).save(packed, "PNG")
        yield packed.getvalue()


def decoded(contents: Sequence[bytes]) -> np.ndarray:
    """Images of one size as one array, ``[n h w ...]``."""
    return np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in contents])


def write(path: pathlib.Path, records: int, pixels: int) -> None:
    """A file of `jpegs`."""
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for content in jpegs(records, pixels):
        writer.write(content)
    writer.close()


class Records:
    """A `kd.data.stream.Source`: ``records[i] -> {"image": [h w 3], "label": int}``."""

    def __init__(self, path: pathlib.Path) -> None:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self._bytes = ArrayRecordDataSource([str(path)])

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": np.asarray(Image.open(io.BytesIO(self._bytes[index]))), "label": 0}
