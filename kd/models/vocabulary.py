"""What a tokenizer and the models that read it must agree on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kd.errors import KdError


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What is known of a tokenizer: `name` as a user knows it, `size` its largest token and one,
    `special` the special tokens by name, `fingerprint` a hash of all that decides which tokens a
    text becomes.
    """

    name: str
    size: int
    special: Mapping[str, int]
    fingerprint: str

    @property
    def text(self) -> str:
        """One line, e.g. ``bert (30,522 words, [CLS] 101, [SEP] 102; 0123abcd)``."""
        special = ", ".join(f"{token} {number}" for token, number in self.special.items())
        words = f"{self.size:,} words" + (f", {special}" if special else "")
        return f"{self.name} ({words}; {self.fingerprint[:12]})"


def check_vocabulary(
    own: Vocabulary, rows: Mapping[str, int], teacher: Vocabulary | None = None
) -> None:
    """Check that every token has an embedding, and that a teacher reads the student's tokens.

    `rows` are how many words have an embedding, of each model by what it is ("the student").
    `teacher` is the tokenizer that the teacher was trained with; None where that is not known.

    Raises:
      KdError: a tokenizer of more words than a model has embeddings (JAX would answer with the last
        one and say nothing), or another tokenizer of the teacher; both are shown.
    """
    for who, count in rows.items():
        if own.size > count:
            raise KdError(
                f"the tokenizer {own.text} has more words than {who} has embeddings, {count:,}; take "
                "the tokenizer that its weights came with, or set vocabulary to the tokenizer's size"
            )
    if teacher is None or teacher.fingerprint == own.fingerprint:
        return
    raise KdError(
        f"the student reads tokens of {own.text} and the teacher those of {teacher.text}: the same "
        "numbers are other words; tokenise the data with the teacher's tokenizer"
    )
