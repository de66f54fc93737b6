"""Laws of each loss by itself: its limits, its direction, its bounds."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference
import tiny
from catalogue import NEAR, compiled, gradient, middle, sample, value
from kd.core.losses import LOSSES
from kd.core.objective import make_objective
from kd.core.terms import term
from kd.core.types import Outputs
from kd.errors import KdError

# --- soft_targets ---


def test_soft_targets_gradient_tends_to_that_of_logit_mse():
    zs, zt, labels = sample((64, 10), scale=1.0)
    limit = gradient("logit_mse")(zs, zt, labels, {})
    errors = [
        np.abs(
            gradient("soft_targets")(zs, zt, labels, {"temperature": np.float32(t)}) - limit
        ).mean()
        for t in (10, 100, 1000)
    ]
    for hot, hotter in itertools.pairwise(errors):
        assert 8 < hot / hotter < 12  # the error falls as 1/T
    centred = [z - z.mean(-1, keepdims=True) for z in (zs, zt)]
    np.testing.assert_allclose(limit, (centred[0] - centred[1]) / 10, atol=1e-6)


def test_at_high_temperature_an_arithmetic_ensemble_is_a_geometric_one():
    zs, za, _ = sample((64, 10), scale=1.0)
    members = jnp.stack([jnp.asarray(za), jnp.asarray(za[::-1])])

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def slope(z, name, average):
        loss = LOSSES[name].loss
        hparams = {"temperature": jnp.float32(1000)}
        return jax.grad(
            lambda z: jnp.sum(loss(Outputs(z), Outputs(members, average), {}, hparams))
        )(z)

    limit = slope(zs, "logit_mse", "geometric")
    np.testing.assert_allclose(slope(zs, "soft_targets", "arithmetic"), limit, atol=2e-3)
    assert np.abs(limit).max() > 0.2


def test_soft_targets_value_tends_to_that_of_logit_mse():
    zs, zt, labels = sample((64, 10), scale=1.0)
    limit = value("logit_mse", zs, zt, labels, {})
    errors = [
        np.abs(value("soft_targets", zs, zt, labels, {"temperature": np.float32(t)}) - limit).mean()
        for t in (5, 50)
    ]
    assert 8 < errors[0] / errors[1] < 12


@pytest.mark.parametrize("with_hard", [False, True])
@hypothesis.given(
    zs=reference.logits(), zt=reference.logits(), temperature=st.floats(1.0, 8.0, width=32)
)
def test_soft_targets_keeps_its_t_squared_with_or_without_a_hard_term(
    with_hard, zs, zt, temperature
):
    terms = [term("soft_targets", temperature=temperature), *([term("hard")] if with_hard else [])]
    batch = {"labels": jnp.zeros(4, jnp.int32), "weight": jnp.ones(4)}
    hparams = tiny.hparams(terms)
    total, values, _ = make_objective(terms)(
        Outputs(jnp.asarray(zs)), Outputs(jnp.asarray(zt)), batch, hparams, jnp.zeros((), jnp.int32)
    )
    wanted = temperature**2 * reference.kl(
        reference.softmax(zt, temperature), reference.softmax(zs, temperature)
    )
    np.testing.assert_allclose(values["soft_targets"], wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(total, sum(values.values()), rtol=1e-6)


def test_soft_targets_is_not_squared_error_of_probabilities():
    """A student certain of the wrong class learns at full speed; squared error between
    probabilities would not.
    """
    zt = 20 * np.eye(6, dtype=np.float32)
    zs = np.roll(zt, 1, axis=1)
    ours = gradient("soft_targets")(zs, zt, np.zeros(6, np.int32), {"temperature": np.float32(1)})
    q, p = reference.softmax(zs), reference.softmax(zt)
    squared = 2 * q * (q - p - np.sum(q * (q - p), axis=-1, keepdims=True))
    assert np.linalg.norm(squared) < 1e-3
    np.testing.assert_allclose(np.linalg.norm(ours, axis=-1), np.sqrt(2), rtol=1e-3)


# --- the others ---


@hypothesis.given(reference.logits(), reference.logits(), st.floats(0.5, 8.0, width=32))
def test_reverse_kl_is_kl_with_the_two_swapped(zs, zt, temperature):
    labels, hparams = np.zeros(4, np.int32), {"temperature": np.float32(temperature)}
    np.testing.assert_array_equal(
        compiled("reverse_kl")(zs, zt, labels, hparams), compiled("kl")(zt, zs, labels, hparams)
    )


def test_kl_goes_from_teacher_to_student():
    two_modes, one_mode = np.float32([[10, 10, -10]]), np.float32([[10, -10, -10]])
    labels, hparams = np.zeros(1, np.int32), {"temperature": np.float32(1)}
    for name in ("kl", "soft_targets"):
        missing, spread = (
            value(name, one_mode, two_modes, labels, hparams),
            value(name, two_modes, one_mode, labels, hparams),
        )
        assert missing[0] > 5 > 1 > spread[0]
    assert value("reverse_kl", one_mode, two_modes, labels, hparams)[0] < 1


@hypothesis.given(reference.logits(), reference.logits(), reference.labels())
def test_jsd_is_symmetric_in_the_middle_and_bounded(zs, zt, labels):
    hparams = {"temperature": np.float32(2), "beta": np.float32(0.5)}
    there, back = compiled("jsd")(zs, zt, labels, hparams), compiled("jsd")(zt, zs, labels, hparams)
    np.testing.assert_allclose(there, back, atol=1e-6)
    assert np.all(there <= np.log(2) + 1e-6)


@hypothesis.given(reference.logits(), reference.labels())
def test_label_smoothing_lies_between_hard_and_uniform(zs, labels):
    def smooth(amount):
        return compiled("label_smoothing")(zs, zs, labels, {"smoothing": np.float32(amount)})

    uniform = -reference.log_softmax(zs).mean(-1)
    np.testing.assert_allclose(
        smooth(0), compiled("hard")(zs, zs, labels, {}), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(smooth(1), uniform, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        smooth(0.25), 0.75 * smooth(0) + 0.25 * smooth(1), rtol=1e-5, atol=1e-5
    )


def test_a_uniform_student_pays_log_of_the_number_of_classes():
    labels, zeros = np.zeros(4, np.int32), np.zeros((4, 6), np.float32)
    for name in ("hard", "label_smoothing"):
        np.testing.assert_allclose(
            value(name, zeros, zeros, labels, middle(name)), np.log(6), rtol=1e-6
        )


# --- outputs alone ---


def of_two(z):
    """A yes or no as two classes, of logits ``(0, z)``."""
    return np.stack([np.zeros_like(z), z], axis=-1)


@hypothesis.given(
    reference.logits(shape=(4, 1)), reference.logits(shape=(4, 1)), st.floats(0.5, 8.0, width=32)
)
def test_one_yes_or_no_is_two_classes(zs, zt, temperature):
    labels = np.int32([0, 1, 1, 0])
    two = of_two(zs[:, 0]), of_two(zt[:, 0])
    for yes, classes, hparams in (
        ("bce", "hard", {}),
        ("soft_bce", "soft_targets", {"temperature": np.float32(temperature)}),
    ):
        got = compiled(yes)(zs, zt, labels.astype(np.float32), hparams)
        np.testing.assert_allclose(got, compiled(classes)(*two, labels, hparams), **NEAR)


@hypothesis.given(reference.logits(), reference.logits())
def test_logit_mse_is_half_of_soft_mse_without_the_mean_of_the_difference(zs, zt):
    labels = np.zeros(4, np.int32)
    mean = (zs.astype(np.float64) - zt).mean(axis=-1)
    whole = compiled("soft_mse")(zs, zt, labels, {})
    centred = compiled("logit_mse")(zs, zt, labels, {})
    np.testing.assert_allclose(centred, (whole - mean**2) / 2, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_an_ensemble_answers_with_one_chance_and_one_number(average):
    zs, za, _ = sample()
    zb = za[::-1].copy()
    members = Outputs(jnp.stack([jnp.asarray(za), jnp.asarray(zb)]), average)
    hparams = {"temperature": jnp.float32(2)}
    chance = (reference.sigmoid(za, 2) + reference.sigmoid(zb, 2)) / 2
    merged = 2 * np.log(chance / (1 - chance)) if average == "arithmetic" else (za + zb) / 2
    got = LOSSES["soft_bce"].loss(Outputs(jnp.asarray(zs)), members, {}, hparams)
    np.testing.assert_allclose(got, reference.LOSSES["soft_bce"](zs, merged, None, 2), **NEAR)
    got = LOSSES["soft_mse"].loss(Outputs(jnp.asarray(zs)), members, {}, {})
    np.testing.assert_allclose(got, reference.LOSSES["soft_mse"](zs, (za + zb) / 2, None), **NEAR)


@pytest.mark.parametrize("name", ["bce", "mse"])
def test_labels_of_one_output_need_no_axis_and_are_not_repeated_over_several(name):
    zs, zt, labels = sample((8, 1), name=name)
    with_axis, without = (value(name, zs, zt, y, {}) for y in (labels, labels[:, 0]))
    np.testing.assert_array_equal(with_axis, without)
    with pytest.raises(KdError, match="an output for each label"):
        value(name, *sample()[:2], labels[:, 0], {})
