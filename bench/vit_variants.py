"""Other ways to compute kd's ViT on a CPU, with the same parameters and the same numbers but for
rounding.

They are put in place of its layers from outside, to be measured before any becomes kd's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from bench.vit_problem import VARIANTS
from kd.core.types import Model
from kd.models.vit import Attention

Way = Callable[[Mapping[str, Any], nn.Module, jax.Array], jax.Array]
"""Parameters of the layer, the layer, and its inputs ``[b l d]``, to its outputs."""


def heads_first(params: Mapping[str, Any], layer: Any, x: jax.Array) -> jax.Array:
    """Attention with one product for query, key and value, heads before tokens from there on, and
    the query scaled in place of the scores; see `attend`.
    """
    b, tokens, width = x.shape
    heads = layer.heads
    names = ("query", "key", "value")
    kernel = jnp.concatenate([params[name]["kernel"] for name in names], axis=1)
    bias = jnp.concatenate([params[name]["bias"] for name in names])
    projected = x.reshape(b * tokens, width) @ kernel + bias[None]
    query, key, value = projected.reshape(b, tokens, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    seen = attend(query * query.shape[-1] ** -0.5, key, value)
    seen = seen.transpose(0, 2, 1, 3).reshape(b * tokens, width)
    return (seen @ params["out"]["kernel"] + params["out"]["bias"][None]).reshape(x.shape)


@jax.custom_vjp
def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """``softmax(q k') v``, arrays ``[b h l d]``, normalised where it is ``[l d]`` and not
    ``[l l]``.
    """
    return _attend_forward(query, key, value)[0]


def _attend_forward(query: jax.Array, key: jax.Array, value: jax.Array) -> Any:
    scores = query @ key.swapaxes(-1, -2)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    inverse = 1 / weights.sum(axis=-1, keepdims=True)
    seen = (weights @ value) * inverse
    return seen, (query, key, value, weights, inverse, seen)


def _attend_backward(kept: Any, g: jax.Array) -> Any:
    """With ``p = e / z`` of the forward pass, ``ds = e (g v' / z - sum(g seen) / z)``."""
    query, key, value, weights, inverse, seen = kept
    g = g * inverse
    of_scores = weights * (g @ value.swapaxes(-1, -2) - (g * seen).sum(axis=-1, keepdims=True))
    across = of_scores.swapaxes(-1, -2)
    return of_scores @ key, across @ query, weights.swapaxes(-1, -2) @ g


attend.defvjp(_attend_forward, _attend_backward)


@jax.custom_vjp
def norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """LayerNorm over the last axis of ``[b l d]``; normal values are kept for the backward pass."""
    return _norm_forward(x, scale, bias, epsilon)[0]


def _norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt((centred * centred).mean(axis=-1, keepdims=True) + epsilon)
    normal = centred * inverse
    return normal * scale[None, None] + bias[None, None], (normal, inverse, scale)


def _norm_backward(kept: Any, g: jax.Array) -> Any:
    """Sums over tokens are products with a row of ones, which run on every core."""
    normal, inverse, scale = kept
    rows = (-1, g.shape[-1])
    ones = jnp.ones((1, g.size // g.shape[-1]), g.dtype)
    of_scale, of_bias = ones @ (g * normal).reshape(rows), ones @ g.reshape(rows)
    g = g * scale[None, None]
    along = (g * normal).mean(axis=-1, keepdims=True)
    of_x = inverse * (g - g.mean(axis=-1, keepdims=True) - normal * along)
    return of_x, of_scale[0], of_bias[0], None


norm.defvjp(_norm_forward, _norm_backward)


def kept_norms(params: Mapping[str, Any], layer: Any, x: jax.Array) -> jax.Array:
    """`norm` in place of Flax's."""
    return norm(x, params["scale"], params["bias"], layer.epsilon)


WAYS: dict[str, dict[type[nn.Module], Way]] = {
    "heads first": {Attention: heads_first},
    "kept norms": {nn.LayerNorm: kept_norms},
    "heads first, kept norms": {Attention: heads_first, nn.LayerNorm: kept_norms},
}
assert set(VARIANTS) <= set(WAYS)


def in_place(variant: str) -> Any:
    """A context in which layers are computed in these ways; without a name, in kd's own."""
    ways = WAYS[variant] if variant else {}

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        way = ways.get(type(layer))
        if way is None or context.method_name != "__call__" or layer.is_initializing():
            return call(*args, **kwargs)
        return way(layer.variables["params"], layer, args[0])

    return nn.intercept_methods(intercept)


def varied(model: Model, variant: str) -> Model:
    """The model computed so; its parameters are made as ever."""
    if not variant:
        return model

    def apply(*args: Any, **kwargs: Any) -> Any:
        with in_place(variant):
            return model.apply(*args, **kwargs)

    return dataclasses.replace(model, apply=apply)
