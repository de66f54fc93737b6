"""Windows of frames: the examples are those that the stacked ones would be."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd import data as kd_data
from kd.errors import KdError

FRAMES = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)


@st.composite
def windowed(draw):
    """A windowed data set, and the same examples stacked."""
    window = draw(st.integers(1, 30))
    starts = np.array(draw(st.lists(st.integers(0, 30 - window), min_size=1, max_size=12)))
    labels = np.arange(len(starts)) % 3
    options = {"num_classes": 3, "scale": draw(st.sampled_from([1.0, 0.5]))}
    stacked = np.stack([FRAMES[start : start + window] for start in starts])
    return kd_data.arrays(FRAMES, labels, starts=starts, window=window, **options), kd_data.arrays(
        stacked, labels, **options
    )


def same_batches(windowed_set, other):
    rows = jnp.concatenate([jnp.arange(len(windowed_set), dtype=jnp.int32)[::-1], jnp.array([-1])])
    batches = [kd_data.gather(kd_data.to_device(data), rows) for data in (windowed_set, other)]
    for a, b in zip(*map(jax.tree.leaves, batches), strict=True):
        np.testing.assert_array_equal(a, b)


@hypothesis.given(windowed())
def test_windowed_examples_are_the_stacked_ones(both):
    windowed_set, other = both
    assert len(windowed_set) == len(other)
    np.testing.assert_array_equal(windowed_set.first, other.first)
    same_batches(windowed_set, other)


@hypothesis.given(windowed(), st.integers(1, 99))
def test_a_slice_of_windows_is_the_slice_of_the_stack(both, percent):
    windowed_set, other = both
    hypothesis.assume(round(len(windowed_set) * percent / 100) >= 1)
    same_batches(*(kd_data.take(data, f"all[:{percent}%]") for data in (windowed_set, other)))
    assert (
        kd_data.take(windowed_set, f"all[:{percent}%]").inputs.frames is windowed_set.inputs.frames
    )


def test_the_fingerprint_sees_the_windows():
    base, labels = np.array([0, 5, 9]), np.arange(3)
    sets = [
        kd_data.arrays(FRAMES, labels, starts=base + shift, window=w)
        for shift, w in [(0, 4), (1, 4), (0, 5)]
    ]
    assert len({data.fingerprint for data in sets}) == 3
    assert (
        kd_data.arrays(FRAMES, labels, starts=base.astype(np.int8), window=4).fingerprint
        == sets[0].fingerprint
    )


@pytest.mark.parametrize(
    ("starts", "window", "message"),
    [
        (None, 3, "without starts"),
        ([0], 0, "between 1 and the 30 frames.*got 0"),
        ([0], 31, "between 1 and the 30 frames.*got 31"),
        ([0, 28], 3, "window of example 1, 3 frames from 28, leaves the 30 frames"),
        ([-1], 3, "window of example 0"),
        ([0.0], 3, "whole numbers"),
        ([[0]], 3, "whole numbers"),
        ([], 3, "whole numbers"),
    ],
)
def test_windows_that_do_not_fit_are_refused(starts, window, message):
    starts = None if starts is None else np.array(starts)
    with pytest.raises(KdError, match=message):
        kd_data.arrays(FRAMES, num_classes=2, starts=starts, window=window)


def test_windows_come_back_from_an_npz_file(tmp_path):
    data = kd_data.arrays(FRAMES, np.arange(3), starts=np.array([0, 5, 9]), window=4)
    np.savez(
        tmp_path / "w.npz",
        train_inputs=FRAMES,
        train_labels=data.labels,
        train_starts=data.inputs.starts,
        window=data.inputs.width,
    )
    assert kd_data.load("npz:w.npz", "train", str(tmp_path)).fingerprint == data.fingerprint
    np.savez(
        tmp_path / "bad.npz",
        train_inputs=FRAMES,
        train_labels=data.labels,
        train_starts=data.inputs.starts,
    )
    with pytest.raises(KdError, match="window must lie between"):
        kd_data.load("npz:bad.npz", "train", str(tmp_path))
