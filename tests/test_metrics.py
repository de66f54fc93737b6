"""Laws of mergeable means."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from kd.core.metrics import Mean, weighted_mean

vectors = hnp.arrays(np.float32, 8, elements=st.floats(-100, 100, width=32))
weights = hnp.arrays(np.float32, 8, elements=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
MEAN = jax.jit(weighted_mean)
SLOPE = jax.jit(jax.grad(lambda values, weight: weighted_mean(values, weight).value))


@hypothesis.given(vectors, weights)
def test_it_is_the_weighted_mean(values, weight):
    mean = MEAN(values, weight)
    wanted = np.average(values.astype(np.float64), weights=weight) if weight.any() else 0.0
    np.testing.assert_allclose(mean.value, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean.count, weight.sum())


@hypothesis.given(vectors, weights)
def test_merging_parts_is_the_mean_of_the_whole(values, weight):
    parts = [MEAN(v, w) for v, w in zip(np.split(values, 2), np.split(weight, 2), strict=True)]
    merged = jax.tree.map(jnp.add, *parts)
    np.testing.assert_allclose(merged.value, MEAN(values, weight).value, rtol=1e-4, atol=1e-4)


@hypothesis.given(vectors, weights)
def test_only_relative_weights_matter_to_the_value(values, weight):
    np.testing.assert_allclose(
        MEAN(values, 4 * weight).value, MEAN(values, weight).value, rtol=1e-5, atol=1e-5
    )


@hypothesis.given(vectors, weights)
def test_the_gradient_is_the_normalised_weight(values, weight):
    np.testing.assert_allclose(SLOPE(values, weight), weight / max(weight.sum(), 1e-9), rtol=1e-5)


def test_nothing_counted_is_zero_and_not_nan():
    assert Mean(jnp.zeros(()), jnp.zeros(())).value == 0
    assert MEAN(np.full(8, np.nan, np.float32), np.zeros(8, np.float32)).value == 0


def test_what_has_no_weight_is_not_looked_at():
    values, weight = np.float32([1, np.nan, 3, np.inf]), np.float32([1, 0, 1, 0])
    assert MEAN(values, weight).value == 2
    np.testing.assert_array_equal(SLOPE(values, weight), [0.5, 0, 0.5, 0])


def test_members_are_averaged_apart():
    values, weight = (
        np.arange(8, dtype=np.float32).reshape(2, 4),
        np.float32([[1, 1, 1, 1], [1, 0, 0, 0]]),
    )
    np.testing.assert_allclose(jax.vmap(weighted_mean)(values, weight).value, [1.5, 4.0])
