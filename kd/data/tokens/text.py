"""How text becomes tokens, as a config says it (``config.data.text``)."""

from __future__ import annotations

import dataclasses
from typing import Literal

from kd.errors import KdError

_LONGEST = 2**16


@dataclasses.dataclass(frozen=True)
class Text:
    """Which columns of a text source are read, and how they become tokens.

    `tokenizer` is a ``tokenizer.json``, a ``vocab.txt`` of WordPiece, or a folder that holds one of
    them; None: the data is no text. `columns` names the column of the text, or two for pairs;
    plain text has none. `label` names the column of labels; `names` lists the words for the
    classes in their order, else they are those of ``train``, sorted.

    A row has `length` tokens, special ones included. `too_long` says what becomes of a longer text:
    its end is "cut" off (of a pair that of the longer one), or it is "refused". Batches are as long
    as the longest of `buckets` lengths allows: so many, chosen for the least padding, or these
    lengths; 1 pads every batch to `length`. With `packed` documents stand in a row one after
    another until it is full, and long ones go on in the next.

    `masked` is the share of tokens that are hidden for a masked language model, 0.15 in BERT; the
    labels are then the tokens. Rare ones are hidden more often by ``count^-rare``, 0.7 in
    DistilBERT.
    """

    tokenizer: str | None = None
    columns: tuple[str, ...] = ()
    label: str | None = None
    names: tuple[str, ...] = ()
    length: int = 128
    too_long: Literal["cut", "refused"] = "cut"
    buckets: int | tuple[int, ...] = 12
    packed: bool = False
    masked: float = 0.0
    rare: float = 0.0


def check_text(text: Text) -> None:
    """Raise a `KdError` for a number out of range, or keys that exclude each other."""
    path = "config.data.text"
    if not 4 <= text.length <= _LONGEST:
        raise KdError(f"{path}.length must lie between 4 and {_LONGEST:,}, got {text.length}")
    if len(text.columns) > 2:
        raise KdError(f"{path}.columns are one text or a pair, got {len(text.columns)}")
    _check_buckets(text, path)
    if not 0 <= text.masked < 1:
        raise KdError(f"{path}.masked is a share of the tokens, in [0, 1), got {text.masked}")
    if not 0 <= text.rare <= 10:
        raise KdError(f"{path}.rare is an exponent from 0 to 10, got {text.rare}")
    if text.masked and (text.label or text.names):
        raise KdError(
            f"{path}.masked makes the tokens the labels; leave {path}.label and {path}.names out"
        )
    if text.packed and (text.label or len(text.columns) > 1):
        raise KdError(
            f"{path}.packed puts several texts into a row, which then have no label and are no "
            f"pairs; leave {path}.packed out"
        )


def _check_buckets(text: Text, path: str) -> None:
    lengths = (text.buckets,) if isinstance(text.buckets, int) else text.buckets
    if not lengths or min(lengths) < 1 or len(set(lengths)) < len(lengths):
        raise KdError(
            f"{path}.buckets is a number of lengths, or different lengths, got {text.buckets}"
        )
    if not isinstance(text.buckets, int) and max(lengths) != text.length:
        raise KdError(
            f"the longest of {path}.buckets must be {path}.length, {text.length}, got "
            f"{max(lengths)}"
        )
