"""ResNets whose convolutions are oneDNN's, which jaxlib has within and offers to nobody: measured,
and not used.

The call is one of XLA's own, named ``__onednn$convolution``, and its settings may change with any
jaxlib. No flag of XLA makes it of a convolution in float32, so it is written down here. oneDNN's
gradient of the weights cannot be called this way.
"""

from __future__ import annotations

import functools
import json
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from kd.core.types import Apply, Model
from kd.models import conv as of_kd

_TARGET = "__onednn$convolution"


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
    half = kernel.shape[0] // 2
    pixels = [(side + 2 * half - kernel.shape[0]) // stride + 1 for side in x.shape[1:3]]
    shape = jax.ShapeDtypeStruct((len(x), *pixels, kernel.shape[-1]), x.dtype)
    call = jax.ffi.ffi_call(
        _TARGET,
        shape,
        custom_call_api_version=2,
        legacy_backend_config=json.dumps(_settings(half, stride)),
    )
    return call(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> Any:
    return convolve(x, kernel, stride, groups), (x, kernel)


def _backward(stride: int, groups: int, kept: Any, gradient: jax.Array) -> Any:
    x, kernel = kept
    lax_of = functools.partial(of_kd._convolve, stride=stride, groups=groups)
    (into_kernel,) = jax.linear_transpose(lambda k: lax_of(x, k), kernel)(gradient)
    if stride != 1:
        (into_x,) = jax.linear_transpose(lambda x: lax_of(x, kernel), x)(gradient)
        return into_x, into_kernel
    turned = jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)
    return convolve(gradient, turned), into_kernel


convolve.defvjp(_forward, _backward)


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
