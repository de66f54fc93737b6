"""Accumulation, rematerialisation, bfloat16, averaging, clipping: each, and every pair, against a
plain step.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import tiny
from kd.core import types
from kd.core.objective import make_objective
from kd.core.optim import Optim, make_optimizer
from kd.core.state import init_state, with_ema
from kd.core.step import make_train_step
from kd.models.precision import in_bfloat16, rematerialised
from kd.placement.mesh import BATCH, MeshSpec, make_mesh

SWITCHES = ("accumulate", "remat", "bfloat16", "ema", "clip")
PAIRS = [(), *itertools.combinations(SWITCHES, 1), *itertools.combinations(SWITCHES, 2), SWITCHES]
CLIP, DECAY, PARTS = 0.05, 0.75, 4
BATCH_SIZE = 32


def batches():
    for i in range(3):
        weight = (
            np.random.default_rng(i).choice([0.0, 1.0, 2.0], size=BATCH_SIZE).astype(np.float32)
        )
        yield {**tiny.batch(BATCH_SIZE, seed=i), "weight": jnp.asarray(weight)}


def ours(on):
    """kd's step with these switches on a mesh of 8 devices."""
    model = tiny.PLAIN
    model = rematerialised(model) if "remat" in on else model
    model = in_bfloat16(model) if "bfloat16" in on else model
    optimizer = make_optimizer(Optim("sgd", momentum=0.9, clip_norm=CLIP if "clip" in on else 0.0))
    step = make_train_step(
        model,
        tiny.teacher(),
        make_objective(tiny.TERMS),
        optimizer,
        accumulate=PARTS if "accumulate" in on else 1,
        ema=DECAY if "ema" in on else 0.0,
    )
    mesh = make_mesh(MeshSpec(fsdp=2))
    split, everywhere = NamedSharding(mesh, P(BATCH)), NamedSharding(mesh, P())
    run = jax.jit(step, in_shardings=(everywhere, everywhere, split, everywhere))
    state = init_state(model, optimizer, 0, jnp.zeros((1, 4, 4)))
    state = with_ema(state) if "ema" in on else state
    for batch in batches():
        state, metrics = run(state, tiny.teacher().variables, batch, tiny.hparams())
    return state.params, state.student, metrics["loss"].value


def plainly(on):
    """The same written out: one device, one batch, one formula after another."""
    params = init_state(tiny.PLAIN, tiny.optimizer(), 0, jnp.zeros((1, 4, 4))).params
    seen, velocity = [], jax.tree.map(jnp.zeros_like, params)
    for batch in batches():

        def loss(p, batch=batch):
            inputs = batch["inputs"]
            if "bfloat16" in on:
                p, inputs = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (p, inputs))
            logits = tiny.PLAIN.apply(p, {}, inputs, train=True, key=jax.random.key(0))[
                0
            ].logits.astype(jnp.float32)
            taught = tiny.teacher().apply(tiny.teacher().variables, batch).logits
            temperature = tiny.TERMS[1].numbers["temperature"]
            q = jax.nn.softmax(taught / temperature)
            soft = (
                jnp.sum(q * (jnp.log(q) - jax.nn.log_softmax(logits / temperature)), axis=-1)
                * temperature**2
            )
            hard = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["labels"][:, None], 1)[
                :, 0
            ]
            return jnp.sum(batch["weight"] * (0.5 * hard + soft)) / jnp.sum(batch["weight"])

        value, gradient = jax.value_and_grad(loss)(params)
        if "clip" in on:
            norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
            gradient = jax.tree.map(lambda g, norm=norm: g * jnp.minimum(1, CLIP / norm), gradient)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
        params = jax.tree.map(lambda p, v: p - 0.1 * v, params, velocity)
        seen.append(params)
    powers = DECAY ** np.arange(len(seen))[::-1]
    average = jax.tree.map(lambda *steps: np.average(steps, axis=0, weights=powers), *seen)
    return params, average if "ema" in on else params, value


