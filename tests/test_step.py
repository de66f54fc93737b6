"""Laws of the training step: pure, one program for a population, for many steps, and for any number
of devices.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import tiny
from kd import data as kd_data
from kd.core.objective import make_objective
from kd.core.optim import max_norm
from kd.core.schedules import Schedule, make_schedule
from kd.core.step import make_train_step, many, population
from kd.core.terms import term
from kd.placement.mesh import MeshSpec, make_mesh
from kd.teachers import make as kd_teacher

SEEDS = (0, 1, 2)
TABLE = kd_data.to_device(tiny.dataset())
HPARAMS = [
    {
        "learning_rate": jnp.float32(rate),
        "terms": {
            "hard": {"weight": jnp.float32(rate)},
            "soft_targets": {"weight": jnp.float32(1.0), "temperature": jnp.float32(temperature)},
        },
    }
    for rate, temperature in ((0.1, 1.0), (0.2, 3.0), (0.3, 9.0))
]


def rows(step, seed=0):
    return jnp.asarray(kd_data.rows(seed, step, len(tiny.dataset()), 16))


@functools.cache
def everything():
    """The step with all that it can do: dropout, augmentation, schedules, a constraint, a
    teacher.
    """
    schedule = Schedule("piecewise", points=((0.0, 1.0), (20.0, 0.5)))
    return make_train_step(
        tiny.DROPPING,
        tiny.teacher(),
        make_objective(
            [term("hard", weight_schedule=schedule), term("soft_targets")], total_steps=10
        ),
        tiny.optimizer(),
        view=kd_data.jitter(1),
        constraint=max_norm(0.9),
        learning_rate_shape=make_schedule(Schedule("cosine"), 10),
    )


@functools.cache
def one_step():
    return jax.jit(everything())


TRACED = []


@functools.cache
def plain():
    teacher = tiny.teacher()

    def apply(variables, batch):
        TRACED.append(1)
        return teacher.apply(variables, batch)

    return jax.jit(tiny.step(teacher=kd_teacher.Teacher(teacher.variables, apply)))


@functools.cache
def alone(member, steps=3):
    """A run of its own: the state and metrics of each step."""
    state, log = tiny.state(tiny.DROPPING, SEEDS[member]), []
    for i in range(steps):
        batch = kd_data.gather(TABLE, rows(i, SEEDS[member]))
        state, metrics = one_step()(state, tiny.teacher().variables, batch, HPARAMS[member])
        log.append(metrics)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *log)


def at(step, seed=0, model=tiny.PLAIN):
    """The same parameters at another step or with another key."""
    return dataclasses.replace(tiny.state(model), step=jnp.int32(step), key=jax.random.key(seed))


def test_a_member_of_a_population_is_a_run_of_its_own():
    def stack(trees):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    together = stack([tiny.state(tiny.DROPPING, seed) for seed in SEEDS])
    run, log = jax.jit(population(everything())), []
    for i in range(3):
        batch = stack([kd_data.gather(TABLE, rows(i, seed)) for seed in SEEDS])
        together, metrics = run(together, tiny.teacher().variables, batch, stack(HPARAMS))
        log.append(metrics)
    for member in range(3):
        state, metrics = alone(member)
        tiny.close(tiny.take(together, member), state, rtol=1e-4, atol=1e-5)
        tiny.close(tiny.take(stack(log), (slice(None), member)), metrics, rtol=1e-4, atol=1e-5)
    assert tiny.differ(alone(0)[0].params, alone(1)[0].params)


def test_many_steps_in_one_dispatch_are_the_same_steps():
    traces = []

    def gather(table, chosen):
        traces.append(1)
        return kd_data.gather(table, chosen)

    run = jax.jit(many(everything(), gather, capacity=4))

    def go(state, first, count):
        table = jnp.stack([rows(first + i) for i in range(4)])
        return run(state, tiny.teacher().variables, TABLE, table, jnp.int32(count), HPARAMS[0])

    start = tiny.state(tiny.DROPPING, SEEDS[0])
    state, metrics = go(start, 0, 3)
    wanted, wanted_metrics = alone(0)
    tiny.close(state, wanted)
    tiny.close(tiny.take(metrics, slice(3)), wanted_metrics)
    traced = len(traces)
    stopped, _ = go(start, 0, 2)
    resumed, _ = go(stopped, 2, 1)
    tiny.close(resumed, state, rtol=0, atol=0)  # wherever it was stopped, bit by bit
    nothing, _ = go(start, 0, 0)
    tiny.close(nothing, start, rtol=0, atol=0)
    assert len(traces) == traced  # the count is an argument: one program for all


def test_metrics_of_a_dispatch_add_up_to_the_mean_over_its_examples():
    _, log = alone(0)
    summed = jax.tree.map(lambda leaf: leaf.sum(axis=0), log)
    for name, mean in summed.items():
        np.testing.assert_allclose(mean.count, 3 * 16)
        np.testing.assert_allclose(mean.value, np.mean(log[name].value), rtol=1e-5)


def test_the_update_is_the_gradient_of_the_weighted_mean_over_the_batch():
    batch = {**tiny.batch(), "weight": jnp.arange(16, dtype=jnp.float32)}
    state, teacher = tiny.state(), tiny.teacher()
    step = make_train_step(tiny.PLAIN, teacher, make_objective(tiny.TERMS), optax.sgd(1.0))
    start = dataclasses.replace(state, opt_state=optax.sgd(1.0).init(state.params))
    moved, metrics = jax.jit(step)(start, teacher.variables, batch, tiny.hparams(learning_rate=0.1))

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        student = tiny.PLAIN.apply(params, {}, batch["inputs"])[0].logits
        answer = teacher.apply(teacher.variables, batch).logits
        q, p = jax.nn.log_softmax(student / 3), jax.nn.log_softmax(answer / 3)
        nll = -jnp.sum(
            jax.nn.one_hot(batch["labels"], tiny.CLASSES) * jax.nn.log_softmax(student), axis=-1
        )
        return jnp.average(
            0.5 * nll + 9 * jnp.sum(jnp.exp(p) * (p - q), axis=-1), weights=batch["weight"]
        )

    value, gradient = loss(state.params)
    np.testing.assert_allclose(metrics["loss"].value, value, rtol=1e-5)
    tiny.close(moved.params, jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient))


def test_one_device_is_eight_with_uneven_weights():
    batch = {
        **tiny.batch(),
        "weight": jnp.asarray([0.0] * 6 + [1, 5, 2, 0, 0, 3, 1, 1, 0, 2], jnp.float32),
    }
    mesh = make_mesh(MeshSpec(devices=8))
    everywhere, split = (
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec("data")),
    )
    run = jax.jit(
        tiny.step(teacher=tiny.teacher()), in_shardings=(everywhere, everywhere, split, everywhere)
    )
    arguments = tiny.state(), tiny.teacher().variables, batch, tiny.hparams()
    alone, eight = plain()(*arguments), run(*arguments)
    assert len(eight[1]["loss"].total.sharding.device_set) == 8
    tiny.close(jax.device_get(eight), jax.device_get(alone))


def test_teacher_weights_are_an_argument_and_not_part_of_the_program():
    teacher, arguments = tiny.teacher(), (tiny.batch(), tiny.hparams())
    first, _ = plain()(tiny.state(), teacher.variables, *arguments)
    traced = len(TRACED)
    other, _ = plain()(tiny.state(), tiny.teacher(1).variables, *arguments)
    assert tiny.differ(first.params, other.params)
    assert len(TRACED) == traced
    constants = jax.make_jaxpr(tiny.step(teacher=teacher))(
        tiny.state(), teacher.variables, *arguments
    ).consts
    assert all(np.size(constant) < 16 for constant in constants)


def test_no_gradient_flows_into_the_teacher():
    def loss(variables):
        state, metrics = plain()(tiny.state(), variables, tiny.batch(), tiny.hparams())
        return metrics["loss"].value + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(state.params))

    slope = jax.grad(loss)(tiny.teacher().variables)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slope))


def test_the_teacher_sees_the_view_that_the_student_sees():
    state = tiny.state()
    # the student is its own teacher: no loss if both see the same
    same = kd_teacher.live(tiny.PLAIN, state.params)
    terms = [term("soft_targets", temperature=2.0)]
    run = jax.jit(tiny.step(teacher=same, terms=terms, view=kd_data.jitter(1)))
    _, metrics = run(state, same.variables, tiny.batch(), tiny.hparams(terms))
    np.testing.assert_allclose(metrics["loss"].value, 0, atol=1e-6)


def test_the_view_is_drawn_anew_at_every_step():
    run = jax.jit(tiny.step(terms=[term("hard")], view=kd_data.jitter(2)))
    losses = {
        float(run(at(step), None, tiny.batch(), tiny.hparams())[1]["loss"].value)
        for step in range(3)
    }
    assert len(losses) == 3


def test_dropout_is_a_function_of_seed_and_step():
    terms = [term("hard")]
    run = jax.jit(tiny.step(tiny.DROPPING, terms=terms))

    def loss(step, seed):
        _, metrics = run(at(step, seed, tiny.DROPPING), None, tiny.batch(), tiny.hparams(terms))
        return float(metrics["loss"].value)

    assert loss(0, 0) == loss(0, 0)
    assert len({loss(0, 0), loss(1, 0), loss(0, 1)}) == 3


def test_schedules_see_the_step_of_the_state():
    doubling = Schedule("piecewise", points=((0.0, 1.0), (50.0, 2.0)))
    objective = make_objective([term("hard", weight_schedule=doubling)], total_steps=10)
    run = jax.jit(
        make_train_step(
            tiny.PLAIN,
            None,
            objective,
            tiny.optimizer(),
            learning_rate_shape=make_schedule(Schedule("linear"), 10),
        )
    )
    numbers = tiny.hparams([term("hard")])
    (_, early), (_, late) = (run(at(step), None, tiny.batch(), numbers) for step in (4, 5))
    np.testing.assert_allclose(late["loss"].value, 2 * early["loss"].value, rtol=1e-6)
    start, end = (run(at(step), None, tiny.batch(), numbers)[0].params for step in (0, 10))
    assert tiny.differ(start, tiny.state().params)
    tiny.close(end, tiny.state().params)  # the rate has come down to 0


def test_the_rate_of_the_run_multiplies_the_update():
    start, batch = tiny.state(), tiny.batch()
    run = plain()
    still, _ = run(start, tiny.teacher().variables, batch, tiny.hparams(learning_rate=0.0))
    tiny.close(still.params, start.params, rtol=0, atol=0)
    once, twice = (
        run(start, tiny.teacher().variables, batch, tiny.hparams(learning_rate=r))[0].params
        for r in (0.1, 0.2)
    )
    moved = jax.tree.map(lambda after, before: 2 * (after - before), once, start.params)
    tiny.close(jax.tree.map(jnp.subtract, twice, start.params), moved, rtol=1e-4, atol=1e-6)


def test_the_constraint_holds_after_every_step():
    state, _ = alone(0)
    for tree, holds in ((tiny.state(tiny.DROPPING, SEEDS[0]), False), (state, True)):
        longest = max(
            np.linalg.norm(leaf, axis=0).max()
            for leaf in jax.tree.leaves(tree.params)
            if leaf.ndim > 1
        )
        assert (longest <= 0.9 + 1e-5) == holds  # it did not hold at the start


def test_state_counts_steps_and_keeps_its_key():
    state, _ = alone(0)
    assert state.step == 3
    np.testing.assert_array_equal(
        jax.random.key_data(state.key), jax.random.key_data(jax.random.key(SEEDS[0]))
    )


def test_watched_shares_are_what_they_say():
    batch = {**tiny.batch(), "weight": jnp.asarray([0.0, 1.0] * 8)}
    teacher, state = tiny.teacher(), tiny.state()
    _, metrics = plain()(state, teacher.variables, batch, tiny.hparams())
    guess = np.argmax(tiny.PLAIN.apply(state.params, {}, batch["inputs"])[0].logits, -1)[1::2]
    answer = np.argmax(teacher.apply(teacher.variables, batch).logits, -1)[1::2]
    np.testing.assert_allclose(metrics["accuracy"].value, np.mean(guess == batch["labels"][1::2]))
    np.testing.assert_allclose(metrics["agreement"].value, np.mean(guess == answer))
    assert set(metrics) == {"loss", "loss/hard", "loss/soft_targets", "accuracy", "agreement"}


def test_an_unlabelled_transfer_set_trains():
    batch = {key: value for key, value in tiny.batch().items() if key != "labels"}
    terms = [term("soft_targets")]
    run = jax.jit(tiny.step(teacher=tiny.teacher(), terms=terms))
    state, metrics = run(tiny.state(), tiny.teacher().variables, batch, tiny.hparams(terms))
    assert "accuracy" not in metrics
    assert tiny.differ(state.params, tiny.state().params)
