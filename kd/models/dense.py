"""A linear layer whose sums are float32 whatever it computes in: over inputs, over examples, and
over devices.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Dense(nn.Module):
    """`flax.linen.Dense`, its parameters and numbers, but that inputs of bfloat16 stay so: see
    `affine`.
    """

    features: int
    kernel_init: Callable[..., jax.Array] = nn.initializers.lecun_normal()
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        zeros = nn.initializers.zeros_init()
        bias = (
            self.param("bias", zeros, (self.features,))
            if self.use_bias
            else jnp.zeros(self.features, kernel.dtype)
        )
        if x.dtype == jnp.bfloat16:
            return affine(x, kernel, bias)
        return by_rows(lambda rows: rows @ kernel + bias[None], x)


def by_rows(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """`function` of the rows of `x` as one matrix: ``[*b inputs]`` as ``[rows inputs]``, and back.

    On a CPU the gradient of a kernel is then one product without a copy, and a sweep over all
    elements has no indices to compute.
    """
    outputs = function(x.reshape(-1, x.shape[-1]))
    return outputs.reshape(*x.shape[:-1], outputs.shape[-1])


@jax.custom_vjp
def affine(
    x: Float[Array, "*b inputs"], kernel: Float[Array, "inputs units"], bias: Float[Array, " units"]
) -> Float[Array, "*b units"]:
    """``x W + b`` of factors rounded to the type of `x`, added up in float32; the gradients of W
    and b stay float32.

    Those are sums over examples, which lie on many devices. If W itself were rounded, so would be
    its gradient: every device's part of it, before they are added up.

    Source: Micikevicius et al. (2018), "Mixed precision training", section 3.3, on sums in single
    precision.
    """
    return (_sum(x, kernel.astype(x.dtype), (x.ndim - 1,), (0,)) + _row(bias, x.ndim)).astype(
        x.dtype
    )


def _forward(
    x: jax.Array, kernel: jax.Array, bias: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return affine(x, kernel, bias), (x, kernel, bias)


def _backward(kept: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, ...]:
    x, kernel, bias = kept
    examples = tuple(range(x.ndim - 1))
    into_x = _sum(gradient, kernel.astype(x.dtype), (x.ndim - 1,), (1,)).astype(x.dtype)
    into_kernel = _sum(x, gradient, examples, examples).astype(kernel.dtype)
    return into_x, into_kernel, jnp.sum(gradient, examples, dtype=jnp.float32).astype(bias.dtype)


affine.defvjp(_forward, _backward)


def _sum(a: jax.Array, b: jax.Array, over: tuple[int, ...], and_over: tuple[int, ...]) -> jax.Array:
    return jnp.tensordot(a, b, (over, and_over), preferred_element_type=jnp.float32)


def _row(bias: jax.Array, dimensions: int) -> jax.Array:
    return bias.reshape((1,) * (dimensions - 1) + bias.shape)
