"""ResNets whose convolutions are oneDNN's, which jaxlib has within and offers to nobody: measured,
and not used.

The call is one of XLA's own, named ``__onednn$convolution``. No flag of XLA makes it of a
convolution in float32, so it is written down here, for the jaxlibs of `TRIED` alone: what it does
not understand, a setting of another name or a type that it does not know, is no exception but the
end of the process. XLA can neither store a program with it nor export it, and computes it whole on
every device. oneDNN's own gradient of the weights has no such call, only `into_weights`.
"""

from __future__ import annotations

import functools
import json
import platform
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import jaxlib.version

from bench.worker import Missing
from kd.core.types import Apply, Model
from kd.models import conv as of_kd

TRIED = ("0.10.2", "0.12.0.1")
_TARGET = "__onednn$convolution"


def check_callable() -> None:
    """Raise `Missing` unless this jaxlib is known to understand the call."""
    if jaxlib.version.__version__ not in TRIED or platform.machine() != "x86_64":
        known = " and ".join(TRIED)
        raise Missing(f"oneDNN within jaxlib was called in versions {known} on x86_64 alone")


def by_onednn(model: Model) -> Model:
    """`model`, whose convolutions in float32, forward and into the inputs, are oneDNN's."""

    def patched(apply: Any) -> Apply:
        def run(*arguments: Any, **options: Any) -> Any:
            with mock.patch.object(of_kd, "convolve", convolve):
                return apply(*arguments, **options)

        return run

    return model.wrapped(patched)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1) -> jax.Array:
    """`kd.models.conv.convolve` of one group."""
    assert groups == 1
    return _call(x, kernel, kernel.shape[0] // 2, stride)


def _forward(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> Any:
    return convolve(x, kernel, stride, groups), (x, kernel)


def _backward(stride: int, _groups: int, kept: Any, gradient: jax.Array) -> Any:
    x, kernel = kept
    into_x, into_kernel = of_kd._written_out(stride, x, kernel, gradient)
    return (into_x if stride != 1 else into_inputs(kernel, gradient)), into_kernel


convolve.defvjp(_forward, _backward)


def into_inputs(kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient of the inputs, at a stride of 1."""
    return convolve(gradient, jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2))


def into_weights(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient of a kernel 3x3, at a stride of 1: channels are the images, images the channels,
    of the answers' gradients convolved with the images.
    """
    turned = _call(gradient.transpose(3, 1, 2, 0), x.transpose(1, 2, 0, 3), half=1, stride=1)
    return jnp.flip(turned, (1, 2)).transpose(1, 2, 3, 0)


def _call(x: jax.Array, kernel: jax.Array, half: int, stride: int) -> jax.Array:
    sides = zip(x.shape[1:3], kernel.shape[:2], strict=True)
    pixels = [(side + 2 * half - size) // stride + 1 for side, size in sides]
    call = jax.ffi.ffi_call(
        _TARGET,
        jax.ShapeDtypeStruct((len(x), *pixels, kernel.shape[-1]), x.dtype),
        custom_call_api_version=2,
        legacy_backend_config=json.dumps(_settings(half, stride)),
    )
    return call(x, kernel)


def _settings(half: int, stride: int) -> dict[str, Any]:
    """Of NHWC images and HWIO kernels; whole numbers are text there."""
    images = {"data": {"batch_dim": "0", "feature_dim": "3", "spatial_dims": ["1", "2"]}}
    kernel = {"input_feature_dim": "2", "output_feature_dim": "3", "spatial_dims": ["0", "1"]}
    window = {
        "pad_left": [str(half)] * 2,
        "pad_right": [str(half)] * 2,
        "strides": [str(stride)] * 2,
        "window_dilations": ["1", "1"],
    }
    settings = {
        "dims": "4",
        "feature_groups": "1",
        "input": images,
        "kernel": {"filter": kernel},
        "output": images,
        "window": window,
    }
    return {"outer_dimension_partitions": [], "onednn_conv_config": settings}
