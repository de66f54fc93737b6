"""Hidden words: the masked language model as a view, a function of (seed, step, example)."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.core import rng
from kd.core.types import Batch
from kd.data.dataset import Dataset
from kd.data.tokens.vocabulary import Vocabulary
from kd.errors import KdError

_MASKED, _RANDOM = 0.8, 0.1  # of the hidden words; the rest stay as they are
_ROWS = 1024  # examples that are hidden together, on the host


def masking(data: Any, share: float = 0.15, rare: float = 0.0) -> Masking:
    """The view that hides a `share` of the words of each text of `data`, to be told by the others.

    Of a text with n words ``floor(share n + u)`` are hidden, u uniform in [0, 1): the share is
    exact in the mean. 80% of them become the word for masks, 10% a word drawn from all that are not
    special, 10% stay as they are. With `rare` above 0 they are drawn without replacement in
    proportion to ``count^-rare``, where count is how often `data` has the word, else uniformly.
    Special words and padding, whose weight is 0, are never hidden. Only hidden positions keep their
    weight; labels are the words themselves. Which are hidden depends on the key, the example and
    the position alone, and not on how far the batch is padded. Shapes: ``inputs[b l 2]``,
    ``labels[b l]``, ``weight[b l]``.

    Raises:
      KdError: data whose labels are no words, a tokenizer without a word for masks, a share outside
        (0, 1) or a negative exponent.

    Source: Devlin et al. (2019), "BERT", section 3.1; Sanh et al. (2019), "DistilBERT", whose code
    has the frequencies.
    """
    tokens = data.tokens
    if tokens is None or not tokens.words:
        raise KdError(
            "words are hidden of text whose labels are its words; set config.data.text.masked (in "
            "Python kd.Text(masked=0.15))"
        )
    if tokens.vocabulary.mask is None:
        raise KdError(
            "the tokenizer has no word for masks, [MASK] or <mask>; choose another, or leave "
            "config.data.text.masked out"
        )
    if not 0 < share < 1 or not rare >= 0:
        raise KdError(
            f"a share must lie in (0, 1) and an exponent be 0 or more, got {share}, {rare}"
        )
    weights = None
    if rare:
        counts = np.bincount(_words(data), minlength=tokens.vocabulary.size)
        weights = -rare * np.log(np.maximum(counts, 1)).astype(np.float32)
    return Masking(tokens.vocabulary, float(share), float(rare), weights)


@dataclasses.dataclass(frozen=True, eq=False)
class Masking:
    """The view of `masking`; `log_weights` ``[v]`` are how much likelier a word is hidden."""

    vocabulary: Vocabulary
    share: float
    rare: float = 0.0
    log_weights: np.ndarray | None = dataclasses.field(default=None, repr=False)

    @property
    def identity(self) -> str:
        """What it does to an example."""
        frequencies = b"" if self.log_weights is None else self.log_weights.tobytes()
        digest = hashlib.sha256(frequencies).hexdigest()[:8]
        words = f"{self.vocabulary.fingerprint} by {self.rare} {digest}"
        return f"mask {self.share} of {words}"

    def __call__(self, key: jax.Array, batch: Batch) -> Batch:
        """The batch with hidden words."""
        inputs = batch["inputs"]
        weight = batch["weight"]
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["index"])
        hide, ids = jax.vmap(self._hidden)(keys, inputs[..., 0], weight > 0)
        seen = inputs.at[..., 0].set(ids)
        return {**batch, "inputs": seen, "weight": weight * hide}

    def _hidden(
        self, key: jax.Array, ids: jax.Array, asked: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Which positions of a text are hidden, and what stands there: ``[l], [l]``."""
        places = jnp.arange(len(ids))

        def drawn(name: str) -> jax.Array:
            keys = jax.vmap(lambda place: jax.random.fold_in(rng.named(key, name), place))(places)
            return jax.vmap(jax.random.uniform)(keys)

        count = jnp.floor(self.share * asked.sum() + jax.random.uniform(rng.named(key, "count")))
        score = -jnp.log(-jnp.log(jnp.maximum(drawn("which"), 1e-12)))
        if self.log_weights is not None:
            score = score + jnp.asarray(self.log_weights)[ids]
        ranks = jnp.argsort(jnp.argsort(-jnp.where(asked, score, -jnp.inf)))
        hide = asked & (ranks < count)
        what, other = drawn("what"), self._any_word(drawn("other"))
        assert self.vocabulary.mask is not None  # see masking
        shown = jnp.where(what < _MASKED, self.vocabulary.mask, ids)
        shown = jnp.where((what >= _MASKED) & (what < _MASKED + _RANDOM), other, shown)
        return hide, jnp.where(hide, shown, ids)

    def _any_word(self, uniform: jax.Array) -> jax.Array:
        """A word of all that are not special, for each number in [0, 1)."""
        words = np.setdiff1d(np.arange(self.vocabulary.size), self.vocabulary.special)
        places = jnp.minimum((uniform * len(words)).astype(jnp.int32), len(words) - 1)
        return jnp.asarray(words, jnp.int32)[places]


def hidden(data: Dataset, view: Masking, seed: int = 0) -> Dataset:
    """The texts of `data` with words hidden once, the same in every run: what a masked language
    model is measured on.
    """
    key, hide = rng.named(rng.key(seed), "hidden"), jax.jit(view.__call__)
    inputs, weights = np.array(data.inputs), np.array(data.weights)
    for start in range(0, len(data), _ROWS):
        part = slice(start, start + _ROWS)
        index = np.arange(start, start + len(inputs[part]), dtype=np.int32)
        batch = {"inputs": inputs[part].astype(np.int32), "weight": weights[part], "index": index}
        seen = hide(key, batch)
        inputs[part], weights[part] = seen["inputs"], seen["weight"]
    return dataclasses.replace(data, inputs=inputs, weights=weights)


def _words(data: Any) -> np.ndarray:
    """Every word of a text of `data` that is no special one, in a row."""
    return data.labels[data.weights > 0]
