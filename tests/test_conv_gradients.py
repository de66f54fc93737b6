"""A convolution has the gradients that JAX finds, in the form that a CPU computes fast."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from kd.models import conv

SHAPES = st.tuples(
    st.integers(1, 3), st.integers(3, 9), st.integers(3, 9), st.integers(1, 3), st.integers(1, 3)
)


def drawn(shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def gradients(function, x, kernel, stride):
    """Of a sum in which every answer counts differently."""

    def total(x, kernel):
        answer = function(x, kernel, stride, 1)
        return jnp.sum(answer * (jnp.arange(answer.size).reshape(answer.shape) % 7))

    return jax.grad(total, argnums=(0, 1))(x, kernel)


@settings(max_examples=8)
@given(SHAPES, st.sampled_from([1, 3, 5]), st.sampled_from([1, 2, 3]))
def test_gradients_are_those_of_the_convolution(shape, size, stride):
    batch, height, width, inputs, features = shape
    x = drawn((batch, height, width, inputs), 0)
    kernel = drawn((size, size, inputs, features), 1)
    ours = gradients(conv.convolve, x, kernel, stride)
    tiny.close(ours, gradients(conv._convolve, x, kernel, stride), 1e-4, 1e-3)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_wide_layers_have_them_too(size):
    x, kernel = drawn((2, 6, 5, conv._WIDE), 0), drawn((size, size, conv._WIDE, conv._WIDE + 3), 1)
    ours = gradients(conv.convolve, x, kernel, 1)
    tiny.close(ours, gradients(conv._convolve, x, kernel, 1), 1e-4, 1e-3)
    narrow = conv._written_out(1, x[..., 1:], kernel[:, :, 1:], conv._convolve(x, kernel, 1, 1))
    wide = conv._written_out(1, x, kernel, conv._convolve(x, kernel, 1, 1))
    tiny.close(wide[1][:, :, 1:], narrow[1], 1e-4, 1e-3)  # the two forms of a kernel's gradient


def test_members_have_the_gradients_that_they_have_alone():
    x, kernels = drawn((3, 2, 6, 5, 2), 0), drawn((3, 3, 3, 2, 4), 1)
    alone = [gradients(conv.convolve, *pair, 2) for pair in zip(x, kernels, strict=True)]
    together = jax.vmap(lambda x, k: gradients(conv.convolve, x, k, 2))(x, kernels)
    tiny.close(together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone), 1e-4, 1e-3)


EIGEN = "b01f_01io->b01f"
"""What XLA gives to Eigen; within a loop it brings nothing into that form."""


def forms(function, x, kernel, stride):
    """Of all convolutions of a loop that descends along the kernel's gradient."""

    def descend(x, kernel, steps):
        def step(_, kernel):
            into_x, into_kernel = gradients(function, x, kernel, stride)
            return kernel - 1e-3 * into_kernel + jnp.sum(into_x)

        return jax.lax.fori_loop(0, steps, step, kernel)

    text = jax.jit(descend).lower(x, kernel, 3).compile().as_text()
    return re.findall(r"convolution\(.*dim_labels=([^,\s]+)", text)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="it is about the CPU's convolutions")
@pytest.mark.parametrize("stride", [1, 2])
def test_every_convolution_within_a_loop_is_one_for_eigen(stride):
    x, kernel = drawn((4, 8, 8, 3), 0), drawn((3, 3, 3, 5), 1)
    assert set(forms(conv._convolve, x, kernel, stride)) - {EIGEN}  # or nothing need be written out
    assert set(forms(conv.convolve, x, kernel, stride)) == {EIGEN}
