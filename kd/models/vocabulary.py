"""What a tokenizer and the models that read it must agree on."""

from __future__ import annotations

import jax

from kd.core.types import PyTree
from kd.data import Vocabulary
from kd.errors import KdError

_TABLE = ("words", "embedding")
"""The end of the path of the words' embeddings in every network of texts that ships."""


def check_vocabulary(vocabulary: Vocabulary, params: PyTree, who: str) -> None:
    """Check that every token has an embedding: JAX would answer with the last one and say nothing.

    `params` are a model's arrays ``[... words width]``, or their shapes, and `who` is that model;
    one that has no embeddings of words by kd's name passes.

    Raises:
      KdError: a tokenizer of more words than the model has embeddings; both are shown.
    """
    for path, leaf in jax.tree.flatten_with_path(params)[0]:
        names = tuple(str(getattr(key, "key", key)) for key in path)
        if names[-2:] == _TABLE and vocabulary.size > leaf.shape[-2]:
            raise KdError(
                f"the tokenizer {vocabulary.fingerprint[:12]} has {vocabulary.size:,} words and "
                f"{who} has embeddings of {leaf.shape[-2]:,}; take the tokenizer that its weights "
                f"came with, or set vocabulary to {vocabulary.size}"
            )
