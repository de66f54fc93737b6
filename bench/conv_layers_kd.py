"""kd's layers of a ResNet alone: convolutions, their two gradients, and normalisation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bench import conv_forms
from bench import conv_problem as c
from bench.problem import Problem
from bench.worker import Case, timed
from kd.models.conv import convolve
from kd.models.norm import normalised


def layer(part: c.Part, _problem: Problem, batch: int) -> Case:
    return _timed(function(part), part, batch)


def another(part: c.Part, _problem: Problem, batch: int) -> Case:
    return _timed(conv_forms.function(part), part, batch)


def _timed(run_layer: Callable[..., Any], part: c.Part, batch: int) -> Case:
    program, arrays = jax.jit(run_layer), jax.device_put(part.layer.arrays(batch))

    def run() -> None:
        for _ in range(c.CALLS):
            jax.block_until_ready(program(*arrays))

    return lambda: timed(run, c.CALLS)


def function(part: c.Part) -> Callable[..., Any]:
    """Of a layer's inputs, kernel and gradient."""

    def forward(x: jax.Array, kernel: jax.Array, _: jax.Array) -> Any:
        return convolve(x, kernel, part.layer.stride)

    def into_inputs(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return jax.vjp(lambda x: convolve(x, kernel, part.layer.stride), x)[1](gradient)

    def into_weights(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return jax.vjp(lambda k: convolve(x, k, part.layer.stride), kernel)[1](gradient)

    return dict(zip(c.WAYS, (forward, into_inputs, into_weights, _norm), strict=True))[part.way]


def _norm(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
    scale, counts = kernel[0, 0, 0], jnp.ones(len(x))

    def answer(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        return jax.nn.relu(normalised(x, scale, bias, counts)[0])

    values, gradients = jax.vjp(answer, x, scale, scale)
    return values, gradients(gradient)


CASES = {
    **{name: functools.partial(layer, part) for name, part in c.PARTS.items()},
    **{
        f"{name}, {part.other}": functools.partial(another, part)
        for name, part in c.PARTS.items()
        if part.other
    },
}
