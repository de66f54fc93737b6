"""A recurrent student of texts: embeddings read from both ends."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd.core.types import Model, Outputs
from kd.errors import KdError
from kd.models.dense import Dense
from kd.models.encoder import Embed, check_texts
from kd.models.linen import linen
from kd.models.made import named
from kd.placement.mesh import over_batch


class BiLSTM(nn.Module):
    """Embeddings, an LSTM from each end, and two layers on both last states. Shapes:
    ``[b l 2] -> [b v]``.

    Modules: ``words``, ``forward``, ``backward``, ``hidden``, ``head``.
    """

    classes: int
    vocabulary: int
    width: int
    states: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False, dtype: Any = jnp.float32) -> Outputs:
        check_texts(inputs)
        there = inputs[..., 1] > 0
        drop = nn.Dropout(self.dropout, deterministic=not train)
        words = Embed(self.vocabulary, self.width, name="words")(inputs[..., 0])
        words = drop(over_batch(words.astype(dtype)))
        last = [self._last(words, there, name) for name in ("forward", "backward")]
        x = over_batch(jnp.concatenate(last, axis=-1).astype(dtype))
        x = drop(jax.nn.relu(Dense(self.hidden, name="hidden")(x)))
        return Outputs(Dense(self.classes, name="head")(x), places=there)

    def _last(self, words: jax.Array, there: jax.Array, name: str) -> jax.Array:
        """The state after the last token of each text, or read backwards after its first."""
        cell = nn.OptimizedLSTMCell(self.states, dtype=words.dtype, name=f"{name}_cell")
        reader = nn.RNN(cell, reverse=name == "backward", return_carry=True, name=name)
        (_, state), _ = reader(words, seq_lengths=there.sum(axis=1))
        return state


@named
def bilstm(
    classes: int,
    *,
    vocabulary: int,
    width: int = 300,
    states: int = 150,
    hidden: int = 200,
    dropout: float = 0.0,
) -> Model:
    """A bidirectional LSTM on texts: embeddings of `width`, `states` of each direction, and a layer
    of `hidden` rectified units before the answer.

    `vocabulary` is how many words have an embedding; `dropout` a probability, of embeddings and of
    the hidden layer. A pair of texts is read as one, with what stands between them. Padding, which
    comes last, is not read.

    Raises:
      KdError: sizes below 1, a dropout outside [0, 1); when it is applied, inputs that are no
        texts.

    Source: Tang et al. (2019), "Distilling task-specific knowledge from BERT into simple neural
    networks", section 3.1.
    """
    sizes = {"classes": classes, "vocabulary": vocabulary, "width": width, "states": states}
    for name, value in {**sizes, "hidden": hidden}.items():
        if value < 1:
            raise KdError(f"a bilstm needs {name} of 1 or more, got {value}")
    if not 0 <= dropout < 1:
        raise KdError(f"dropout must lie in [0, 1), got {dropout}")
    model = BiLSTM(classes, vocabulary, width, states, hidden, float(dropout))
    return linen(model, mixed=True)
