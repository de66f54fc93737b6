"""What a tokenizer's words are, as far as models and checks must know it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The facts of a tokenizer: how many words it has, and which of them are special.

    `size` is the largest id plus one. `mask` and `unk` are None where the tokenizer has none.
    `special` are the ids of all special words; `fingerprint` is a hash of the tokenizer's file.
    """

    size: int
    pad: int
    cls: int
    sep: int
    mask: int | None
    unk: int | None
    special: tuple[int, ...]
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Tokens:
    """What a data set of tokens says beside its arrays; ``data.tokens`` of a `Dataset` or a
    `Stream`, None where the inputs are no text.

    `buckets` is how many lengths its batches have, or these lengths: see
    `kd.data.tokens.buckets`. With `packed` the segments of a row are documents that do not see each
    other. With `words` the labels are the tokens themselves, to be masked: see
    `kd.data.tokens.masking`. `cut` is how many texts were longer than a row.
    """

    vocabulary: Vocabulary
    buckets: int | tuple[int, ...] = 1
    packed: bool = False
    words: bool = False
    cut: int = 0
