"""Losses between encoders of texts: on what every token is to every other, and on first tokens.

Relations are ``[b q h k]``: before a softmax, what token q is to token k in head h; about -1e9
where k may not be seen. They are taps of `kd.models.encoder`: ``blocks_0/attention/scores`` and
``.../query_relations``, ``.../key_relations``, ``.../value_relations``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.losses import maps
from kd.core.types import Batch, Heads, Hparams, Outputs
from kd.errors import KdError

PerPosition = Float[Array, "*b"]

_UNSEEN = -100.0
"""A score at or below this is one of padding."""


def attention_mse(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams
) -> PerPosition:
    """Squared distance of attention scores before their softmax.

    Formula: ``mean_hk (A_s - A_t)^2`` over heads and the tokens k that may be seen, values of -100
    and below taken for 0; of a text its mean over tokens q that are no padding. Shapes: taps
    ``relations`` ``[b q h k]`` of both, of as many heads -> ``[*b]``.

    Raises:
      KdError: taps of other shapes.

    Source: Jiao et al. (2020), "TinyBERT", eq. 7, and its code for the scores of padding.
    """
    del batch, hparams
    own, wanted = _both(student, teacher)
    seen = (wanted > _UNSEEN).any(axis=2)  # [b q k]
    difference = jnp.where(own > _UNSEEN, own, 0.0) - jnp.where(wanted > _UNSEEN, wanted, 0.0)
    total = jnp.mean(jnp.sum(difference**2, axis=3), axis=2)
    return maps.mean_place(student, total / jnp.maximum(jnp.sum(seen, axis=2), 1))


def minilm(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Divergence of what every token looks at, or is alike: attention distributions, and relations
    of queries, keys or values with themselves.

    Formula: ``mean_h KL(softmax_k(R_t) || softmax_k(R_s))``; of a text its mean over tokens q that
    are no padding. MiniLM is the sum over two pairs of taps, the last layers' ``scores`` and
    ``value_relations``; its second version over ``query_relations``, ``key_relations`` and
    ``value_relations`` of a layer. Widths may differ. Shapes: taps ``relations`` ``[b q h k]`` of
    both, of as many heads -> ``[*b]``, in nats.

    Raises:
      KdError: taps of other shapes.

    Source: Wang et al. (2020), "MiniLM", eq. 6 to 9; Wang et al. (2021), "MiniLMv2", eq. 5 to 7.
    """
    del batch, hparams
    own, wanted = (jax.nn.log_softmax(values, axis=-1) for values in _both(student, teacher))
    divergence = jnp.sum(jnp.exp(wanted) * (wanted - own), axis=-1)
    return maps.mean_place(student, jnp.mean(divergence, axis=2))


def pkd(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """Squared distance of the directions of first tokens, by which a text is classified.

    Formula: ``| h_s/|h_s| - h_t/|h_t| |^2`` of place 0, ``W h_s + c`` in the place of ``h_s`` where
    the widths differ; W and c are trained and dropped. Between 0 and 4. Shapes: taps ``hidden``
    ``[b l s]`` and ``[b l t]``, or ``[b s]`` and ``[b t]`` -> ``[b]``.

    Raises:
      KdError: outputs for every token, which have no first one.

    Source: Sun et al. (2019), "Patient knowledge distillation for BERT model compression", eq. 7.
    """
    del batch, hparams
    if maps.ahead(student) != 1:
        raise KdError(
            "pkd compares the first token of each text and the outputs are for every token; take "
            "hidden_cosine or hidden_mse"
        )
    own, wanted = (_first(maps.hidden(outputs)) for outputs in (student, teacher))
    if heads.dropped:
        own = maps.through(own, heads.dropped, 1)
    return jnp.sum((maps.unit(own, -1) - maps.unit(wanted, -1)) ** 2, axis=-1)


def _first(values: Array) -> Float[Array, "b d"]:
    return values[:, 0] if values.ndim == 3 else values


def _both(student: Outputs, teacher: Outputs) -> tuple[Array, Array]:
    """The relations of both sides, float32."""
    own, wanted = (maps.hidden(outputs, "relations") for outputs in (student, teacher))
    if own.ndim != 4 or own.shape != wanted.shape:
        raise KdError(
            f"the student's relations are {list(own.shape)} and the teacher's "
            f"{list(wanted.shape)}, and this loss compares token with token in each head; name "
            "scores or relations of both, give both as many heads, or for relations set "
            "student.relation_heads to those of the teacher"
        )
    return own, wanted
