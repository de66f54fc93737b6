"""Texts as rows of tokens ``[n l 2]``: the token, and the segment that it belongs to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from kd.data.tokens.tokenizer import Tokenizer
from kd.data.tokens.vocabulary import Vocabulary
from kd.errors import KdError

_BLOCK = 8192  # texts that are tokenised together
_SHORTEST = 4  # places in a row that a piece of a document is worth


def encode(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    length: int,
    too_long: Literal["cut", "refused"] = "cut",
) -> tuple[np.ndarray, int]:
    """Rows of `length` tokens, and how many texts were longer and lost their end.

    Text i, or the pair ``texts[i]``, ``pairs[i]``, is row i, with the special words that the
    tokenizer puts around it, and padding behind. Of a pair that is too long the longer text loses
    its end first. The segment is 1 more than the tokenizer's type. Shapes: ``[n length 2]``.

    Raises:
      KdError: a text in which the tokenizer finds no word, or that is too long where it is refused.
    """
    content, vocabulary = tokenizer.content, tokenizer.vocabulary
    least = content.num_special_tokens_to_add(pairs is not None)
    rows, cut = _empty(len(texts), length, vocabulary), 0
    content.enable_truncation(length, strategy="longest_first")
    try:
        for start in range(0, len(texts), _BLOCK):
            block = slice(start, start + _BLOCK)
            asked: Any = texts[block]
            if pairs is not None:
                asked = list(zip(texts[block], pairs[block], strict=True))
            encodings = content.encode_batch_fast(asked)
            lengths = _fill(rows[block], encodings, pairs is not None)
            for bad in np.flatnonzero(lengths <= least)[:1]:
                raise _wordless(start + int(bad), asked[bad])
            long = [k for k, encoding in enumerate(encodings) if encoding.overflowing]
            if long and too_long == "refused":
                raise _too_long(tokenizer, start + long[0], asked[long[0]], length)
            cut += len(long)
    finally:
        content.no_truncation()
    return rows, cut


def pack(tokenizer: Tokenizer, texts: Sequence[str], *, length: int) -> np.ndarray:
    """The documents `texts` one after another in rows of `length` tokens: ``[n length 2]``.

    Each has the special words for its beginning and end, and its number in the row, from 1, as
    segment. What does not fit into a row goes on in the next, as a document there; nothing is lost.
    """
    content, vocabulary = tokenizer.content, tokenizer.vocabulary
    rows: list[list[np.ndarray]] = [[]]
    left = length
    for start in range(0, len(texts), _BLOCK):
        block: Any = texts[start : start + _BLOCK]
        for encoding in content.encode_batch_fast(block, add_special_tokens=False):
            ids = np.asarray(encoding.ids, np.int32)
            while len(ids):
                if left < _SHORTEST:
                    rows.append([])
                    left = length
                piece, ids = ids[: left - 2], ids[left - 2 :]
                rows[-1].append(np.concatenate([[vocabulary.cls], piece, [vocabulary.sep]]))
                left -= len(piece) + 2
    packed = _empty(len(rows), length, vocabulary)
    for row, documents in zip(packed, rows, strict=True):
        lengths = [len(document) for document in documents]
        row[: sum(lengths), 0] = np.concatenate([np.zeros(0, np.int32), *documents])
        row[: sum(lengths), 1] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return packed


def lengths_of(rows: Any) -> np.ndarray:
    """How many tokens of each row ``[n l 2]`` are no padding: ``[n]``."""
    return np.count_nonzero(np.asarray(rows)[..., 1], axis=1)


def _empty(rows: int, length: int, vocabulary: Vocabulary) -> np.ndarray:
    """Rows of padding, in the smallest type that holds every id."""
    dtype = np.uint16 if max(vocabulary.size, length) <= 2**16 else np.int32
    padding = np.zeros((rows, length, 2), dtype)
    padding[..., 0] = vocabulary.pad
    return padding


def _fill(rows: np.ndarray, encodings: Sequence[Any], paired: bool) -> np.ndarray:
    """Write what the tokenizer answered into rows of padding; the lengths of the texts."""
    ids = [encoding.ids for encoding in encodings]
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    there = np.arange(rows.shape[1]) < lengths[:, None]
    total = int(lengths.sum())
    rows[there, 0] = np.fromiter(itertools.chain.from_iterable(ids), rows.dtype, total)
    rows[there, 1] = 1
    if paired:
        types = itertools.chain.from_iterable(encoding.type_ids for encoding in encodings)
        rows[there, 1] += np.fromiter(types, rows.dtype, total)
    return lengths


def _wordless(place: int, text: Any) -> KdError:
    return KdError(
        f"the tokenizer finds no word in text {place}, {text!r:.60}; leave that example out"
    )


def _too_long(tokenizer: Tokenizer, place: int, text: Any, length: int) -> KdError:
    tokenizer.content.no_truncation()
    parts = text if isinstance(text, tuple) else (text,)
    tokens = len(tokenizer.content.encode(*parts).ids)
    return KdError(
        f"text {place} has {tokens} tokens and a row {length}; set data.text.length to {tokens} or "
        "more, or data.text.too_long='cut'"
    )
