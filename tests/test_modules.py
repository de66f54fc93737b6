"""Modules of others: after the check a training step moves statistics and draws keys, or one line
says what to do.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import tiny
from kd.core import rng
from kd.errors import KdError
from kd.models import linen
from kd.models.abstract import check_model
from kd.models.modes import MODES

INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4, 4)), jnp.float32)
KEYS = [rng.key(seed) for seed in range(2)]
each_mode = pytest.mark.parametrize("mode", MODES)


class Layers(nn.Module):
    """A layer of each kind that training changes, and one that is told by their Boolean."""

    rate: float = 0.5

    @nn.compact
    def __call__(self, inputs, evaluates):
        x = nn.Dense(tiny.CLASSES)(inputs.reshape(len(inputs), -1))
        x = nn.BatchNorm(momentum=0.5)(x, use_running_average=evaluates)
        return nn.Dropout(self.rate)(x, deterministic=evaluates)


def evaluates(mode, value):
    return value if mode in ("deterministic", "use_running_average") else not value


def argument(mode):
    """A module whose ``__call__`` takes `mode`, with no default."""

    def call(self, inputs, flag):
        return Layers()(inputs, evaluates(mode, flag))

    scope = {"call": call}
    exec(f"def __call__(self, inputs, {mode}): return call(self, inputs, {mode})", scope)
    return type("Argument", (nn.Module,), {"__call__": nn.compact(scope["__call__"])})()


def attribute(mode, value):
    """A module with the attribute `mode`, constructed with a value of its own."""

    def call(self, inputs):
        return Layers()(inputs, evaluates(mode, getattr(self, mode)))

    names = {"__annotations__": {mode: bool | None}, mode: value, "__call__": nn.compact(call)}
    return type("Attribute", (nn.Module,), names)()


class Any(nn.Module):
    """It takes whatever it is told, and kd cannot know what that is called."""

    mode: str = "training_"

    @nn.compact
    def __call__(self, inputs, **told):
        return Layers()(inputs, not told.get(self.mode, False))


class Frozen(nn.Module):
    @nn.compact
    def __call__(self, inputs, train):
        x = nn.Dense(tiny.CLASSES)(inputs.reshape(len(inputs), -1))
        x = nn.BatchNorm(use_running_average=True)(x)
        return nn.Dropout(0.5, deterministic=not train)(x)


class Rematerialised(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        x = nn.Dense(tiny.CLASSES)(inputs.reshape(len(inputs), -1))
        return nn.remat(nn.BatchNorm)(use_running_average=True)(x)


class OwnStatistics(nn.Module):
    """Statistics without a layer of Flax's, told by nobody."""

    @nn.compact
    def __call__(self, inputs, **told):
        mean = self.variable("batch_stats", "mean", jnp.zeros, ())
        if told.get("training_"):
            mean.value = inputs.mean()
        return nn.Dense(tiny.CLASSES)(inputs.reshape(len(inputs), -1)) - mean.value


class Attention(nn.Module):
    @nn.compact
    def __call__(self, inputs, **told):
        attend = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5)
        x = attend(inputs, deterministic=not told.get("training_", False))
        return nn.Dense(tiny.CLASSES)(x.reshape(len(x), -1))


class Noisy(nn.Module):
    """Streams of names of its own, one of them within a layer."""

    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape(len(inputs), -1)
        if train:
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
            x = x + jax.random.normal(self.make_rng("more"), x.shape)
        x = nn.Dropout(0.5, deterministic=not train, rng_collection="mask")(x)
        return nn.Dense(tiny.CLASSES)(x)


class OverDevices(nn.Module):
    axis: str | None = "batch"

    @nn.compact
    def __call__(self, inputs, train=False):
        x = nn.Dense(tiny.CLASSES)(inputs.reshape(len(inputs), -1))
        return nn.BatchNorm(use_running_average=not train, axis_name=self.axis)(x)


class Reducing(nn.Module):
    """It reduces over axes of devices by itself, in evaluation and while it is initialised too."""

    @nn.compact
    def __call__(self, inputs):
        x = nn.Dense(tiny.CLASSES)(inputs.reshape(len(inputs), -1))
        return x - jax.lax.pmean(x.mean(), ("hosts", "chips")) + jax.lax.axis_index("chips")


