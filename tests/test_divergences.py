"""Laws of the divergences."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference
from kd.core import divergences

LOG2 = np.log(2.0)


def of_logits(divergence):
    """The divergence of two softmaxes, compiled once."""
    return jax.jit(
        lambda zp, zq, *rest: divergence(jax.nn.log_softmax(zp), jax.nn.log_softmax(zq), *rest)
    )


KL, JSD, TV = (of_logits(d) for d in (divergences.kl, divergences.jsd, divergences.total_variation))
CROSS = of_logits(divergences.cross_entropy)
ENTROPY = jax.jit(lambda z: divergences.entropy(jax.nn.log_softmax(z)))
KL_GRADIENT = jax.jit(jax.grad(lambda zq, zp: jnp.sum(KL(zp, zq))))
CROSS_GRADIENT = jax.jit(jax.grad(lambda zq, zp: jnp.sum(CROSS(zp, zq))))


@hypothesis.given(reference.logits(), reference.logits(), st.floats(0.05, 0.95))
def test_values_match_float64(zp, zq, beta):
    p, q = reference.softmax(zp), reference.softmax(zq)
    m = beta * p + (1 - beta) * q
    near = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(KL(zp, zq), reference.kl(p, q), **near)
    np.testing.assert_allclose(CROSS(zp, zq), -(p * np.log(q)).sum(-1), **near)
    np.testing.assert_allclose(ENTROPY(zp), -(p * np.log(p)).sum(-1), **near)
    np.testing.assert_allclose(TV(zp, zq), np.abs(p - q).sum(-1) / 2, **near)
    np.testing.assert_allclose(
        JSD(zp, zq, beta), beta * reference.kl(p, m) + (1 - beta) * reference.kl(q, m), **near
    )


@hypothesis.given(reference.logits(), reference.logits())
def test_kl_is_cross_entropy_minus_entropy_and_has_its_gradient(zp, zq):
    np.testing.assert_allclose(KL(zp, zq), CROSS(zp, zq) - ENTROPY(zp), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(KL_GRADIENT(zq, zp), CROSS_GRADIENT(zq, zp), atol=1e-6)


@hypothesis.given(reference.logits())
def test_kl_of_a_distribution_with_itself_is_zero_with_zero_gradient(z):
    assert np.all(KL(z, z) == 0)
    np.testing.assert_allclose(KL_GRADIENT(z, z), 0, atol=1e-6)


@hypothesis.given(reference.logits(), reference.logits())
def test_kl_is_positive_up_to_rounding(zp, zq):
    assert np.all(KL(zp, zq) >= -1e-6)


def test_kl_pays_for_what_the_student_leaves_out_not_for_what_it_adds():
    two_modes, one_mode = np.float32([[10, 10, -10]]), np.float32([[10, -10, -10]])
    assert KL(two_modes, one_mode)[0] > 5  # forward: a mode of the teacher is missing
    assert KL(one_mode, two_modes)[0] < 1  # the student only spreads


@hypothesis.given(reference.logits(), reference.logits(), st.floats(0.05, 0.95))
def test_jsd_symmetry_and_bounds(zp, zq, beta):
    np.testing.assert_allclose(JSD(zp, zq, 0.5), JSD(zq, zp, 0.5), atol=1e-6)
    np.testing.assert_allclose(JSD(zp, zq, beta), JSD(zq, zp, 1 - beta), atol=1e-6)
    assert np.all(JSD(zp, zq, 0.5) <= LOG2 + 1e-6)
    assert np.all(JSD(zp, zq, beta) >= -1e-6)
    np.testing.assert_allclose(JSD(zp, zp, beta), 0, atol=1e-6)


def test_jsd_of_disjoint_supports_is_log_two():
    log_p, log_q = jnp.log(jnp.array([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]))[:, None]
    np.testing.assert_allclose(divergences.jsd(log_p, log_q), LOG2, rtol=1e-6)


@hypothesis.given(reference.logits(bound=2.0), reference.logits(bound=2.0))
def test_jsd_tends_to_kl_at_both_ends(zp, zq):
    for end, limit in (
        (lambda b: JSD(zp, zq, b) / b, KL(zp, zq)),
        (lambda b: JSD(zp, zq, 1 - b) / b, KL(zq, zp)),
    ):
        far, near = (np.abs(end(b) - limit) for b in (0.1, 0.01))
        assert np.all(near <= 0.2 * far + 1e-4)  # the error falls as beta


@hypothesis.given(reference.logits(), reference.logits(), reference.logits())
def test_total_variation_is_a_bounded_metric(za, zb, zc):
    assert np.all((TV(za, zb) >= 0) & (TV(za, zb) <= 1 + 1e-6))
    np.testing.assert_allclose(TV(za, zb), TV(zb, za), atol=1e-6)
    assert np.all(TV(za, za) == 0)
    assert np.all(TV(za, zc) <= TV(za, zb) + TV(zb, zc) + 1e-6)


@hypothesis.given(reference.logits(), reference.logits())
def test_pinsker(zp, zq):
    assert np.all(TV(zp, zq) <= np.sqrt(np.maximum(KL(zp, zq), 0) / 2) + 1e-3)


@pytest.mark.parametrize(
    "divergence", [KL, CROSS, TV, lambda zp, zq: JSD(zp, zq, 0.3)], ids=["kl", "ce", "tv", "jsd"]
)
def test_an_impossible_class_counts_for_nothing(divergence):
    random = np.random.default_rng(0)
    zp, zq = random.normal(size=(2, 4, 6)).astype(np.float32)
    zp_cut, zq_cut = (
        np.concatenate([z, np.full((4, 2), -np.inf, np.float32)], axis=-1) for z in (zp, zq)
    )
    np.testing.assert_allclose(divergence(zp_cut, zq_cut), divergence(zp, zq), rtol=1e-6)
    slopes = jax.grad(lambda *z: jnp.sum(divergence(*z)), (0, 1))
    for with_cut, without in zip(slopes(zp_cut, zq_cut), slopes(zp, zq), strict=True):
        np.testing.assert_allclose(with_cut[:, :6], without, atol=1e-6)
        np.testing.assert_array_equal(with_cut[:, 6:], 0)


def test_kl_is_infinite_where_the_student_rules_out_what_the_teacher_allows():
    log_p, log_q = jnp.log(jnp.array([[0.5, 0.5], [1.0, 0.0]]))[:, None]
    assert np.all(np.isposinf(divergences.kl(log_p, log_q)))
    np.testing.assert_allclose(divergences.kl(log_q, log_p), LOG2, rtol=1e-6)


@pytest.mark.parametrize(
    "divergence", [divergences.kl, divergences.jsd, divergences.total_variation]
)
def test_one_teacher_row_is_not_broadcast_over_two_student_rows(divergence):
    with pytest.raises(Exception, match="Type-check error"):
        divergence(jnp.zeros((1, 5)), jnp.zeros((2, 5)))


@pytest.mark.parametrize("divergence", [KL, JSD, CROSS, lambda zp, zq: KL(zq, zp)])
def test_nan_is_not_taken_for_a_class_that_is_ruled_out(divergence):
    """Else a teacher that diverged would teach nothing, at a loss of zero."""
    good, bad = jnp.ones((2, 3)), jnp.full((2, 3), jnp.nan)
    assert np.isnan(divergence(bad, good)).all()
    assert np.isnan(divergence(good, bad)).all()
