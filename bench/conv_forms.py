"""Other forms of a convolution's gradients, 3x3 and padded by one; kd leaves them to XLA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench import conv_onednn
from bench import conv_problem as c

IMAGES = 8
"""In one product."""
_TAPS = np.array([[1, 3], [2, 0]])
"""What an even and an odd pixel take of the kernel, of the answer beside it and of the next one; 3
is nothing.
"""


def four_pixels(kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient of the inputs at a stride of 2: one convolution 2x2 at a stride of 1, whose
    answers are four pixels each.
    """
    inputs, outputs = kernel.shape[2:]
    padded = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    taps = padded[_TAPS[:, :, None, None], _TAPS]  # [row tap column tap c o]
    turned = taps.transpose(1, 3, 5, 0, 2, 4).reshape(2, 2, outputs, 4 * inputs)
    form = ("NHWC", "HWIO", "NHWC")
    four = lax.conv_general_dilated(gradient, turned, (1, 1), [(0, 1)] * 2, dimension_numbers=form)
    b, h, w, _ = four.shape
    pixels = four.reshape(b, h, w, 2, 2, inputs).transpose(0, 1, 3, 2, 4, 5)
    return pixels.reshape(b, 2 * h, 2 * w, inputs)


def by_products(x: jax.Array, gradient: jax.Array, stride: int) -> jax.Array:
    """The gradient of the kernel: for every few images the nine shifts of their pixels side by
    side, times their gradients.
    """
    b, h, w, outputs = gradient.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [
        padded[:, i : i + stride * h : stride, j : j + stride * w : stride]
        for i in range(3)
        for j in range(3)
    ]
    pixels = jnp.concatenate(shifts, -1).reshape(b // IMAGES, IMAGES * h * w, -1)
    few = jnp.einsum("gkm,gko->gmo", pixels, gradient.reshape(*pixels.shape[:2], outputs))
    return few.sum(0).reshape(3, 3, x.shape[-1], outputs)


def function(part: c.Part) -> Callable[..., Any]:
    """`part`'s other form, of a layer's inputs, kernel and gradient.

    Raises:
      Missing: oneDNN cannot be called here.
    """
    stride = part.layer.stride
    if part.other != "by oneDNN":
        return {
            c.INTO_INPUTS: lambda _x, kernel, gradient: four_pixels(kernel, gradient),
            c.INTO_WEIGHTS: lambda x, _kernel, gradient: by_products(x, gradient, stride),
        }[part.way]
    conv_onednn.check_callable()
    return {
        c.FORWARD: lambda x, kernel, _: conv_onednn.convolve(x, kernel, stride),
        c.INTO_INPUTS: lambda _, kernel, gradient: conv_onednn.into_inputs(kernel, gradient),
        c.INTO_WEIGHTS: lambda x, _, gradient: conv_onednn.into_weights(x, gradient),
    }[part.way]