class Split(nn.Module):
    """It names the axes of a mesh that its parameters are split over."""

    axis: str

    @nn.compact
    def __call__(self, inputs):
        init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, self.axis))
        return nn.Dense(tiny.CLASSES, kernel_init=init)(inputs.reshape(len(inputs), -1))


class Helped(nn.Module):
    """An auxiliary branch that training alone has, with parameters and statistics."""

    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape(len(inputs), -1)
        logits = nn.Dense(tiny.CLASSES)(x)
        if train:
            logits = logits + nn.BatchNorm(use_running_average=False)(nn.Dense(tiny.CLASSES)(x))
        return logits


class Odd(nn.Module):
    """All of that at once."""

    is_training: bool = False

    @nn.compact
    def __call__(self, inputs):
        parts = [part(inputs, self.is_training) for part in (Noisy(), OverDevices(), Helped())]
        return sum(parts)


class Sowing(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        self.sow("losses", "size", inputs.sum())
        return nn.Dense(tiny.CLASSES)(inputs.reshape(len(inputs), -1))


class ByName(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(tiny.CLASSES)(inputs["image"].reshape(len(inputs["image"]), -1))


class Masked(nn.Module):
    @nn.compact
    def __call__(self, inputs, mask):
        return nn.Dense(tiny.CLASSES)(inputs.reshape(len(inputs), -1) * mask)


class DrawingAlways(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        x = nn.Dense(tiny.CLASSES)(inputs.reshape(len(inputs), -1))
        return x + jax.random.normal(self.make_rng("noise"), x.shape)


def applied(model, train, key=None, seed=0):
    params, extra = model.init(rng.key(seed), INPUTS)
    outputs, updated = model.apply(params, extra, INPUTS, train=train, key=key)
    return outputs.logits, extra, updated


def learns(model):
    """Training moves statistics and draws keys; evaluation does neither."""
    check_model(model, INPUTS)
    (first, before, after), (other, _, _) = (applied(model, True, key) for key in KEYS)
    assert tiny.differ(first, other)
    assert tiny.differ(before, after) or not jax.tree.leaves(before)
    answer, before, after = applied(model, False)
    assert not tiny.differ(before, after)
    assert tiny.differ(answer, first)


@each_mode
def test_a_mode_is_passed_as_an_argument(mode):
    learns(linen(argument(mode)))


@each_mode
@pytest.mark.parametrize("value", [None, False, True])
def test_a_mode_is_set_as_an_attribute(mode, value):
    learns(linen(attribute(mode, value)))


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (Any(), "Layers_0/BatchNorm_0 is in evaluation mode"),
        (Frozen(), "BatchNorm_0 is in evaluation mode"),
        (Rematerialised(), "BatchNorm_0 is in evaluation mode"),
        (OwnStatistics(), "statistics mean stay what they are"),
        (Attention(), "MultiHeadDotProductAttention_0 is in evaluation mode"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_layer_that_stays_in_evaluation_is_one_line_and_may_be_meant(module, layer):
    with pytest.raises(KdError, match=layer) as refused:
        check_model(linen(module), INPUTS)
    assert all(mode in str(refused.value) for mode in (*MODES, "frozen=True"))
    assert "\n" not in str(refused.value)
    check_model(linen(module, frozen=True), INPUTS)


def test_layers_that_do_nothing_in_training_need_no_mode():
    class Idle(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            x = nn.Dropout(0.0, deterministic=True)(inputs.reshape(len(inputs), -1))
            return nn.Dense(tiny.CLASSES)(x)

    check_model(linen(Idle()), INPUTS)


def test_a_frozen_layer_rests_while_others_train():
    logits, before, after = applied(linen(Frozen(), frozen=True), True, KEYS[0])
    assert not tiny.differ(before, after)
    assert 0.2 < np.mean(np.asarray(logits) == 0) < 0.8


def test_streams_of_any_name_are_drawn_each_for_itself():
    model = linen(Noisy())
    learns(model)
    (first, _, _), (same, _, _) = (applied(model, True, KEYS[0]) for _ in range(2))
    np.testing.assert_array_equal(first, same)


def test_the_stream_of_dropout_is_the_key_itself():
    class Dropping(nn.Module):
        @nn.compact
        def __call__(self, inputs, train=False):
            return nn.Dropout(0.5, deterministic=not train)(nn.Dense(3)(inputs))

    model, module = linen(Dropping()), Dropping()
    params, extra = model.init(KEYS[0], INPUTS)
    theirs = module.apply({"params": params}, INPUTS, train=True, rngs={"dropout": KEYS[1]})
    ours = model.apply(params, extra, INPUTS, train=True, key=KEYS[1])[0].logits
    np.testing.assert_array_equal(ours, theirs)


def test_an_axis_of_devices_is_the_whole_batch():
    """In eager, compiled and mapped programs alike."""
    over, alone = linen(OverDevices()), linen(OverDevices(None))
    check_model(over, INPUTS)
    for train in (False, True):
        tiny.close(applied(over, train, KEYS[0]), applied(alone, train, KEYS[0]), rtol=0, atol=0)
    members = jax.jit(jax.vmap(lambda seed: applied(over, True, KEYS[0], seed)))(jnp.arange(2))
    tiny.close(tiny.take(members, 1), applied(alone, True, KEYS[0], 1))


def test_reductions_of_a_module_s_own_are_over_the_batch():
    model = linen(Reducing())
    check_model(model, INPUTS)
    params, extra = model.init(KEYS[0], INPUTS)
    plain = INPUTS.reshape(8, -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None]
    np.testing.assert_allclose(
        model.apply(params, extra, INPUTS)[0].logits, plain - plain.mean(), rtol=1e-5, atol=1e-6
    )


def test_boxes_around_parameters_are_taken_off():
    params, _ = linen(Split("fsdp")).init(KEYS[0], INPUTS)
    assert all(isinstance(leaf, jax.Array) for leaf in params["Dense_0"].values())


def test_layers_of_training_alone_have_parameters():
    """Those of evaluation are drawn as if they were alone."""
    params, extra = linen(Helped()).init(KEYS[0], INPUTS)
    assert {"Dense_0", "Dense_1", "BatchNorm_0"} == set(params)
    plain = Helped().init(KEYS[0], INPUTS)["params"]
    tiny.close(params["Dense_0"], plain["Dense_0"], rtol=0, atol=0)
    assert set(extra["batch_stats"]) == {"BatchNorm_0"}


def test_a_module_with_all_of_that_trains():
    """Every kernel moves, and every mean, those of layers in training alone too."""
    trained = kd.fit(Odd(), tiny.dataset(), [kd.term("hard")], epochs=0.5, batch_size=16)
    start = linen(Odd()).init(rng.stream(rng.key(0), 0, "init"), jnp.zeros((1, 4, 4)))
    before, after = (
        jax.tree_util.tree_leaves_with_path(tree)
        for tree in (start, (trained.params, trained.extra))
    )
    moved = {
        jax.tree_util.keystr(path): np.any(np.asarray(old) != np.asarray(new))
        for (path, old), (_, new) in zip(before, after, strict=True)
    }
    names = {name: any(part in name for part in ("kernel", "mean")) for name in moved}
    assert sum(names.values()) == 6
    assert all(moved[name] for name in names if names[name]), moved


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (Any(), "deterministic"),
        (nn.Sequential([nn.Dense(5), nn.BatchNorm()]), "layers_1 is not told .* deterministic"),
        (nn.Sequential([nn.BatchNorm(False)]), "in training mode in evaluation; .* deterministic"),
        (Split("x"), r"cannot be applied .* axis: x .* not .* in mesh"),
        (Sowing(), "losses/size/1 change their shape"),
        (ByName(), r"cannot be applied to inputs of shape \(4, 4\): .*one array"),
        (Masked(), r"missing 1 required positional argument: 'mask'"),
        (DrawingAlways(), "'noise' in evaluation"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_trained_is_one_line(module, line):
    with pytest.raises(KdError, match=line) as refused:
        kd.fit(module, tiny.dataset(), [kd.term("hard")], epochs=0.1, batch_size=16)
    assert "\n" not in str(refused.value)
