"""Convolutions, batch normalisation and what else networks on images share; NHWC throughout."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from kd.errors import KdError
from kd.placement.mesh import over_batch

_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_FORM = ("NHWC", "HWIO", "NHWC")
_WIDE = (
    32  # channels on both sides; a CPU multiplies matrices of that size faster than it convolves
)


class Conv(nn.Module):
    """A convolution without a bias, padded by half its size on every side: at a stride of 1 the
    image keeps its size, at a stride of s it has ``ceil(h / s)`` rows.

    Each of `groups` parts of the channels is convolved alone. Its parameter is ``kernel[size size
    c/groups features]``, drawn from a normal distribution of variance ``2 / (size² features)``.
    Shapes: ``[b h w c] -> [b h/stride w/stride features]``.

    Source: He et al. (2015), "Delving deep into rectifiers", section 2.2, for the first weights.
    """

    features: int
    size: int = 3
    stride: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1] // self.groups, self.features)
        return convolve(x, self.param("kernel", _HE, shape), self.stride, self.groups)


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k i o"], stride: int = 1, groups: int = 1
) -> Float[Array, "b p q o"]:
    """`x` convolved with `kernel`, padded by half the kernel's size on every side.

    Of inputs of bfloat16 the kernel is rounded too, and its gradient, a sum over examples that lie
    on many devices, stays float32.

    Source: Micikevicius et al. (2018), "Mixed precision training", section 3.3, on sums in single
    precision.
    """
    if x.dtype == jnp.bfloat16:
        return _in_half(x, kernel, stride, groups)
    if groups == 1:
        return _alone(x, kernel, stride)
    return _convolve(x, kernel, stride, groups)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    half = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(half, half)] * 2,
        dimension_numbers=_FORM,
        feature_group_count=groups,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _alone(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """One group, whose gradients a CPU computes as `_written_out`."""
    return _convolve(x, kernel, stride, 1)


def _alone_forward(
    x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, stride, 1), (x, kernel)


def _alone_backward(
    stride: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def transposed(
        x: jax.Array, kernel: jax.Array, gradient: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(lambda x, k: _convolve(x, k, stride, 1), x, kernel)[1](gradient)

    written_out = functools.partial(_written_out, stride)
    return lax.platform_dependent(*kept, gradient, cpu=written_out, default=transposed)


_alone.defvjp(_alone_forward, _alone_backward)


def _written_out(
    stride: int, x: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The gradients of `_alone` as convolutions of the form that XLA gives to Eigen on a CPU, or as
    products.

    XLA makes that form of others too, but never within a loop, and there what has it not is
    computed some thirty times as slowly. So axes are exchanged and kernels turned round here.
    """
    size, half, steps = kernel.shape[0], kernel.shape[0] // 2, (stride, stride)
    # pixels of each axis, and how far the answers reach over them, a step apart
    axes = [(x.shape[i], (gradient.shape[i] - 1) * stride + 1) for i in (1, 2)]
    into_x = lax.conv_general_dilated(
        gradient,
        kernel[::-1, ::-1].swapaxes(2, 3),
        (1, 1),
        [(size - 1 - half, pixels - reach + half) for pixels, reach in axes],
        lhs_dilation=steps,
        dimension_numbers=_FORM,
    )
    if stride == 1 and min(kernel.shape[2:]) >= _WIDE:
        return into_x, _by_product(x, gradient, size)
    into_kernel = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        [(half, reach + size - 1 - pixels - half) for pixels, reach in axes],
        rhs_dilation=steps,
        dimension_numbers=_FORM,
    )
    return into_x, into_kernel.transpose(1, 2, 0, 3)


