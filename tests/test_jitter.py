"""Jitter: a shift that is a function of example and key, and never larger than the image."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd import data as kd_data
from kd.errors import KdError

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1, (12, 6, 6)), jnp.float32)
FRAMED = jnp.pad(IMAGES, [(0, 0), (2, 2), (2, 2)])  # nothing within two pixels of the border
JITTER = jax.jit(kd_data.jitter(2))


def shifted(key, images=FRAMED, index=None):
    index = jnp.arange(len(images)) if index is None else index
    return JITTER(key, {"inputs": images, "index": index})["inputs"]


def test_jitter_of_no_pixels_is_nothing_at_all_and_of_fewer_is_refused():
    assert kd_data.jitter(0) is None
    with pytest.raises(KdError, match="jitter_pixels"):
        kd_data.jitter(-1)


@hypothesis.given(st.integers(0, 2**31))
def test_every_image_moves_by_at_most_two_pixels_and_stays_whole(seed):
    for image, moved in zip(
        np.asarray(FRAMED), np.asarray(shifted(jax.random.key(seed))), strict=True
    ):
        offsets = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
        assert any(np.array_equal(np.roll(image, offset, (0, 1)), moved) for offset in offsets)
        np.testing.assert_allclose(moved.sum(), image.sum(), rtol=1e-5)


def test_every_shift_occurs():
    one_pixel = jnp.zeros((1200, 5, 5)).at[:, 2, 2].set(1.0)
    places = np.argwhere(np.asarray(shifted(jax.random.key(0), one_pixel)))[:, 1:]
    counts = np.bincount(places[:, 0] * 5 + places[:, 1], minlength=25)
    assert np.all(np.abs(counts - 48) < 6 * np.sqrt(48))  # 25 shifts, equally often


def test_the_shift_depends_on_example_and_key_not_on_place_or_company():
    key, order = jax.random.key(1), np.random.default_rng(1).permutation(12)
    together = shifted(key)
    np.testing.assert_array_equal(shifted(key, FRAMED[order], jnp.asarray(order)), together[order])
    assert np.any(shifted(jax.random.key(2)) != together)
    assert np.any(shifted(key, index=jnp.arange(12) + 12) != together)


def test_what_leaves_the_image_is_gone_and_zeros_come_in():
    moved = np.asarray(shifted(jax.random.key(0), IMAGES))
    assert moved.shape == IMAGES.shape
    assert all(0.2 < np.count_nonzero(image) / 36 <= 1 for image in moved)
    assert np.count_nonzero(moved) < IMAGES.size


def test_jitter_keeps_channels_apart_and_the_rest_of_the_batch():
    coloured = jnp.stack([FRAMED, 2 * FRAMED], axis=-1)
    batch = {"inputs": coloured, "index": jnp.arange(12), "labels": jnp.arange(12)}
    moved = kd_data.jitter(2)(jax.random.key(1), batch)
    np.testing.assert_array_equal(moved["inputs"][..., 0], shifted(jax.random.key(1)))
    np.testing.assert_array_equal(moved["inputs"][..., 1], 2 * moved["inputs"][..., 0])
    assert moved["labels"] is batch["labels"]


def test_jitter_of_what_is_no_image_is_refused():
    with pytest.raises(KdError, match="jitter needs images"):
        JITTER(jax.random.key(0), {"inputs": jnp.zeros((3, 4)), "index": jnp.arange(3)})


def _moved(pixels, height, width):
    batch = {"inputs": jnp.ones((2, height, width)), "index": jnp.arange(2)}
    return kd_data.jitter(pixels)(jax.random.key(0), batch)["inputs"]


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(pixels=st.integers(1, 2**70), height=st.integers(1, 5), width=st.integers(1, 5))
def test_a_shift_leaves_something_of_an_image_or_is_refused(pixels, height, width):
    if pixels >= min(height, width):
        with pytest.raises(KdError, match="out of sight"):
            _moved(pixels, height, width)
    else:
        assert jnp.all(_moved(pixels, height, width).sum((1, 2)) > 0)


def test_the_largest_shift_keeps_a_corner():
    assert jnp.all(_moved(3, 4, 4).sum((1, 2)) >= 1)
