"""Images are shifted by less than their size, whatever number is asked for."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd import data as kd_data
from kd.errors import KdError


def _moved(pixels, height, width):
    batch = {"inputs": jnp.ones((2, height, width)), "index": jnp.arange(2)}
    return kd_data.jitter(pixels)(jax.random.key(0), batch)["inputs"]


@settings(max_examples=20, deadline=None)
@given(pixels=st.integers(1, 2**70), height=st.integers(1, 5), width=st.integers(1, 5))
def test_a_shift_leaves_something_of_an_image_or_is_refused(pixels, height, width):
    if pixels >= min(height, width):
        with pytest.raises(KdError, match="out of sight"):
            _moved(pixels, height, width)
    else:
        assert jnp.all(_moved(pixels, height, width).sum((1, 2)) > 0)


def test_the_largest_shift_keeps_a_corner():
    assert jnp.all(_moved(3, 4, 4).sum((1, 2)) >= 1)
