"""Laws that every loss of the catalogue obeys, and the laws of each."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import reference
import tiny
from kd.core.losses import LOSSES
from kd.core.objective import make_objective
from kd.core.terms import term
from kd.core.types import Outputs
from kd.errors import KdError
from kd.placement.mesh import MeshSpec, make_mesh

ON_LOGITS = sorted(name for name, info in LOSSES.items() if not info.taps)
every_loss = pytest.mark.parametrize("name", ON_LOGITS)
ALONE = {"bce", "mse", "soft_bce", "soft_mse"}  # each output is an answer of its own
of_distributions = pytest.mark.parametrize("name", sorted(set(ON_LOGITS) - ALONE))
with_temperature = pytest.mark.parametrize(
    "name", [n for n, i in sorted(LOSSES.items()) if "temperature" in i.numbers]
)
RANGES = {"temperature": (0.5, 8.0), "beta": (0.05, 0.95), "smoothing": (0.01, 0.9)}
NEAR = {"rtol": 2e-4, "atol": 2e-5}


def numbers(name):
    return st.fixed_dictionaries({key: st.floats(*RANGES[key]) for key in LOSSES[name].numbers})


def middle(name):
    return {key: np.float32(sum(RANGES[key]) / 2) for key in LOSSES[name].numbers}


def value(name, zs, zt, labels, hparams):
    info = LOSSES[name]
    hparams = {key: jnp.asarray(number, jnp.float32) for key, number in hparams.items()}
    batch = {"labels": jnp.asarray(labels)} if info.labels else {}
    return info.loss(
        Outputs(jnp.asarray(zs)), Outputs(jnp.asarray(zt)) if info.teacher else None, batch, hparams
    )


@functools.cache
def compiled(name):
    return jax.jit(functools.partial(value, name))


@functools.cache
def gradient(name):
    return jax.jit(jax.grad(lambda *arguments: jnp.sum(value(name, *arguments))))


def sample(shape=(8, 6), seed=0, scale=3.0, name="hard"):
    random = np.random.default_rng(seed)
    zs, zt = scale * random.normal(size=(2, *shape)).astype(np.float32)
    if LOSSES[name].targets in ("binary", "numbers"):
        return zs, zt, random.integers(0, 2, shape).astype(np.float32)
    return zs, zt, random.integers(0, shape[-1], shape[:-1]).astype(np.int32)


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
    for one, eight in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, eight, rtol=1e-5, atol=1e-6)


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
