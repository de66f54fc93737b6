"""Laws of batch statistics: of the whole batch wherever it lies, never of padding, float32, frozen
in a teacher, exact when a run goes on.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from checkpoints import stopped_and_not
from kd import data as kd_data
from kd.core.terms import term
from kd.models import linen
from kd.models.conv import Conv, pooled
from kd.models.dense import Dense
from kd.models.norm import BatchNorm, normalised
from kd.models.precision import in_bfloat16, rematerialised
from kd.placement.mesh import MeshSpec
from kd.placement.sharding import Rule, Sharding
from kd.teachers import make as kd_teacher
from kd.training import loop


class Small(nn.Module):
    """One convolution, normalised."""

    @nn.compact
    def __call__(self, x, train=False, weight=None):
        x = Conv(4, name="conv")(x[..., None])
        x = nn.relu(BatchNorm(train, name="norm")(x, weight))
        return Dense(tiny.CLASSES, name="head")(pooled(x))


SMALL = linen(Small(), mixed=True)
HARD = (term("hard"),)
STATS = ("batch_stats", "norm")


def task(mesh=None, terms=HARD, **changes):
    usual = {"model": SMALL, "teacher": None, "steps": 6}
    usual |= {"mesh": MeshSpec(devices=1) if mesh is None else mesh, **changes}
    return tiny.task(terms=terms, **usual)


def weighted(weights):
    return dataclasses.replace(tiny.dataset(), weights=np.asarray(weights, np.float32))


def step(batch, model=SMALL):
    """State and metrics after a step from the same first weights."""
    run = jax.jit(tiny.step(model, terms=HARD))
    return run(tiny.state(model), None, batch, tiny.hparams(HARD))


def plainly(x, scale, bias, counts):
    """As the formula says, differentiated by JAX."""
    share = counts[:, None, None, None] / (counts.sum() * x.shape[1] * x.shape[2])
    mean = (share * x).sum((0, 1, 2))
    centred = x - mean[None, None, None]
    var = (share * centred**2).sum((0, 1, 2))
    factor = scale / jnp.sqrt(var + 1e-5)
    return centred * factor[None, None, None] + bias[None, None, None], mean, var


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.lists(st.booleans(), min_size=5, max_size=5).filter(any))
def test_the_gradient_is_that_of_the_formula(seed, counts):
    random = np.random.default_rng(seed)
    x, scale, bias, cotangent = (
        jnp.asarray(random.normal(1, 2, shape), jnp.float32)
        for shape in ((5, 3, 2, 4), (4,), (4,), (5, 3, 2, 4))
    )
    counts = jnp.asarray(counts, jnp.float32)

    def both(function):
        def answer(*variables):
            values, mean, var = function(*variables, counts)
            return values, jax.lax.stop_gradient((mean, var))

        values, pull = jax.vjp(lambda *v: answer(*v)[0], x, scale, bias)
        return answer(x, scale, bias), pull(cotangent), values

    tiny.close(both(normalised), both(plainly), rtol=1e-3, atol=1e-3)


def test_padding_is_no_part_of_a_batch():
    """A batch with examples of weight 0 is the batch without them, whatever they hold."""
    batch = tiny.batch(12)
    padded = {
        **batch,
        "inputs": batch["inputs"].at[8:].multiply(100.0),
        "weight": jnp.asarray([1.0] * 5 + [2.0] * 3 + [0.0] * 4),
    }
    alone = jax.tree.map(lambda leaf: leaf[:8], padded)
    for model in (SMALL, rematerialised(SMALL), in_bfloat16(SMALL)):
        (state, metrics), (other, wanted) = (step(b, model) for b in (padded, alone))
        tiny.close((state.params, state.extra), (other.params, other.extra), rtol=1e-4)
        tiny.close(metrics, wanted, rtol=1e-5)
    counted = step({**padded, "weight": jnp.ones(12)})[0]
    assert tiny.differ(counted.extra, step(padded)[0].extra)


def test_statistics_of_padding_that_is_not_a_number():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 4)), jnp.float32)
    params, extra = SMALL.init(jax.random.key(0), x)
    weight = jnp.asarray([1.0, 1.0, 0.0, 1.0])
    updated = [
        SMALL.apply(params, extra, inputs, train=True, weight=weight)[1]
        for inputs in (x, x.at[2].set(np.nan))
    ]
    tiny.close(*updated, rtol=0, atol=0)
    assert np.isfinite(updated[1]["batch_stats"]["norm"]["mean"]).all()


def test_weights_by_position_count_an_example_that_has_one():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 4)), jnp.float32)
    params, extra = SMALL.init(jax.random.key(0), x)
    run = functools.partial(SMALL.apply, params, extra, x, train=True)
    by_position = jnp.zeros((4, 7)).at[:3, 5].set(1.0)
    tiny.close(run(weight=by_position)[1], run(weight=jnp.asarray([1, 1, 1, 0]))[1])


@pytest.mark.parametrize("weights", [None, [1, 0, 2, 0] * 16], ids=["whole", "padded"])
def test_eight_devices_are_one(weights):
    data = tiny.dataset() if weights is None else weighted(weights)
    mesh, sharding = MeshSpec(devices=8, fsdp=2), Sharding(Rule("fsdp"))
    alone, spread = loop.run(task(data=data)), loop.run(task(mesh, data=data, sharding=sharding))
    tiny.close(jax.device_get(spread), jax.device_get(alone), rtol=1e-4)


def test_members_are_single_runs():
    seeds = (3, 5, 7)
    members = tiny.members_of(HARD, seed=seeds)
    for by in ("vmap", "loop"):
        together = loop.run(task(MeshSpec(devices=1, members_by=by), members=members))
        for i, seed in enumerate(seeds):
            alone = loop.run(task(members=tiny.members_of(HARD, seed=seed)))
            tiny.close(tiny.take(together, i), alone, rtol=1e-4)


def test_a_teacher_is_asked_with_the_statistics_that_it_has():
    """Learning from a live teacher is learning from what it answers in evaluation."""
    trained = loop.run(task())
    teacher = kd_teacher.live(SMALL, trained.params, trained.extra)
    inputs = jnp.asarray(tiny.dataset().inputs)
    answers = SMALL.apply(trained.params, trained.extra, inputs)[0].logits
    soft = (term("soft_targets"),)
    live, table = (
        loop.run(task(terms=soft, teacher=taught_by, steps=3))
        for taught_by in (teacher, kd_teacher.precomputed(np.asarray(answers)))
    )
    tiny.close(live, table)
    tiny.close(teacher.variables["extra"], trained.extra, rtol=0, atol=0)


def test_parts_of_a_batch_have_statistics_of_their_own():
    """Accumulated steps normalise part by part: said in the docs of `accumulate`, and so it is."""
    batch = tiny.batch(8)
    parts = jax.jit(tiny.step(SMALL, terms=HARD, accumulate=2))
    state, _ = parts(tiny.state(SMALL), None, batch, tiny.hparams(HARD))
    extra = tiny.state(SMALL).extra
    for i in range(2):
        inputs = batch["inputs"][i::2]
        extra = SMALL.apply(tiny.state(SMALL).params, extra, inputs, train=True)[1]
    tiny.close(state.extra, extra)


def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path):
    """Its last checkpoint is taken away: it goes on from the one before."""
    ends = stopped_and_not(task(), tmp_path)
    tiny.close(ends[1], ends[0], rtol=0, atol=0)


def test_streamed_data_is_data_in_memory():
    tiny.close(loop.run(task(data=kd_data.as_stream(tiny.dataset()))), loop.run(task()))
