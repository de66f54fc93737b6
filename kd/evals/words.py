"""Word errors of a recogniser."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def word_errors(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> int:
    """Substitutions + deletions + insertions that turn the reference into the hypothesis, as few as
    possible.

    The word error rate of a set is ``WER = sum(word_errors) / sum(len(reference))``. Source:
    Levenshtein (1966).
    """
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(reference, hypothesis)
