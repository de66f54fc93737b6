"""Images that are computed, not read: for trying things out without a download."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kd.data.dataset import Dataset, arrays
from kd.errors import KdError, unknown

_EXAMPLES = {"train": 2000, "test": 500}
_SIZE = 32  # pixels
_NOISE = 0.2  # of the range of brightness, to either side

Grid = np.ndarray  # [n h w]


def _wave(place: Grid) -> Grid:
    return 0.5 + 0.5 * np.sin(2.5 * np.pi * place)


def _square(x: Grid, y: Grid, reach: float) -> Grid:
    return np.maximum(abs(x), abs(y)) < reach


def _triangle(x: Grid, y: Grid) -> Grid:
    return (abs(y) < 1) & (abs(x) < (y + 1) / 2)  # y grows downwards: the tip is above


def _cross(x: Grid, y: Grid) -> Grid:
    return (np.minimum(abs(x), abs(y)) < 0.3) & _square(x, y, 1)


# From places relative to a centre, in units of a radius, to brightness in 0 to 1. Mirrored left to
# right, each is still of its class.
CLASSES: dict[str, Callable[[Grid, Grid], Grid]] = {
    "horizontal stripes": lambda _, y: _wave(y),
    "vertical stripes": lambda x, _: _wave(x),
    "chequers": lambda x, y: 0.5 + 2 * (_wave(x) - 0.5) * (_wave(y) - 0.5),
    "waves around a centre": lambda x, y: _wave(np.hypot(x, y)),
    "disc": lambda x, y: np.hypot(x, y) < 1,
    "ring": lambda x, y: abs(np.hypot(x, y) - 0.8) < 0.25,
    "square": lambda x, y: _square(x, y, 0.9),
    "triangle": _triangle,
    "upright cross": _cross,
    "diagonal cross": lambda x, y: _cross((x + y) / np.sqrt(2), (x - y) / np.sqrt(2)),
}


def shapes(name: str, argument: str, data_dir: str | None) -> Dataset:
    """Generated colour images of ten patterns and shapes, 32x32, or ``shapes:64`` for 64x64: no
    download.

    Splits: train (2,000), test (500), as many of each class, always the same. Position, radius,
      tilt, phase, both
    colours and the noise are random; test draws from the same distribution as train.

    Raises:
      KdError: a split that is not there, a size that is no whole number from 8 to 512.
    """
    del data_dir
    if name not in _EXAMPLES:
        raise unknown("split of shapes:", name, _EXAMPLES)
    size = _parse_size(argument)
    labels = np.arange(_EXAMPLES[name]) % len(CLASSES)
    images = np.empty((len(labels), size, size, 3), np.uint8)
    for label, pattern in enumerate(CLASSES.values()):
        random = np.random.Generator(np.random.Philox(key=[list(_EXAMPLES).index(name), label]))
        images[labels == label] = _draw(random, pattern, int(np.sum(labels == label)), size)
    return arrays(images, labels, num_classes=len(CLASSES), scale=1 / 255)


def _parse_size(argument: str) -> int:
    if not argument:
        return _SIZE
    if not argument.isdecimal() or not 8 <= int(argument) <= 512:
        raise KdError(
            f"'shapes:{argument}' is no size; give whole pixels from 8 to 512, e.g. shapes:64"
        )
    return int(argument)


def _draw(
    random: np.random.Generator, pattern: Callable[[Grid, Grid], Grid], n: int, size: int
) -> np.ndarray:
    """`n` images of one class, uint8 ``[n size size 3]``."""

    def between(
        low: float, high: float, *shape: int
    ) -> np.ndarray:  # uniform alone: the same in every NumPy
        return low + (high - low) * random.random((n, *shape))

    grid = (np.arange(size) + 0.5) / size - 0.5  # the image is 1 wide
    down, right = (
        grid[None, :, None] - between(-0.18, 0.18, 1, 1),
        grid[None, None, :] - between(-0.18, 0.18, 1, 1),
    )
    tilt, radius = between(-0.25, 0.25, 1, 1), between(0.18, 0.36, 1, 1)
    x = (np.cos(tilt) * right + np.sin(tilt) * down) / radius
    y = (np.cos(tilt) * down - np.sin(tilt) * right) / radius
    bright = pattern(x, y)[..., None]
    dark, light, swapped = (
        between(0.0, 0.45, 1, 1, 3),
        between(0.55, 1.0, 1, 1, 3),
        between(0, 1, 1, 1, 1) < 0.5,
    )
    below, above = np.where(swapped, light, dark), np.where(swapped, dark, light)
    pixels = below + (above - below) * bright + between(-_NOISE, _NOISE, size, size, 3)
    return np.round(255 * pixels.clip(0, 1)).astype(np.uint8)
