"""Batch normalisation: statistics of the examples that count, on however many devices they lie."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

MOMENTUM = 0.9
"""How much of the statistics that are kept stays in a step."""
EPSILON = 1e-5


class BatchNorm(nn.Module):
    """``scale (x - mean) / sqrt(var + 1e-5) + bias`` channel by channel.

    In training mean and variance are those of the whole batch, without the examples of weight 0,
    which are padding; what is kept for evaluation moves a tenth of the way to them, to the variance
    as an unbiased estimate. Sums and statistics are float32 whatever the type of `x` is, and the
    type stays. Parameters ``scale[c]`` and ``bias[c]``, statistics ``mean[c]`` and ``var[c]``.
    Shapes: ``[b h w c] -> [b h w c]``, weights ``[b]`` or with positions ``[b *p]``.

    Source: Ioffe & Szegedy (2015), "Batch normalization", algorithms 1 and 2.
    """

    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones_init(), channels)
        bias = self.param("bias", nn.initializers.zeros_init(), channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        var = self.variable("batch_stats", "var", jnp.ones, channels)
        if not self.train:
            factor = scale * lax.rsqrt(var.value + EPSILON)
            return _scaled(x, factor, bias - mean.value * factor)
        counts = counted(x, weight)
        answer, batch_mean, batch_var = normalised(x, scale, bias, counts)
        if not self.is_initializing():
            pixels = counts.sum() * (x.shape[1] * x.shape[2])
            unbiased = batch_var * (pixels / jnp.maximum(pixels - 1, 1))
            mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * batch_mean
            var.value = MOMENTUM * var.value + (1 - MOMENTUM) * unbiased
        return answer


def counted(x: jax.Array, weight: jax.Array | None) -> Float[Array, " b"]:
    """1 for each example with a weight above 0 anywhere, else 0."""
    if weight is None:
        return jnp.ones(len(x))
    return (weight > 0).reshape(len(x), -1).any(axis=1).astype(jnp.float32)


@jax.custom_vjp
def normalised(
    x: Float[Array, "b h w c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    counts: Float[Array, " b"],
) -> tuple[Float[Array, "b h w c"], Float[Array, " c"], Float[Array, " c"]]:
    """`x` normalised by the statistics of the examples whose `counts` is 1, and these statistics,
    which are not differentiated.

    Sums are taken of each example first: its device and its thread need nothing else.
    """
    return _forward(x, scale, bias, counts)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, counts: jax.Array
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    whole = x.astype(jnp.float32)
    pixels = jnp.maximum(counts.sum(), 1) * (x.shape[1] * x.shape[2])
    mean = _summed(whole, counts) / pixels
    var = jnp.maximum(_summed(whole * whole, counts) / pixels - mean * mean, 0)
    inverse = lax.rsqrt(var + EPSILON)
    factor = scale * inverse
    answer = _scaled(x, factor, bias - mean * factor)
    return (answer, mean, var), (x, scale, mean, inverse, counts)


def _backward(
    kept: tuple[jax.Array, ...], cotangents: tuple[jax.Array, ...]
) -> tuple[jax.Array | None, ...]:
    x, scale, mean, inverse, counts = kept
    gradient = cotangents[0].astype(jnp.float32)
    normal = (x.astype(jnp.float32) - _row(mean)) * _row(inverse)
    each = jnp.ones_like(counts)
    into_bias, into_scale = _summed(gradient, each), _summed(gradient * normal, each)
    pixels = jnp.maximum(counts.sum(), 1) * (x.shape[1] * x.shape[2])
    share = counts[:, None, None, None] / pixels
    common = share * (_row(into_bias) + normal * _row(into_scale))
    into_x = _row(scale * inverse) * (gradient - common)
    return into_x.astype(x.dtype), into_scale, into_bias, None


normalised.defvjp(_forward, _backward)


def _summed(values: jax.Array, counts: jax.Array) -> Float[Array, " c"]:
    """Sums of channels over pixels, then over the examples that count."""
    each = values.sum(axis=(1, 2))
    return jnp.where(counts[:, None] > 0, each, 0.0).sum(axis=0)


def _scaled(x: jax.Array, factor: jax.Array, offset: jax.Array) -> jax.Array:
    return (x * _row(factor) + _row(offset)).astype(x.dtype)


def _row(channels: jax.Array) -> jax.Array:
    return channels[None, None, None]
