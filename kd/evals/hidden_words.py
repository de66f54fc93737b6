"""How well hidden words are told: of so many classes that not all logits are kept.

What is kept of a word are its scores ``[k 2]``: the negative log-likelihood of the word, in nats,
and 1 where it is the most probable one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kd.errors import KdError

Scores = np.ndarray


def nll(scores: Scores, labels: object = None) -> float:
    """Mean negative log-likelihood of the hidden words, in nats."""
    del labels  # the scores are those of the labels
    return float(_checked(scores)[:, 0].mean())


def perplexity(scores: Scores, labels: object = None) -> float:
    """Among how many equally likely words a hidden one is as hard to tell: ``exp(nll)``."""
    return float(np.exp(nll(scores, labels)))


def accuracy(scores: Scores, labels: object = None) -> float:
    """Share of the hidden words that are the most probable ones, 0 to 1."""
    del labels
    return float(_checked(scores)[:, 1].mean())


def errors(scores: Scores, labels: object = None) -> int:
    """Number of hidden words that are not the most probable ones."""
    del labels
    return int((_checked(scores)[:, 1] == 0).sum())


def _checked(scores: Scores) -> Scores:
    wide = np.asarray(scores).astype(np.float64)
    if wide.ndim != 2 or wide.shape[1] != 2 or not len(wide) or not np.isfinite(wide).all():
        raise KdError(
            f"hidden words are judged by their scores, [k 2] and finite, got {wide.shape}; take a "
            "split in which words are hidden, and a model whose training did not diverge"
        )
    return wide


HIDDEN_WORDS: dict[str, Callable[[Scores, object], object]] = {
    "accuracy": accuracy,
    "errors": errors,
    "nll": nll,
    "perplexity": perplexity,
}
