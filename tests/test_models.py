"""Laws of models: two pure functions, and what training mode may change."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from kd.core.types import Outputs
from kd.models import MODELS, linen
from kd.models.dense import Dense, affine
from kd.models.precision import in_bfloat16

INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4, 4)), jnp.float32)
KEYS = [jax.random.key(seed) for seed in range(2)]


TINY = {"vit": {"variant": "Ti/2", "width": 16, "depth": 2, "heads": 2}}
SHIPPED = {name: make(classes=7, **TINY.get(name, {})) for name, make in MODELS.items()}
every_model = pytest.mark.parametrize("model", SHIPPED.values(), ids=SHIPPED)


@functools.cache
def compiled_init(model):
    return jax.jit(model.init)


def init(model, seed=0, inputs=INPUTS):
    return compiled_init(model)(KEYS[seed], inputs)


@functools.cache
def compiled_apply(model):
    return jax.jit(model.apply, static_argnames="train")


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(
            inputs.reshape(len(inputs), -1)
        )
        return nn.Dense(3)(x)


class Deterministic(nn.Module):
    @nn.compact
    def __call__(self, inputs, deterministic):
        return nn.Dropout(0.5)(inputs.reshape(len(inputs), -1), deterministic=deterministic)


class Flagless(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        hidden = nn.Dense(3)(inputs.reshape(len(inputs), -1))
        self.sow("intermediates", "hidden", hidden)  # unread taps cost nothing and travel nowhere
        return hidden


class Answering(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        logits = nn.Dense(3)(inputs.reshape(len(inputs), -1))
        return Outputs(jnp.stack([logits, -logits]), "geometric")


@every_model
def test_every_model_answers_one_logit_per_class(model):
    outputs, _ = model.apply(*init(model), INPUTS)
    assert outputs.logits.shape == (6, 7)
    assert outputs.width == 7


@every_model
def test_initial_parameters_are_a_function_of_the_key_alone(model):
    tiny.close(init(model), init(model, inputs=5 * INPUTS), rtol=0, atol=0)
    assert tiny.differ(init(model), init(model, seed=1))


@every_model
def test_in_evaluation_examples_do_not_see_each_other(model):
    params, extra = init(model)
    whole, changed = (
        model.apply(params, extra, x)[0].logits for x in (INPUTS, INPUTS.at[3:].multiply(-5.0))
    )
    np.testing.assert_allclose(changed[:3], whole[:3], rtol=1e-5, atol=1e-6)
    assert tiny.differ(changed[3:], whole[3:])


def test_dropout_acts_in_training_only():
    params, extra = init(tiny.DROPPING)

    def logits(train, key):
        return compiled_apply(tiny.DROPPING)(params, extra, INPUTS, train=train, key=key)[0].logits

    np.testing.assert_array_equal(logits(False, KEYS[0]), logits(False, None))
    np.testing.assert_array_equal(logits(True, KEYS[0]), logits(True, KEYS[0]))
    assert tiny.differ(logits(True, KEYS[0]), logits(True, KEYS[1]))
    assert tiny.differ(logits(True, KEYS[0]), logits(False, None))


@pytest.mark.parametrize("rates", [(0.0, 0.5), (0.5, 0.0)])
def test_dropout_rates_reach_inputs_and_hidden_units(rates):
    model = MODELS["mlp"](5, (8,), *rates)
    params, extra = init(model)
    first, other = (
        compiled_apply(model)(params, extra, INPUTS, train=True, key=key)[0].logits for key in KEYS
    )
    assert tiny.differ(first, other)


def test_the_mlp_has_the_layers_it_was_asked_for():
    params, _ = jax.eval_shape(MODELS["mlp"](5, (8, 9)).init, KEYS[0], INPUTS)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(params)) == sorted(
        [(16, 8), (8,), (8, 9), (9,), (9, 5), (5,)]
    )


def test_batch_statistics_are_updated_in_training_and_read_in_evaluation():
    model = linen(Normalised())
    params, extra = init(model)
    assert set(extra) == {"batch_stats"}
    trained, updated = model.apply(params, extra, INPUTS, train=True, key=KEYS[0])
    mean = np.asarray(INPUTS).reshape(6, -1).mean(0)
    np.testing.assert_allclose(
        updated["batch_stats"]["BatchNorm_0"]["mean"], 0.5 * mean, rtol=1e-4, atol=1e-6
    )
    evaluated, untouched = model.apply(params, updated, INPUTS, train=False)
    tiny.close(untouched, updated, rtol=0, atol=0)
    assert tiny.differ(trained, evaluated)
    assert tiny.differ(evaluated, model.apply(params, extra, INPUTS)[0])
    assert jax.tree.structure(updated) == jax.tree.structure(extra)


def test_batch_statistics_of_a_student_move_and_those_of_its_teacher_stay():
    from kd.teachers import make as kd_teacher

    model = linen(Normalised())
    params, extra = init(model)
    teacher = kd_teacher.live(model, params, extra)
    batch = {**tiny.batch(6), "inputs": INPUTS, "labels": jnp.zeros(6, jnp.int32)}
    before = teacher.apply(teacher.variables, batch).logits
    state, _ = jax.jit(tiny.step(model, teacher))(
        tiny.state(model), teacher.variables, batch, tiny.hparams()
    )
    assert tiny.differ(state.extra, extra)
    tiny.close(teacher.variables["extra"], extra, rtol=0, atol=0)
    np.testing.assert_array_equal(teacher.apply(teacher.variables, batch).logits, before)


def test_a_module_that_takes_deterministic_is_told():
    model = linen(Deterministic())
    params, extra = init(model)
    np.testing.assert_array_equal(
        model.apply(params, extra, INPUTS)[0].logits, INPUTS.reshape(6, -1)
    )
    dropped = model.apply(params, extra, INPUTS, train=True, key=KEYS[0])[0].logits
    assert 0.2 < np.mean(np.asarray(dropped) == 0) < 0.8


def test_a_module_without_flags_and_with_sown_values_is_just_a_function():
    model = linen(Flagless())
    params, extra = init(model)
    assert not extra
    trained, after = model.apply(params, extra, INPUTS, train=True, key=KEYS[0])
    assert not after
    np.testing.assert_array_equal(trained.logits, model.apply(params, extra, INPUTS)[0].logits)


def test_outputs_of_a_module_pass_through():
    model = linen(Answering())
    params, extra = init(model)
    for train in (False, True):
        outputs, _ = model.apply(params, extra, INPUTS, train=train, key=KEYS[0])
        assert outputs.average == "geometric"
        # the two members cancel out
        np.testing.assert_allclose(outputs.log_probs(), -np.log(3), rtol=1e-5)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 99),
)
def test_sums_of_bfloat16_are_single_precision(shape, inputs, units, seed):
    """Value and gradients are those of the rounded factors, added up exactly; the kernel's are not
    rounded again.
    """
    random = np.random.default_rng(seed)
    x, cotangent = (
        jnp.asarray(random.normal(size=(*shape, n)), jnp.bfloat16) for n in (inputs, units)
    )
    kernel, bias = (
        jnp.asarray(random.normal(size=n), jnp.float32) for n in ((inputs, units), (units,))
    )
    value, back = jax.vjp(affine, x, kernel, bias)
    rounded = kernel.astype(jnp.bfloat16).astype(jnp.float32)
    wanted, exactly = jax.vjp(
        lambda x, w, b: x @ w + jnp.broadcast_to(b, (*x.shape[:-1], units)),
        x.astype(jnp.float32),
        rounded,
        bias,
    )
    into = [*back(cotangent), value]
    assert [leaf.dtype for leaf in into] == [jnp.bfloat16, jnp.float32, jnp.float32, jnp.bfloat16]
    for ours, exact in zip(into, [*exactly(cotangent.astype(jnp.float32)), wanted], strict=True):
        np.testing.assert_allclose(
            ours.astype(jnp.float32),
            exact,
            rtol=1e-5 if ours.dtype == jnp.float32 else 2**-8,
            atol=1e-5,
        )


def test_a_dense_layer_is_that_of_flax():
    x = jax.random.normal(jax.random.key(0), (3, 4, 5))
    ours, theirs = Dense(7), nn.Dense(7)
    params = ours.init(jax.random.key(1), x)
    for first, other in zip(
        jax.tree.leaves(params), jax.tree.leaves(theirs.init(jax.random.key(1), x)), strict=True
    ):
        np.testing.assert_array_equal(first, other)
    np.testing.assert_array_equal(ours.apply(params, x), theirs.apply(params, x))


@pytest.mark.parametrize("name", ["mlp", "vit"])
def test_gradients_in_bfloat16_are_added_up_in_single_precision(name):
    """Rounded ones would be bfloat16 numbers, all of them."""
    options = {
        "mlp": {"widths": (8,)},
        "vit": {"variant": "Ti/8", "width": 8, "depth": 2, "heads": 2},
    }[name]
    model = in_bfloat16(MODELS[name](classes=3, **options))
    images = jax.random.normal(jax.random.key(0), (6, 16, 16))
    params, extra = model.init(jax.random.key(1), images)
    gradients = jax.grad(lambda p: (model.apply(p, extra, images)[0].logits ** 2).sum())(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        rounded = leaf.astype(jnp.bfloat16).astype(jnp.float32)
        assert (rounded != leaf).any() or not leaf.any(), path
