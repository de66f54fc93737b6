"""Laws that every loss of the catalogue obeys."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import reference
import tiny
from catalogue import ALONE, NEAR, ON_LOGITS, compiled, gradient, middle, numbers, sample, value
from kd.core.losses import LOSSES
from kd.core.objective import make_objective
from kd.core.terms import term
from kd.core.types import Outputs
from kd.placement.mesh import MeshSpec, make_mesh

every_loss = pytest.mark.parametrize("name", ON_LOGITS)
of_distributions = pytest.mark.parametrize("name", sorted(set(ON_LOGITS) - ALONE))
with_temperature = pytest.mark.parametrize(
    "name", [n for n, i in sorted(LOSSES.items()) if "temperature" in i.numbers]
)


def test_every_loss_has_a_reference():
    assert set(reference.LOSSES) == set(reference.GRADIENTS) == set(ON_LOGITS)


@every_loss
@hypothesis.given(st.data())
def test_value_and_gradient_match_the_reference(name, data):
    zs, zt = data.draw(reference.logits()), data.draw(reference.logits())
    labels = data.draw(reference.labels(LOSSES[name].targets))
    hparams = data.draw(numbers(name))
    got = compiled(name)(zs, zt, labels, hparams)
    assert got.shape == zs.shape[:-1]  # one value per position, no reduction
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, reference.LOSSES[name](zs, zt, labels, **hparams), **NEAR)
    slope = gradient(name)(zs, zt, labels, hparams)
    np.testing.assert_allclose(slope, reference.gradient(name, zs, zt, labels, hparams), **NEAR)
    np.testing.assert_allclose(slope, reference.GRADIENTS[name](zs, zt, labels, **hparams), **NEAR)


@every_loss
def test_jit_vmap_and_leading_axes_change_nothing(name):
    zs, zt, labels = sample(name=name)
    eager = value(name, zs, zt, labels, middle(name))
    one_by_one = [value(name, *row, middle(name)) for row in zip(zs, zt, labels, strict=True)]
    several = [x.reshape(2, 4, *x.shape[1:]) for x in (zs, zt, labels)]
    np.testing.assert_allclose(
        compiled(name)(zs, zt, labels, middle(name)), eager, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(np.stack(one_by_one), eager, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        value(name, *several, middle(name)).reshape(-1), eager, rtol=1e-5, atol=1e-6
    )
    mapped = jax.vmap(functools.partial(value, name), in_axes=(0, 0, 0, None))(
        zs, zt, labels, middle(name)
    )
    np.testing.assert_allclose(mapped, eager, rtol=1e-5, atol=1e-6)


@every_loss
def test_bfloat16_logits_are_computed_in_float32(name):
    zs, zt, labels = sample(name=name)
    half_s, half_t = jnp.asarray(zs, jnp.bfloat16), jnp.asarray(zt, jnp.bfloat16)
    got = value(name, half_s, half_t, labels, middle(name))
    assert got.dtype == jnp.float32
    wide = value(name, half_s.astype(jnp.float32), half_t.astype(jnp.float32), labels, middle(name))
    np.testing.assert_array_equal(got, wide)  # only the rounding of the logits themselves is left
    np.testing.assert_allclose(got, value(name, zs, zt, labels, middle(name)), rtol=0.1, atol=0.05)


@every_loss
def test_large_logits_stay_finite(name):
    zs, zt, labels = sample(scale=1e4, name=name)
    assert np.isfinite(value(name, zs, zt, labels, middle(name))).all()
    assert np.isfinite(gradient(name)(zs, zt, labels, middle(name))).all()


@of_distributions
@hypothesis.given(st.data())
def test_a_constant_added_to_logits_changes_nothing(name, data):
    zs, zt = data.draw(reference.logits()), data.draw(reference.logits())
    labels, hparams = data.draw(reference.labels()), data.draw(numbers(name))
    shift_s, shift_t = (np.float32(data.draw(st.integers(-50, 50))) for _ in range(2))
    for f in (compiled(name), gradient(name)):
        moved = f(zs + shift_s, zt + shift_t, labels, hparams)
        np.testing.assert_allclose(moved, f(zs, zt, labels, hparams), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "name", sorted(set(ON_LOGITS) - ALONE - {"label_smoothing", "logit_mse"})
)  # a mean by their formula
def test_the_vocabulary_is_summed_over_not_averaged(name):
    zs, zt, labels = sample()
    wider = [
        np.concatenate([z, np.full_like(z, -np.inf)], axis=-1) for z in (zs, zt)
    ]  # as many classes again, impossible
    got = value(name, *wider, labels, middle(name))
    np.testing.assert_allclose(got, value(name, zs, zt, labels, middle(name)), rtol=1e-5)


def averaged(*names):
    """Weighted mean over positions, through the objective as the step takes it, and its
    gradient.
    """
    terms = [
        term(name, **{key: float(number) for key, number in middle(name).items()}) for name in names
    ]
    objective, hparams = make_objective(terms), tiny.hparams(terms)

    def mean(zs, zt, labels, weight):
        batch = {"labels": labels, "weight": weight}
        total, values, _ = objective(
            Outputs(zs), Outputs(zt), batch, hparams, jnp.zeros((), jnp.int32)
        )
        return jnp.sum(weight * total) / jnp.sum(weight), values

    return jax.jit(jax.value_and_grad(mean, has_aux=True))


@every_loss
def test_masked_is_sliced_and_nan_behind_the_mask_is_never_seen(name):
    run = averaged(name)

    @hypothesis.given(
        reference.logits(),
        reference.logits(),
        reference.labels(LOSSES[name].targets),
        st.permutations([2.0, 1.0, 0.0, 0.0]),
    )
    def law(zs, zt, labels, weight):
        weight = np.float32(weight)
        keep = weight > 0
        bad = [
            np.where(keep[:, None], z, spoiled)
            for z, spoiled in ((zs, np.float32("nan")), (zt, np.float32("inf")))
        ]
        spoilt = np.full_like(labels, 999 if labels.dtype.kind == "i" else np.nan)
        spoilt[keep] = labels[keep]
        (mean, _), slope = run(*bad, spoilt, weight)
        sliced = zs[keep], zt[keep], labels[keep]
        values, slopes = (
            table[name](*sliced, **middle(name))
            for table in (reference.LOSSES, reference.GRADIENTS)
        )
        np.testing.assert_allclose(mean, np.average(values, weights=weight[keep]), **NEAR)
        np.testing.assert_allclose(slope[keep], slopes * weight[keep, None] / weight.sum(), **NEAR)
        np.testing.assert_array_equal(slope[~keep], 0)

    law()


@pytest.mark.parametrize("targets", ["classes", "binary", "numbers"])
def test_one_device_is_eight(targets):
    names = [name for name in ON_LOGITS if LOSSES[name].targets in (None, targets)]
    reader = next(name for name in names if LOSSES[name].targets == targets)
    zs, zt, labels = sample((16, 6), name=reader)
    # uneven over the devices, so a mean of local means would show
    weight = np.arange(16, dtype=np.float32)
    run, results = averaged(*names), []
    for devices in (1, 8):
        split = NamedSharding(make_mesh(MeshSpec(devices=devices)), PartitionSpec("data"))
        results.append(run(*(jax.device_put(x, split) for x in (zs, zt, labels, weight))))
    assert len(results[1][1].sharding.device_set) == 8
    for alone, eight in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(alone, eight, rtol=1e-5, atol=1e-6)


@with_temperature
def test_the_temperature_reaches_the_loss(name):
    zs, zt, labels = sample()
    warm, hot = (
        value(name, zs, zt, labels, {**middle(name), "temperature": np.float32(t)})
        for t in (2.0, 3.0)
    )
    assert np.all(np.abs(warm - hot) > 1e-3)


@every_loss
def test_a_student_that_agrees_with_a_certain_teacher_pays_nothing(name):
    certain = np.float32(200) * (np.eye(6, dtype=np.float32) - (name in ALONE) / 2)
    labels = {
        "binary": np.eye(6, dtype=np.float32),
        "numbers": certain,
    }.get(str(LOSSES[name].targets), np.arange(6, dtype=np.int32))
    near_zero = {
        **middle(name),
        **({"smoothing": np.float32(1e-6)} if name == "label_smoothing" else {}),
    }
    np.testing.assert_allclose(value(name, certain, certain, labels, near_zero), 0, atol=1e-3)
    assert np.all(value(name, np.roll(certain, 1, axis=1), certain, labels, near_zero) > 0.5)
