"""Sequences that are computed, not read: a class for every token, for trying things out."""

from __future__ import annotations

import numpy as np

from kd.data.dataset import Dataset, arrays
from kd.errors import KdError, unknown

TOKENS = 16
CLASSES = 5
_LENGTH = 16
_EXAMPLES = {"train": 2000, "test": 500}


def sequences(name: str, argument: str, data_dir: str | None) -> Dataset:
    """Generated sequences of tokens with a class for each of them, 16 long, or ``sequences:32`` for
    32: no download.

    The class of a token is ``(x_i + x_(i-1)) mod 5``, so a model must look one back. Tokens are
    drawn from 16; a random part of each sequence's end, up to half of it, is padding: its weight is
    0, its token and class too. Splits: train (2,000), test (500), always the same.

    Raises:
      KdError: a split that is not there, a length that is no whole number from 2 to 4,096.
    """
    del data_dir
    if name not in _EXAMPLES:
        raise unknown("split of sequences:", name, _EXAMPLES)
    if argument and not (argument.isdecimal() and 2 <= int(argument[:5]) <= 4096):
        raise KdError(
            f"sequences:{argument} must be a length from 2 to 4096 tokens; e.g. sequences:32"
        )
    length = int(argument or _LENGTH)
    random = np.random.default_rng([length, list(_EXAMPLES).index(name)])
    tokens = random.integers(0, TOKENS, (_EXAMPLES[name], length))
    lengths = random.integers((length + 1) // 2, length + 1, (len(tokens), 1))
    there = np.arange(length)[None] < lengths
    before = np.concatenate([np.zeros((len(tokens), 1), int), tokens[:, :-1]], axis=1)
    labels = (tokens + before) % CLASSES
    return arrays(
        np.where(there, tokens, 0).astype(np.uint8),
        np.where(there, labels, 0),
        num_classes=CLASSES,
        weights=there,
        ids=True,
        positions=(length,),
    )
