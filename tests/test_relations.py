"""Laws that every loss of relations obeys, table-driven, and the invariances that papers claim."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import reference_relations as reference
import tiny
from kd.core.losses import LOSSES
from kd.core.objective import make_objective
from kd.core.terms import term
from kd.core.types import Heads, Outputs
from kd.errors import KdError
from kd.placement.mesh import MeshSpec, make_mesh
from kd.training import loop

ROWS = 6
# taps of one example: the student's, the teacher's
VECTORS = {"hidden": ((4,), (5,))}
MAPS = {"hidden": ((3, 3, 4), (2, 2, 4))}
SHAPES = {
    "correlation_congruence": VECTORS,
    "fsp": {"first": ((4, 4, 3), (8, 8, 3)), "second": ((2, 2, 5), (4, 4, 5))},
    "gram": MAPS,
    "icc": {"hidden": ((3, 3, 4), (3, 3, 4))},
    "pkt": VECTORS,
    "rkd_angle": VECTORS,
    "rkd_distance": VECTORS,
    "similarity_preserving": {"hidden": ((2, 2, 3), (5,))},
}
NAMES = sorted(SHAPES)
BETWEEN = [name for name in NAMES if LOSSES[name].whole_batch]
every_loss = pytest.mark.parametrize("name", NAMES)
between_examples = pytest.mark.parametrize("name", BETWEEN)
NEAR = {"rtol": 3e-4, "atol": 3e-5}


def sample(name, seed=0, rows=ROWS):
    """Taps of student and teacher."""
    random = np.random.default_rng(seed)
    return tuple(
        {
            tap: random.normal(size=(rows, *shapes[side])).astype(np.float32)
            for tap, shapes in SHAPES[name].items()
        }
        for side in (0, 1)
    )


def numbers(name):
    return {key: number.default for key, number in LOSSES[name].numbers.items()}


def value(name, student, teacher, weight=None):
    """Values of the loss itself, ``[*b]``."""
    first = next(iter(student.values()))
    weight = np.ones(len(first), np.float32) if weight is None else weight
    sides = [
        Outputs(jnp.zeros((*weight.shape, 2)), taps={k: jnp.asarray(x) for k, x in taps.items()})
        for taps in (student, teacher)
    ]
    hparams = {key: jnp.float32(number) for key, number in numbers(name).items()}
    heads = [Heads()] if LOSSES[name].init else []
    return LOSSES[name].loss(*sides, {"weight": jnp.asarray(weight)}, hparams, *heads)


@functools.cache
def compiled(name):
    return jax.jit(functools.partial(value, name))


@functools.cache
def gradient(name):
    """Of the mean, with respect to the student's taps."""
    return jax.jit(jax.grad(lambda *taps: jnp.mean(value(name, *taps))))


def averaged(name):
    """The weighted mean through the objective, as the step takes it, and its gradient with respect
    to the student's taps.
    """
    taps = {tap: (tap, tap) for tap in SHAPES[name]}
    terms = [term(name, taps=taps)]
    objective, hparams = make_objective(terms), tiny.hparams(terms)
    heads = {name: Heads()} if LOSSES[name].init else None

    def mean(student, teacher, weight):
        sides = [Outputs(jnp.zeros((*weight.shape, 2)), taps=taps) for taps in (student, teacher)]
        step = jnp.zeros((), jnp.int32)
        total, _, _ = objective(*sides, {"weight": weight}, hparams, step, heads)
        return jnp.sum(weight * total) / jnp.sum(weight)

    return jax.jit(jax.value_and_grad(mean))


def test_every_relation_has_a_reference():
    family = {name for name, info in LOSSES.items() if info.family == "relations"}
    assert set(reference.LOSSES) | {"crd"} == {*SHAPES, "crd"} == family


@every_loss
@pytest.mark.parametrize("seed", range(2))
def test_value_and_gradient_match_the_reference(name, seed):
    student, teacher = sample(name, seed)
    got = compiled(name)(student, teacher)
    assert got.shape == (ROWS,)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(
        got, reference.LOSSES[name](student, teacher, **numbers(name)), **NEAR
    )
    slope = gradient(name)(student, teacher)
    for tap in student:
        wanted = reference.gradient(name, student, teacher, numbers(name), tap)
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(slope[tap], wanted, rtol=3e-3, atol=3e-4)


@every_loss
def test_jit_and_vmap_change_nothing(name):
    pair = [sample(name, seed) for seed in (0, 1)]
    eager = [value(name, *sides) for sides in pair]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *pair)
    mapped = jax.vmap(functools.partial(value, name))(*stacked)
    np.testing.assert_allclose(mapped, np.stack(eager), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(compiled(name)(*pair[0]), eager[0], rtol=1e-5, atol=1e-6)


@every_loss
def test_bfloat16_features_are_computed_in_float32(name):
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), sample(name))
    got = value(name, *half)
    assert got.dtype == jnp.float32
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    np.testing.assert_array_equal(got, value(name, *wide))


