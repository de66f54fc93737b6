"""Laws of every loss that looks into layers or compares a whole batch; `layers.CASES` has a row for
each.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import tiny
from kd.core.heads import trained, with_trained
from kd.core.losses import LOSSES
from kd.core.objective import make_objective
from kd.errors import KdError
from kd.placement.mesh import MeshSpec, make_mesh
from layers import CASES, EXAMPLES, KEY, STEP, outputs

every_case = pytest.mark.parametrize("name", CASES)
ALONE = [name for name, case in CASES.items() if not case.info.whole_batch]
every_lone_case = pytest.mark.parametrize("name", ALONE)
NEAR = {"rtol": 2e-4, "atol": 2e-5}


def test_every_loss_on_layers_has_a_case():
    ours = {
        name
        for name, info in LOSSES.items()
        if info.family != "relations" and (info.taps or info.whole_batch)
    }
    assert {case.loss for case in CASES.values()} == ours


def prepared(name, seed=0, examples=EXAMPLES):
    case = CASES[name]
    student, teacher = case.both(seed, examples)
    return case, student, teacher, case.heads(student, teacher, seed)


@every_case
@pytest.mark.parametrize("seed", range(3))
def test_the_value_is_that_of_the_reference(name, seed):
    case, student, teacher, heads = prepared(name, seed)
    got = jax.jit(case.value)(student, teacher, heads)
    wanted = case.wanted(student, teacher, heads)
    assert got.shape == (EXAMPLES,)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got.mean() if case.mean else got, wanted, **NEAR)


@every_case
def test_the_gradient_is_that_of_finite_differences(name):
    """Along random directions through all of the student's answers and all that is trained."""
    case, student, teacher, heads = prepared(name)

    def loss(moved):
        own = with_trained({"own": heads}, {"own": moved[1]})["own"]
        return case.value(moved[0], teacher, own).mean()

    owned = trained({"own": heads})["own"]
    start = (student, owned)
    slopes = jax.jit(jax.grad(loss))(start)
    for seed in range(3):
        way = _direction(start, seed)
        slope = sum(
            np.sum(np.asarray(g, np.float64) * w)
            for g, w in zip(jax.tree.leaves(slopes), jax.tree.leaves(way), strict=True)
        )
        up, down = (_moved(case, start, way, step, teacher, heads) for step in (1e-6, -1e-6))
        np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=2e-3, atol=1e-4)


def _direction(start, seed):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape), start)


def _moved(case, start, way, step, teacher, heads):
    """The mean of the reference after a step along a direction."""
    student, owned = jax.tree.map(
        lambda leaf, by: np.asarray(leaf, np.float64) + step * by, start, way
    )
    own = dataclasses.replace(heads, **owned)
    return np.mean(case.wanted(student, teacher, own, fixed=heads))


@every_case
def test_bfloat16_is_computed_in_float32(name):
    case, _, _, heads = prepared(name)
    half = [jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), side) for side in case.both()]
    wide = [jax.tree.map(lambda x: x.astype(jnp.float32), side) for side in half]
    got = case.value(*half, heads)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, case.value(*wide, heads))


@every_lone_case
def test_parts_and_vmap_are_the_whole(name):
    case, student, teacher, heads = prepared(name)
    whole = case.value(student, teacher, heads)
    parts = [
        case.value(*(take(side, [i]) for side in (student, teacher)), heads, index=[i])[0]
        for i in range(EXAMPLES)
    ]
    np.testing.assert_allclose(np.stack(parts), whole, rtol=1e-5, atol=1e-6)

    def alone(student, teacher, index):
        one = [jax.tree.map(lambda x: x[None], side) for side in (student, teacher)]
        return case.value(*one, heads, index=index[None])[0]

    mapped = jax.vmap(alone)(student, teacher, jnp.arange(EXAMPLES))
    np.testing.assert_allclose(mapped, whole, rtol=1e-5, atol=1e-6)


def take(side, rows):
    return {name: values[np.asarray(rows)] for name, values in side.items()}


@functools.cache
def averaged(name):
    """The weighted mean through the objective as the step takes it, and its gradient."""
    case = CASES[name]
    objective, hparams = make_objective([case.term()]), tiny.hparams([case.term()])

    def mean(student, teacher, heads, weight):
        owned = {case.term().name: heads} if case.info.init else None
        batch = {"weight": weight, "index": jnp.arange(len(weight))}
        sides = (outputs(student), outputs(teacher))
        total = objective(*sides, batch, hparams, STEP, owned, KEY)[0]
        return jnp.sum(weight * total) / jnp.sum(weight)

    return jax.jit(jax.value_and_grad(mean))


