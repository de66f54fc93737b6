"""Laws of every loss that looks into layers or compares a whole batch; `layer_rows.CASES` has a row
for each.
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
from layer_rows import CASES, EXAMPLES, KEY, STEP, outputs

every_case = pytest.mark.parametrize("name", CASES)
NEAR = {"rtol": 2e-4, "atol": 2e-5}
EVEN = np.ones(EXAMPLES, np.float32)


def test_every_loss_on_layers_has_a_case():
    ours = {
        name
        for name, info in LOSSES.items()
        if info.family != "relations" and (info.taps or info.whole_batch)
    }
    assert {case.loss for case in CASES.values()} == ours


def prepared(name, seed=0):
    case = CASES[name]
    student, teacher = case.both(seed)
    return case, student, teacher, case.heads(student, teacher, seed)


@functools.cache
def program(name):
    """``(student, teacher, heads, weight) -> ((mean, values), gradients)`` through the objective,
    as the step takes it: gradients of the student's answers, and of what is trained.
    """
    case, term = CASES[name], CASES[name].term()
    objective, hparams = make_objective([term]), tiny.hparams([term])

    def mean(moved, teacher, heads, weight):
        student, own = moved[0], with_trained({term.name: heads}, {term.name: moved[1]})
        batch = {"weight": weight, "index": jnp.arange(len(weight))}
        sides = (outputs(student), outputs(teacher))
        owned = own if case.info.init else None
        total = objective(*sides, batch, hparams, STEP, owned, KEY)[0]
        return jnp.sum(weight * total) / jnp.sum(weight), total

    @jax.jit
    def run(student, teacher, heads, weight):
        moved = (student, trained({term.name: heads})[term.name])
        return jax.value_and_grad(mean, has_aux=True)(moved, teacher, heads, weight)

    return run


@every_case
@pytest.mark.parametrize("seed", range(3))
def test_the_value_is_that_of_the_reference(name, seed):
    case, student, teacher, heads = prepared(name, seed)
    (mean, values), _ = program(name)(student, teacher, heads, EVEN)
    wanted = case.wanted(student, teacher, heads)
    assert values.shape == (EXAMPLES,)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(mean if case.mean else values, wanted, **NEAR)


@every_case
def test_the_gradient_is_that_of_finite_differences(name):
    """Along random directions through all of the student's answers and all that is trained."""
    case, student, teacher, heads = prepared(name)
    _, slopes = program(name)(student, teacher, heads, EVEN)
    start = (student, trained({"own": heads})["own"])
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


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if not case.info.whole_batch]
)
def test_each_example_alone_in_bfloat16_is_what_it_is_in_the_batch(name):
    """Mapped over batches of one: parts are the whole, and it is computed in float32."""
    case, _, _, heads = prepared(name)
    half = [{key: jnp.asarray(x, jnp.bfloat16) for key, x in side.items()} for side in case.both()]
    wide = [{key: x.astype(jnp.float32) for key, x in side.items()} for side in half]
    (_, whole), _ = program(name)(*wide, heads, EVEN)

    def alone(student, teacher, index):
        sides = [{key: x[None] for key, x in side.items()} for side in (student, teacher)]
        return case.value(*sides, heads, index=index[None])[0]

    mapped = jax.jit(jax.vmap(alone))(*half, jnp.arange(EXAMPLES))
    assert mapped.dtype == jnp.float32
    np.testing.assert_allclose(mapped, whole, rtol=1e-5, atol=1e-6)


@every_case
def test_masked_is_sliced_and_nan_behind_the_mask_is_never_seen(name):
    case, student, teacher, heads = prepared(name)
    weight, kept, gone = np.float32([2, 0, 1, 0, 0, 3, 0, 1]), [0, 2, 5, 7], [1, 3, 4, 6]
    spoilt = [
        {key: np.where(_like(weight, x) > 0, x, np.float32("nan")) for key, x in side.items()}
        for side in (student, teacher)
    ]
    (mean, _), slopes = program(name)(*spoilt, heads, weight)
    sliced = [{key: x[kept] for key, x in side.items()} for side in (student, teacher)]
    wanted = case.wanted(*sliced, heads, weight[kept], index=kept)
    np.testing.assert_allclose(
        mean, wanted if case.mean else np.average(wanted, weights=weight[kept]), **NEAR
    )
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))
    assert all(not np.asarray(slope)[gone].any() for slope in slopes[0].values())
    assert any(np.any(slope) for slope in slopes[0].values())


def _like(weight, values):
    return weight.reshape(-1, *(1,) * (values.ndim - 1))


@every_case
def test_one_device_is_eight(name):
    _, student, teacher, heads = prepared(name)
    weight, mesh = np.arange(EXAMPLES, dtype=np.float32), make_mesh(MeshSpec(devices=8))
    split, whole = (NamedSharding(mesh, spec) for spec in (DATA, PartitionSpec()))
    alone = program(name)(student, teacher, heads, weight)
    sides = jax.device_put((student, teacher), split)
    spread = program(name)(*sides, jax.device_put(heads, whole), jax.device_put(weight, split))
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(spread), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


DATA = PartitionSpec("data")


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

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def slope(student):
        values = case.value(student, same, heads)
        return values.sum(), values

    slopes, values = slope(same)
    np.testing.assert_allclose(values, 0, atol=1e-5)
    for leaf in slopes.values():
        np.testing.assert_allclose(leaf, 0, atol=1e-5)
    assert np.all(slope(other)[1] > 1e-3)


@every_case
def test_a_layer_of_zeros_has_a_finite_gradient(name):
    _, student, teacher, heads = prepared(name)
    nothing = {key: np.zeros_like(values) for key, values in student.items()}
    _, slopes = program(name)(nothing, teacher, heads, EVEN)
    largest = max(np.abs(slope).max() for slope in slopes[0].values())
    assert np.isfinite(largest)
    assert largest < 1e3 or CASES[name].loss == "dist"  # of probabilities that are all alike


@pytest.mark.parametrize("name", ["dist", "mlkd", "sdd"])
def test_a_constant_added_to_logits_changes_nothing(name):
    _, student, teacher, heads = prepared(name)
    moved = [
        {key: values + np.float32(by) for key, values in side.items()}
        for side, by in ((student, 3), (teacher, -5))
    ]
    (_, got), _ = program(name)(*moved, heads, EVEN)
    (_, wanted), _ = program(name)(student, teacher, heads, EVEN)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


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
    with pytest.raises(KdError, match=r"logit_map is \[8, 4, 4, 5\] and it answers for 6 classes"):
        case.value(*case.both(), None)


def test_a_head_is_made_by_the_key_of_its_term():
    case, student, teacher, _ = prepared("simkd")
    first, same, other = (
        case.info.init(jax.random.key(seed), *map(_named, (student, teacher)), 10)
        for seed in (0, 0, 1)
    )
    tiny.close(first, same, 0, 0)
    assert tiny.differ(first, other)


def _named(side):
    return outputs(side).named({"hidden": "0"})