@every_loss
def test_masked_is_sliced_and_nan_behind_the_mask_is_never_seen(name):
    student, teacher = sample(name)
    weight = np.float32([1, 0, 1, 1, 0, 1])
    keep = weight > 0
    spoilt = [
        {tap: np.where(keep.reshape(-1, *[1] * (x.ndim - 1)), x, bad) for tap, x in taps.items()}
        for taps, bad in ((student, np.float32("nan")), (teacher, np.float32("inf")))
    ]
    run = averaged(name)
    mean, slope = run(*spoilt, weight)
    sliced = [{tap: x[keep] for tap, x in taps.items()} for taps in (student, teacher)]
    wanted, slopes = run(*sliced, np.ones(keep.sum(), np.float32))
    np.testing.assert_allclose(mean, wanted, rtol=1e-4, atol=1e-6)
    for tap in student:
        np.testing.assert_allclose(slope[tap][keep], slopes[tap], rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(slope[tap][~keep], 0)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"pkt", "rkd_angle", "rkd_distance"}))
def test_a_weight_of_two_is_that_example_twice(name):
    """Where an example has a relation to itself; pairs of two leave a pair with its copy out."""
    student, teacher = sample(name)
    weight = np.float32([2, 1, 1, 2, 1, 1])
    twice = np.repeat(np.arange(ROWS), weight.astype(int))
    run = averaged(name)
    repeated = [{tap: x[twice] for tap, x in taps.items()} for taps in (student, teacher)]
    wanted, _ = run(*repeated, np.ones(len(twice), np.float32))
    np.testing.assert_allclose(run(student, teacher, weight)[0], wanted, rtol=1e-4)


@every_loss
def test_one_device_is_eight(name):
    """The relation is over the global batch: one of the local batches would show."""
    student, teacher = sample(name, rows=16)
    weight = np.float32([1] * 9 + [0] * 3 + [1] * 4)
    run, results = averaged(name), []
    for devices in (1, 8):
        split = NamedSharding(make_mesh(MeshSpec(devices=devices)), PartitionSpec("data"))
        results.append(run(*jax.device_put((student, teacher, weight), split)))
    slopes = jax.tree.leaves(results[1][1])
    assert all(len(slope.sharding.device_set) == 8 for slope in slopes)
    for alone, spread in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(alone, spread, rtol=1e-4, atol=1e-6)


@every_loss
def test_another_order_of_the_batch_is_another_order_of_the_values(name):
    student, teacher = sample(name)
    order = np.random.default_rng(1).permutation(ROWS)
    moved = [{tap: x[order] for tap, x in taps.items()} for taps in (student, teacher)]
    np.testing.assert_allclose(
        compiled(name)(*moved), compiled(name)(student, teacher)[order], rtol=1e-4, atol=1e-6
    )


@every_loss
def test_a_student_like_its_teacher_pays_nothing_and_has_no_gradient(name):
    student, _ = sample(name)
    np.testing.assert_allclose(compiled(name)(student, student), 0, atol=1e-6)
    for slope in gradient(name)(student, student).values():
        np.testing.assert_allclose(slope, 0, atol=1e-5)


@every_loss
def test_duplicates_and_dead_features_have_finite_gradients(name):
    student, teacher = sample(name)
    for taps in (student, teacher):
        for x in taps.values():
            x[1], x[2] = x[0], 0
    same = {tap: np.ones_like(x) for tap, x in student.items()}
    dead = {tap: np.zeros_like(x) for tap, x in student.items()}
    for features in (student, same, dead):
        assert np.isfinite(compiled(name)(features, teacher)).all()
        for slope in gradient(name)(features, teacher).values():
            assert np.isfinite(slope).all()


def rotated(x, random):
    flat = x.reshape(len(x), -1)
    rotation = np.linalg.qr(random.normal(size=(flat.shape[1],) * 2))[0]
    return (flat @ rotation).reshape(x.shape)


def lengthened(x, random):
    """Every vector by a factor of its own."""
    return x * random.uniform(0.5, 2, (len(x), *[1] * (x.ndim - 1)))


def rearranged(x, random):
    """The places of a map in another order."""
    places = x.reshape(len(x), -1, x.shape[-1])
    return places[:, random.permutation(places.shape[1])].reshape(x.shape)


