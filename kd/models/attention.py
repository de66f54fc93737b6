"""Scaled dot-product attention, and the relations of tokens that losses look into."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.backend import get_backend
from jaxtyping import Array, Bool, Float

HIDDEN = -1e9
"""The score of a token that may not be seen: finite, so that a row without any has a gradient."""


def attend(
    query: Float[Array, "b q h d"],
    key: Float[Array, "b k h d"],
    value: Float[Array, "b k h d"],
    visible: Bool[Array, "b 1 #q k"] | None = None,
    drop: Callable[[Array], Array] | None = None,
) -> Float[Array, "b q h d"]:
    """``softmax(q k' / sqrt(d)) v``, head by head, with the softmax in float32 whatever the
    activations are.

    `visible` says which tokens may be seen, None all of them; `drop` is dropout of the softmax. On
    an NVIDIA GPU bfloat16 without dropout goes through cuDNN, which never writes the scores down.
    Elsewhere heads stand before tokens, so that every product is of matrices that lie in one piece:
    a third less time on a CPU.
    """
    if query.dtype == jnp.bfloat16 and drop is None and _has_cudnn():
        return jax.nn.dot_product_attention(query, key, value, mask=visible, implementation="cudnn")
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    query *= query.shape[-1] ** -0.5  # of the smallest array of all
    scores = jnp.matmul(query, key.swapaxes(2, 3), preferred_element_type=jnp.float32)
    if visible is not None:
        scores = jnp.where(visible, scores, HIDDEN)
    weights = jax.nn.softmax(scores, axis=-1)
    if drop is not None:
        weights = drop(weights)
    return (weights.astype(value.dtype) @ value).swapaxes(1, 2)


def _has_cudnn() -> bool:
    return jax.default_backend() == "gpu" and "cuda" in get_backend().platform_version.lower()


class Relations(nn.Module):
    """What every token is to every other before a softmax: ``a b' / sqrt(d)`` of each head, and
    `HIDDEN` where it may not be seen. A module of its own, so that it is a tap; who asks for none
    pays for none. Shapes: ``[b l d], [b l d], [b 1 #q k] -> [b q h k]``, float32.
    """

    heads: int

    @nn.compact
    def __call__(self, a: jax.Array, b: jax.Array, visible: jax.Array) -> jax.Array:
        a, b = (x.reshape(*x.shape[:-1], self.heads, -1) for x in (a, b))
        products = jnp.einsum("bqhd,bkhd->bqhk", a, b, preferred_element_type=jnp.float32)
        products *= a.shape[-1] ** -0.5
        return jnp.where(visible.swapaxes(1, 2), products, HIDDEN)
