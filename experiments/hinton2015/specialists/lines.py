"""Long lists as one line of text, as results.json holds them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def line(numbers: Iterable[int]) -> str:
    """Whole numbers, with spaces between."""
    return " ".join(map(str, numbers))


def numbers(text: str) -> np.ndarray:
    """What `line` was made of."""
    return np.array(text.split(), int)


def marks(rows: np.ndarray, total: int) -> str:
    """Some of `total` rows: a bit for each, in hexadecimal digits."""
    mask = np.zeros(total, bool)
    mask[rows] = True
    return np.packbits(mask).tobytes().hex()


def marked(text: str) -> list[int]:
    """The rows that `marks` was made of."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    return np.flatnonzero(bits).tolist()
