"""What a tokenizer and the models that read it must agree on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from kd.errors import KdError


@runtime_checkable
class Facts(Protocol):
    """What is known of a tokenizer: its largest token and one, its special tokens, and a hash of
    all that decides which tokens a text becomes.
    """

    @property
    def size(self) -> int: ...

    @property
    def special(self) -> tuple[int, ...]: ...

    @property
    def fingerprint(self) -> str: ...


def check_vocabulary(own: Facts, rows: Mapping[str, int], teacher: Facts | None = None) -> None:
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
                f"the tokenizer {_text(own)} has more words than {who} has embeddings, "
                f"{count:,}; take the tokenizer that its weights came with, or set vocabulary to "
                "the tokenizer's size"
            )
    if teacher is None or teacher.fingerprint == own.fingerprint:
        return
    raise KdError(
        f"the student reads tokens of {_text(own)} and the teacher those of {_text(teacher)}: the "
        "same numbers are other words; tokenise the data with the teacher's tokenizer"
    )


def _text(facts: Facts) -> str:
    """One line, e.g. ``0123abcd (30,522 words, special 0, 100, 101)``."""
    special = ", ".join(map(str, facts.special))
    words = f"{facts.size:,} words" + (f", special {special}" if special else "")
    return f"{facts.fingerprint[:12]} ({words})"