INVARIANT = {
    "correlation_congruence": (rotated, lengthened),
    "gram": (rearranged,),
    "icc": (rearranged,),
    "pkt": (rotated, lengthened),
    "rkd_angle": (rotated, lambda x, _: 3 * x + 1),
    "rkd_distance": (rotated, lambda x, _: 3 * x + 1),
    "similarity_preserving": (rotated, lambda x, _: 3 * x),
}


@pytest.mark.parametrize("name", sorted(INVARIANT))
def test_what_the_paper_calls_the_same_is_the_same(name):
    student, teacher = sample(name)
    wanted = compiled(name)(student, teacher)
    for change in INVARIANT[name]:
        moved = [
            {"hidden": change(taps["hidden"], np.random.default_rng(2)).astype(np.float32)}
            for taps in (student, teacher)
        ]
        assert tiny.differ(moved, [student, teacher])
        np.testing.assert_allclose(compiled(name)(*moved), wanted, rtol=1e-3, atol=1e-5)


@between_examples
def test_a_scaled_student_is_told_apart_only_where_the_scale_counts(name):
    """A student whose features are the teacher's, three times as long, has learnt all there is."""
    student, _ = sample(name)
    longer = {"hidden": 3 * student["hidden"]}
    np.testing.assert_allclose(compiled(name)(longer, student), 0, atol=1e-5)


@every_loss
def test_positions_are_examples(name):
    student, teacher = sample(name)
    wanted = compiled(name)(student, teacher)
    cut = [
        {tap: x.reshape(2, 3, *x.shape[1:]) for tap, x in taps.items()}
        for taps in (student, teacher)
    ]
    got = value(name, *cut, np.ones((2, 3), np.float32))
    np.testing.assert_allclose(got, np.reshape(wanted, (2, 3)), rtol=1e-5, atol=1e-6)
    with pytest.raises(KdError, match="a relation needs a vector or a map of each"):
        value(name, *cut, np.ones((2, 4), np.float32))


def test_gram_is_fsp_of_a_layer_with_itself():
    student, teacher = sample("icc")
    twice = [{"first": taps["hidden"], "second": taps["hidden"]} for taps in (student, teacher)]
    flow = value("fsp", *twice)
    np.testing.assert_allclose(4 * 4**2 * value("gram", student, teacher), flow, rtol=1e-4)


def test_icc_of_other_channels_learns_a_map_to_them():
    random = np.random.default_rng(0)
    own, other = (random.normal(size=(3, 2, 2, c)).astype(np.float32) for c in (3, 5))
    sides = [Outputs(jnp.zeros((3, 2)), taps={"hidden": jnp.asarray(x)}) for x in (own, other)]
    heads = LOSSES["icc"].init(jax.random.key(0), *sides, 10)
    kernel = heads.dropped["kernel"]
    assert kernel.shape == (3, 5)
    got = LOSSES["icc"].loss(*sides, {"weight": jnp.ones(3)}, {}, heads)
    projected = {"hidden": own.astype(np.float64) @ np.asarray(kernel)}
    np.testing.assert_allclose(got, reference.LOSSES["icc"](projected, {"hidden": other}), **NEAR)


@pytest.mark.parametrize(
    ("name", "shapes", "said"),
    [
        ("gram", {"hidden": ((3, 3, 4), (3, 3, 5))}, r"gram compares .* \[4, 4\] .* \[5, 5\]"),
        (
            "fsp",
            {"first": ((4, 4, 3),) * 2, "second": ((3, 3, 3),) * 2},
            r"\[4, 4\] cannot be pooled",
        ),
        ("fsp", {"first": ((9, 3),) * 2, "second": ((3, 3, 3),) * 2}, "one grid divides the other"),
    ],
)
def test_layers_that_do_not_fit_are_refused(name, shapes, said):
    sides = [{tap: np.zeros((2, *shape[side])) for tap, shape in shapes.items()} for side in (0, 1)]
    with pytest.raises(KdError, match=said):
        value(name, *sides)


TERMS = tuple(term(name, taps={"hidden": "Dense_0"}) for name in BETWEEN)


def run(**options):
    usual = {"members": tiny.members_of(TERMS), "mesh": MeshSpec(devices=1), "steps": 3}
    return loop.run(tiny.task(terms=TERMS, **{**usual, **options}))


@pytest.mark.parametrize("by", ["vmap", "loop"])
def test_a_member_learns_what_it_learns_alone(by):
    members = tiny.members_of(TERMS, seed=(3, 5))
    together = run(members=members, members_by=by)
    for i in range(2):
        alone = run(members=members.member(i))
        tiny.close(tiny.take(together.params, i), alone.params, rtol=1e-4, atol=1e-5)


def test_a_run_on_one_device_is_that_on_eight():
    tiny.close(run(mesh=MeshSpec(devices=8)).params, run().params, rtol=1e-4, atol=1e-5)