@pytest.mark.parametrize("on", PAIRS, ids="+".join)
def test_switches_together(on):
    tolerance = {"rtol": 3e-2, "atol": 2e-3} if "bfloat16" in on else {"rtol": 1e-4, "atol": 1e-6}
    tiny.close(ours(on), plainly(on), **tolerance)


@pytest.mark.parametrize("switch", ["bfloat16", "ema", "clip"])
def test_a_switch_is_seen(switch):
    """The laws above would hold for switches that do nothing."""
    index = 1 if switch == "ema" else 0
    assert tiny.differ(plainly((switch,))[index], plainly(())[index])
    assert tiny.differ(ours((switch,))[index], ours(())[index])


def test_what_is_kept_stays_in_single_precision():
    model = in_bfloat16(tiny.PLAIN)
    params, extra = model.init(jax.random.key(0), jnp.zeros((1, 4, 4)))
    outputs, _ = model.apply(params, extra, jnp.ones((2, 4, 4)))
    assert outputs.logits.dtype == jnp.float32
    gradient = jax.grad(lambda p: model.apply(p, extra, jnp.ones((2, 4, 4)))[0].logits.sum())(
        params
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((params, gradient))} == {jnp.dtype("float32")}
    factors = tiny.factors(lambda p: model.apply(p, extra, jnp.ones((2, 4, 4)))[0].logits, params)
    assert factors == [{"bfloat16"}] * 2


def test_rematerialised_keeps_nothing():
    def residuals(model):
        params, extra = model.init(jax.random.key(0), jnp.zeros((1, 4, 4)))
        _, pull = jax.vjp(lambda p: model.apply(p, extra, jnp.ones((64, 4, 4)))[0].logits, params)
        return sum(leaf.size for leaf in jax.tree.leaves(pull))

    kept, freed = residuals(tiny.PLAIN), residuals(rematerialised(tiny.PLAIN))
    assert freed < kept


def test_the_compiled_step_is_the_one_that_psum_writes():
    """`jit` over a mesh does what `shard_map` with explicit sums over the devices does."""
    mesh = make_mesh(MeshSpec())
    batch = next(iter(batches()))
    teacher, objective, optimizer = tiny.teacher(), make_objective(tiny.TERMS), tiny.optimizer()
    state, hparams = tiny.state(), tiny.hparams()

    def per_device(params, variables, batch):
        def total(p):
            outputs, _ = tiny.PLAIN.apply(p, {}, batch["inputs"], train=True)
            values, _, _ = objective(
                outputs, teacher.apply(variables, batch), batch, hparams, jnp.int32(0)
            )
            return jnp.sum(batch["weight"] * values)

        value, gradient = jax.value_and_grad(total)(params)
        weight = jax.lax.psum(jnp.sum(batch["weight"]), "data")
        return jax.tree.map(lambda x: jax.lax.psum(x, "data") / weight, (value, gradient))

    mapped = jax.shard_map(
        per_device, mesh=mesh, in_specs=(P(), P(), P("data")), out_specs=P(), check_vma=False
    )
    value, gradient = jax.jit(mapped)(state.params, teacher.variables, batch)
    updates, _ = optimizer.update(gradient, state.opt_state, state.params)
    expected = optax.apply_updates(state.params, jax.tree.map(lambda u: 0.1 * u, updates))

    split, everywhere = NamedSharding(mesh, P(BATCH)), NamedSharding(mesh, P())
    step = make_train_step(tiny.PLAIN, teacher, objective, optimizer)
    run = jax.jit(step, in_shardings=(everywhere, everywhere, split, everywhere))
    moved, metrics = run(state, teacher.variables, batch, hparams)
    np.testing.assert_allclose(metrics["loss"].value, value, rtol=1e-6)
    tiny.close(moved.params, expected, rtol=1e-5, atol=1e-7)


def test_a_model_is_a_model():
    for model in (in_bfloat16(tiny.PLAIN), rematerialised(tiny.PLAIN)):
        assert isinstance(model, types.Model)
        assert model.init is tiny.PLAIN.init