def _by_product(x: jax.Array, gradient: jax.Array, size: int) -> jax.Array:
    """The gradient of a kernel at a stride of 1, as one product of matrices.

    Formula: ``k[i j] = sum_hw x[h, w+j-s] g[h-i+s, w]`` with ``s = size // 2``: the columns of the
    images are moved one way and the rows of the gradients the other, so that every offset of the
    kernel is a block of ``(size c) x (size o)`` sums over all pixels. Shapes: ``[b h w c], [b h w
    o] -> [size size c o]``.
    """
    columns, rows = _moved(x, size, 2), _moved(gradient, size, 1)
    sums = lax.dot_general(columns, rows, (((0, 1, 2), (0, 1, 2)), ((), ())))
    blocks = sums.reshape(size, x.shape[-1], size, gradient.shape[-1])
    return blocks[:, :, ::-1].transpose(2, 0, 1, 3)


def _moved(x: jax.Array, size: int, axis: int) -> jax.Array:
    """`x` moved by every offset of a kernel along `axis`, side by side: ``[b h w c] -> [b h w (size
    c)]``.
    """
    padding = [(size // 2, size // 2) if i == axis else (0, 0) for i in range(x.ndim)]
    padded, pixels = jnp.pad(x, padding), x.shape[axis]
    moved = [lax.slice_in_dim(padded, i, i + pixels, axis=axis) for i in range(size)]
    return jnp.concatenate(moved, axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _in_half(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    return _convolve(x, kernel.astype(x.dtype), stride, groups)


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int, groups: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _in_half(x, kernel, stride, groups), (x, kernel)


def _backward(
    stride: int, groups: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    rounded = kernel.astype(x.dtype)
    (into_x,) = jax.linear_transpose(lambda x: _convolve(x, rounded, stride, groups), x)(gradient)
    return into_x, _into_kernel(x, gradient, kernel.shape[0], stride, groups).astype(kernel.dtype)


_in_half.defvjp(_forward, _backward)


def _into_kernel(
    x: jax.Array, gradient: jax.Array, size: int, stride: int, groups: int
) -> jax.Array:
    """The gradient of a kernel, in float32: channels by channels, a convolution of the images with
    the gradients of their answers.
    """

    def padding(pixels: int, answers: int) -> tuple[int, int]:
        reach = (answers - 1) * stride + size  # pixels that the answers look at
        return size // 2, reach - pixels - size // 2

    return lax.conv_general_dilated(
        x,
        gradient,
        (1, 1),
        [padding(x.shape[i], gradient.shape[i]) for i in (1, 2)],
        rhs_dilation=(stride, stride),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        batch_group_count=groups,
        preferred_element_type=jnp.float32,
    )


def images(inputs: jax.Array, least: int, who: str) -> Float[Array, "b h w c"]:
    """Inputs ``[b h w]`` or ``[b h w c]`` as images with channels.

    Raises:
      KdError: other shapes, and images of fewer than `least` pixels a side.
    """
    if inputs.ndim not in (3, 4):
        raise KdError(
            f"{who} needs images [b h w] or [b h w c], got inputs of shape {inputs.shape}"
        )
    if min(inputs.shape[1:3]) < least:
        height, width = inputs.shape[1:3]
        raise KdError(
            f"{who} halves an image until {least} pixels are 1 and these have {height}x{width}; "
            f"set data.image_size to {least} or more, or take a smaller network"
        )
    return inputs if inputs.ndim == 4 else inputs[..., None]


def pooled(x: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
    """The mean over pixels, summed in float32."""
    return x.mean(axis=(1, 2), dtype=jnp.float32).astype(x.dtype)


class Stage(nn.Module):
    """Blocks in a row, ``blocks_0`` the first, which alone has the `stride`.

    Shapes: ``[b h w c] -> [b h/stride w/stride d]``. With `remat` a block's inner activations are
    computed anew in the backward pass.
    """

    kind: type[nn.Module]
    blocks: int
    stride: int
    remat: bool
    options: Mapping[str, Any]
    """What every block is told."""

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        block: Any = nn.remat(self.kind) if self.remat else self.kind
        for i in range(self.blocks):
            stride = 1 if i else self.stride
            x = over_batch(block(stride=stride, name=f"blocks_{i}", **self.options)(x, weight))
        return x
