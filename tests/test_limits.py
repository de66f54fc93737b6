"""Section 2.1: distillation at a high temperature is logit matching, and how high is high."""

import jax.numpy as jnp
import numpy as np
import pytest

import reference
from kd import high_temperature_limit
from kd.errors import KdError


def pair(n=30, classes=6, scale=2.0, seed=0):
    return scale * np.random.default_rng(seed).normal(size=(2, n, classes))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0, 1000.0, 1e5])
def test_it_is_the_error_of_the_gradient_in_closed_form(temperature):
    zs, zt = pair()
    gradient = reference.GRADIENTS["soft_targets"](zs, zt, None, temperature)
    limit = reference.GRADIENTS["logit_mse"](zs, zt, None)
    wanted = np.linalg.norm(gradient - limit, axis=-1) / np.linalg.norm(limit, axis=-1)
    got = high_temperature_limit(zs, zt, [temperature])
    np.testing.assert_allclose(got, wanted[None], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("closeness", [1.0, 1e-3])
def test_the_error_falls_as_one_over_the_temperature(closeness):
    """Also for a student that is nearly its teacher, where float32 would see nothing but
    rounding.
    """
    zs, zt = pair()
    errors = high_temperature_limit(zt + closeness * (zs - zt), zt, [1e2, 1e3, 1e4, 1e5]).mean(
        axis=-1
    )
    np.testing.assert_allclose(errors[:-1] / errors[1:], 10, rtol=0.02)


def test_hotter_logits_need_a_hotter_temperature():
    """Scaling all logits and the temperature by the same factor changes nothing: it is their ratio
    that is high.
    """
    zs, zt = pair()
    np.testing.assert_allclose(
        high_temperature_limit(7 * zs, 7 * zt, [70.0]),
        high_temperature_limit(zs, zt, [10.0]),
        rtol=1e-6,
    )


def test_a_constant_added_to_logits_changes_nothing():
    zs, zt = pair()
    np.testing.assert_allclose(
        high_temperature_limit(zs + 30, zt - 5, [20.0]),
        high_temperature_limit(zs, zt, [20.0]),
        rtol=1e-6,
    )


def test_the_limit_of_equals_is_no_gradient_and_no_error():
    zs, _ = pair()
    assert high_temperature_limit(zs, zs, [1.0, 100.0]).tolist() == np.zeros((2, 30)).tolist()


def test_float32_comes_back_afterwards():
    high_temperature_limit(*pair(), [3.0])
    assert jnp.asarray(np.zeros(1)).dtype == jnp.float32


def test_what_it_refuses():
    zs, zt = pair()
    with pytest.raises(KdError, match=r"must both be \[n v\].*mean of its members"):
        high_temperature_limit(zs, zt[:, :5], [1.0])
    with pytest.raises(KdError, match="temperature must be a positive number, got -1"):
        high_temperature_limit(zs, zt, [1.0, -1.0])
    for spoilt in (np.nan, np.inf):
        with pytest.raises(KdError, match="must be finite"):
            high_temperature_limit(np.where(zs == zs.max(), spoilt, zs), zt, [1.0])