@every_case
def test_masked_is_sliced_and_nan_behind_the_mask_is_never_seen(name):
    case, student, teacher, heads = prepared(name)
    weight, kept = np.float32([2, 0, 1, 0]), [0, 2]
    spoilt = [
        {key: np.where(_like(weight, x) > 0, x, np.float32("nan")) for key, x in side.items()}
        for side in (student, teacher)
    ]
    mean, slope = averaged(name)(*spoilt, heads, weight)
    sliced = [take(side, kept) for side in (student, teacher)]
    wanted = case.wanted(*sliced, heads, weight[kept], index=kept)
    np.testing.assert_allclose(
        mean, wanted if case.mean else np.average(wanted, weights=weight[kept]), **NEAR
    )
    for values in slope.values():
        np.testing.assert_array_equal(values[[1, 3]], 0)
        assert np.isfinite(values).all()
    assert any(np.any(values) for values in slope.values())


def _like(weight, values):
    return weight.reshape(-1, *(1,) * (values.ndim - 1))


@every_case
def test_one_device_is_eight(name):
    _, student, teacher, heads = prepared(name, examples=16)
    weight, results = np.arange(16, dtype=np.float32), []
    for devices in (1, 8):
        mesh = make_mesh(MeshSpec(devices=devices))
        split, whole = (NamedSharding(mesh, spec) for spec in (_DATA, PartitionSpec()))
        spread = [
            jax.tree.map(lambda x, s=split: jax.device_put(x, s), side)
            for side in (student, teacher, weight)
        ]
        results.append(averaged(name)(*spread[:2], jax.device_put(heads, whole), spread[2]))
    for one, eight in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, eight, rtol=1e-5, atol=1e-6)


_DATA = PartitionSpec("data")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.itself])
def test_a_teacher_owes_itself_nothing(name):
    """With a head that changes nothing, where the loss owns one; and any other layer costs."""
    case = dataclasses.replace(CASES[name], student=CASES[name].teacher)
    other, same = case.both()
    heads = case.heads(same, same)
    if case.itself == "identity":
        width = same["0"].shape[-1]
        nothing = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
        heads = dataclasses.replace(heads, dropped=nothing)
    np.testing.assert_allclose(case.value(same, same, heads), 0, atol=1e-6)
    slope = jax.grad(lambda side: case.value(side, same, heads).sum())(same)
    assert all(np.isfinite(values).all() for values in slope.values())
    assert np.all(case.value(other, same, heads) > 1e-3)


@every_case
def test_a_layer_of_zeros_has_a_finite_gradient(name):
    case, student, teacher, heads = prepared(name)
    nothing = {key: np.zeros_like(values) for key, values in student.items()}
    slope = jax.grad(lambda side: case.value(side, teacher, heads).sum())(nothing)
    assert all(np.isfinite(values).all() for values in slope.values())


@pytest.mark.parametrize("name", ["dist", "mlkd", "sdd"])
def test_a_constant_added_to_logits_changes_nothing(name):
    case, student, teacher, heads = prepared(name)
    moved = [
        {key: values + np.float32(by) for key, values in side.items()}
        for side, by in ((student, 3), (teacher, -5))
    ]
    np.testing.assert_allclose(
        case.value(*moved, heads), case.value(student, teacher, heads), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", ["hint", "hidden_mse", "activation_boundary", "mgd", "ofd", "vid"])
def test_grids_that_do_not_fit_are_refused(name):
    case = dataclasses.replace(CASES[name], student=(2, 2, 3), teacher=(4, 4, 5))
    with pytest.raises(KdError, match=r"only the last axis may differ|a hint may not be larger"):
        case.heads(*case.both())


@pytest.mark.parametrize("name", ["attention_transfer", "nst", "sdd", "mgd", "review"])
def test_a_vector_where_a_map_is_needed_is_refused(name):
    shapes = [(6,)] * 2 if name == "review" else (6,)
    case = dataclasses.replace(CASES[name], student=shapes, teacher=shapes)
    student, teacher = case.both()
    with pytest.raises(KdError, match="name a layer of maps"):
        case.value(student, teacher, case.heads(student, teacher))


@pytest.mark.parametrize("name", ["attention_transfer", "nst", "simkd", "factor_transfer"])
def test_a_map_beside_tokens_is_refused(name):
    case = dataclasses.replace(CASES[name], student=(4, 4, 3), teacher=(16, 3))
    student, teacher = case.both()
    with pytest.raises(KdError, match="name two maps, or two layers of tokens"):
        case.value(student, teacher, case.heads(student, teacher))


def test_a_logit_map_has_an_entry_for_each_class():
    case = dataclasses.replace(CASES["sdd"], student=(4, 4, 5))
    with pytest.raises(KdError, match=r"logit_map is \[4, 4, 4, 5\] and it answers for 6 classes"):
        case.value(*case.both(), None)


def test_a_head_is_made_by_the_key_of_its_term():
    case, student, teacher, _ = prepared("simkd")
    one, same, other = (
        case.info.init(jax.random.key(seed), *map(_named, (student, teacher)), 10)
        for seed in (0, 0, 1)
    )
    tiny.close(one, same, 0, 0)
    assert tiny.differ(one, other)


def _named(side):
    return outputs(side).named({"hidden": "0"})
