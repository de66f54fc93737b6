"""Inner features, taken from outside: every path names one, and looking changes nothing else."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import tiny
from kd.errors import KdError
from kd.models import linen, mlp, vit
from kd.models.precision import in_bfloat16, rematerialised
from kd.teachers import make as kd_teacher
from kd.teachers.answers import answers

INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8)), jnp.float32)


class Sowing(nn.Module):
    """Two layers by hand, so that what they answer is known; the middle is sown too."""

    @nn.compact
    def __call__(self, x):
        hidden = nn.Dense(6, name="first")(x.reshape(len(x), -1))
        self.sow("intermediates", "squared", hidden**2)
        return nn.Dense(4, name="last")(nn.relu(hidden))


def test_a_tap_is_what_the_module_answers():
    model = linen(Sowing())
    params, extra = model.init(jax.random.key(0), INPUTS)
    plain, _ = model.apply(params, extra, INPUTS)
    seen, _ = model.tapped(("first", "squared", "last")).apply(params, extra, INPUTS)
    first = np.asarray(INPUTS).reshape(3, -1) @ params["first"]["kernel"]
    first = np.asarray(first) + np.asarray(params["first"]["bias"])
    np.testing.assert_allclose(seen.taps["first"], first, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(seen.taps["squared"], seen.taps["first"] ** 2)
    np.testing.assert_array_equal(seen.taps["last"], seen.logits)
    np.testing.assert_array_equal(seen.logits, plain.logits)
    assert not plain.taps


@pytest.mark.parametrize("train", [False, True])
def test_blocks_that_a_scan_repeats_are_named_by_number(train):
    model = vit(4, width=16, depth=3, heads=2, patch=4)
    params, extra = model.init(jax.random.key(0), INPUTS)
    paths = ("blocks", "blocks/0", "blocks/2", "blocks/1/mlp/up")
    key = jax.random.key(1) if train else None
    taps = model.tapped(paths).apply(params, extra, INPUTS, train, key)[0].taps
    assert taps["blocks/1/mlp/up"].shape == (3, 4, 64)
    for number in (0, 2):
        np.testing.assert_array_equal(taps[f"blocks/{number}"], taps["blocks"][number])
    assert tiny.differ(taps["blocks/0"], taps["blocks/2"])


def test_what_nobody_asks_for_is_not_computed():
    """The program of one tap holds that tap; without a tap it is the program of the model."""
    model = mlp(4, (32, 32, 32))
    params, extra = model.init(jax.random.key(0), INPUTS)

    def flops(run):
        return jax.jit(run).lower(params).compile().cost_analysis()["flops"]

    whole = flops(lambda p: model.apply(p, extra, INPUTS)[0])
    tapped = model.tapped(("Dense_0",))
    assert flops(lambda p: tapped.apply(p, extra, INPUTS)[0]) <= 1.01 * whole
    assert flops(lambda p: tapped.apply(p, extra, INPUTS)[0].taps) < 0.9 * whole


@pytest.mark.parametrize("wrap", [in_bfloat16, rematerialised])
def test_a_tap_survives_what_wraps_the_model(wrap):
    model = mlp(4, (16,))
    params, extra = model.init(jax.random.key(0), INPUTS)
    plain = model.tapped(("Dense_0",)).apply(params, extra, INPUTS)[0].taps["Dense_0"]
    seen = wrap(model).tapped(("Dense_0",)).apply(params, extra, INPUTS)[0].taps["Dense_0"]
    assert seen.dtype == jnp.float32
    np.testing.assert_allclose(seen, plain, rtol=0.05, atol=0.05)


def test_live_and_kept_taps_are_the_same():
    data = tiny.dataset()
    teachers = kd_teacher.ensemble(tiny.WIDE, tiny.members(), average="per_member")
    kept = kd.precompute(teachers, data, taps=("Dense_0",)).tapped(("Dense_0",))
    live = answers(teachers.tapped(("Dense_0",)), data)
    assert live.taps["Dense_0"].shape == (3, len(data), 16)
    stored = answers(kept, data)
    np.testing.assert_allclose(stored.taps["Dense_0"], live.taps["Dense_0"], rtol=1e-6)
    np.testing.assert_allclose(stored.logits, live.logits, rtol=1e-6)


def test_what_cannot_be_looked_into_says_so():
    with pytest.raises(KdError, match=r"unknown tap 'Dense_O'; did you mean 'Dense_"):
        jax.eval_shape(
            lambda p: tiny.PLAIN.tapped(("Dense_O",)).apply(p, {}, jnp.zeros((1, 4, 4))),
            tiny.state().params,
        )
    bare = kd.Model(tiny.PLAIN.init, tiny.PLAIN.apply)
    with pytest.raises(KdError, match="this model cannot be looked into"):
        bare.tapped(("Dense_0",))
    table = kd.precompute(tiny.teacher(), tiny.dataset())
    with pytest.raises(KdError, match=r"kept answers have none; keep them too"):
        table.tapped(("Dense_0",))
    function = kd.Teacher({}, lambda _, batch: kd.Outputs(batch["inputs"]))
    with pytest.raises(KdError, match="this teacher has none: it is a function or a table"):
        function.tapped(("Dense_0",))


def test_a_head_answers_for_every_place_of_a_layer():
    """Of a network whose head reads a mean, the mean over places is the answer."""
    model = vit(4, width=16, depth=2, heads=2, patch=4)
    params, extra = model.init(jax.random.key(0), INPUTS)
    seen, _ = model.tapped(("head@norm", "norm")).apply(params, extra, INPUTS)
    assert seen.taps["head@norm"].shape == (3, 4, 4)
    np.testing.assert_allclose(seen.taps["head@norm"].mean(axis=1), seen.logits, atol=1e-5)
    for path, said in (("haed@norm", "unknown tap 'haed'; did you mean 'head'"), ("norm@norm", "")):
        with pytest.raises(KdError, match=said or "'norm' is no linear layer of so many"):
            model.tapped((path,)).apply(params, extra, INPUTS)
