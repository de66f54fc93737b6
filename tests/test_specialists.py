"""Laws of specialists: whose classes, which examples, which weights, and what they answer."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import kd
import tiny
from kd import specialists
from kd.core.specialists import spread
from kd.errors import KdError
from kd.models import mlp
from kd.models.norm import BatchNorm
from kd.specialists.enriched import Halves
from kd.specialists.model import begun, width
from kd.teachers import Trained

ONE = kd.MeshSpec(devices=1)
GENERALIST = Trained(tiny.PLAIN, tiny.take(tiny.members(tiny.PLAIN), 0), {}, fingerprint="one")
CLASSES = ((0, 1), (2, 4))


def fit(classes=CLASSES, generalist=GENERALIST, **changes):
    """Some steps of specialists on the tiny data."""
    told = {"epochs": 1, "batch_size": 8, "mesh": ONE, "learning_rate": 0.1, **changes}
    return specialists.fit(generalist, told.pop("data", tiny.dataset()), classes, **told)


@pytest.fixture(scope="module")
def trained():
    return fit()


def test_classes_that_are_taken_for_each_other_are_together():
    random = np.random.default_rng(0)
    groups = np.array([0, 1, 0, 2, 1, 2])
    centres = 3.0 * (groups[:, None] == groups[None])
    logits = centres[random.integers(6, size=600)] + 0.3 * random.normal(size=(600, 6))
    columns = specialists.covariance(logits)
    assert {*specialists.clusters(columns, 3)} == {(0, 2), (1, 4), (3, 5)}
    assert {*specialists.clusters(columns, 3, size=2)} == {(0, 2), (1, 4), (3, 5)}
    wide = specialists.clusters(columns, 3, size=4)
    assert {len(chosen) for chosen in wide} == {4}  # sets of one size, which overlap
    assert specialists.class_names(((0, 2),), "abcdef") == [["a", "c"]]


def test_a_covariance_is_that_of_the_softened_predictions():
    logits = np.random.default_rng(1).normal(size=(50, 4))
    wanted = np.cov(special.softmax(logits / 2, axis=1).T)
    np.testing.assert_allclose(specialists.covariance(logits, temperature=2.0), wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("count", "size", "words"),
    [
        (6, None, "at most 5 classes, got 6"),
        (1, None, "count must be 2 or more"),
        (2, 5, "fewer than all 5 classes, got 5"),
        (2, 0, "size must be 1 or more"),
        (5, None, "tells 2 clusters of classes apart, and 5 are wanted"),
    ],
)
def test_clusters_that_cannot_be_are_refused(count, size, words):
    columns = np.repeat(np.arange(5)[:, None] > 2, 5, axis=1).T.astype(float)
    with pytest.raises(KdError) as refused:
        specialists.clusters(columns, count, size=size)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ((), "need a set of classes each"),
        ("ab", "need a set of classes each"),
        (((0,), ()), "specialist 1 has no class"),
        (((0, 1, 2, 3, 4),), "specialist 0 has all 5 classes"),
        (((0, 5),), "specialist 0 has the class 5, and classes are 0 to 4"),
        (((-1,),), "has the class -1"),
        (((1.5,),), "has the class 1.5"),
        (((3, 3),), "specialist 0 has a class twice"),
    ],
)
def test_sets_of_classes_that_cannot_be_are_refused(classes, words):
    with pytest.raises(KdError) as refused:
        specialists.check_classes(classes, 5)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.integers(0, 2**20), st.integers(0, 30))
def test_half_of_a_batch_is_special_and_each_half_is_seen_in_turn(seed, step):
    own, rest = np.arange(7), np.arange(7, 40)
    halves = Halves((seed, seed + 1), [(own, rest)] * 2, 6)
    rows = halves.rows(step)
    assert rows.shape == (2, 6)
    assert (np.sort(rows, axis=1)[:, 2] < 7).all()
    assert (np.sort(rows, axis=1)[:, 3] >= 7).all()
    np.testing.assert_array_equal(rows, Halves((seed, seed + 1), [(own, rest)] * 2, 6).rows(step))
    np.testing.assert_array_equal(rows[1], Halves((seed + 1,), [(own, rest)], 6).rows(step)[0])
    epoch = np.concatenate([halves.rows(2 * (step // 2) + i)[0][:3] for i in range(2)])
    assert len(set(epoch.tolist())) == 6


def test_the_correction_restores_the_odds_of_the_data():
    """What is counted in whole epochs of half special batches, corrected, is what the data says."""
    places = np.repeat([0, 1], [20, 28])  # of two places, in which classes are not equally common
    labels = np.r_[np.arange(20) % 4, [0] * 3, [1] * 3, [2] * 15, [3] * 7]
    data = specialists.enriched(kd.arrays(places[:, None].astype(np.float32), labels), ((0, 1),))
    (own, rest) = data.rows_of[0]
    assert (len(own), len(rest)) == (16, 32)
    batches = [data.order((0,), 8).rows(step)[0] for step in range(8)]
    seen = np.concatenate(batches)  # the special ones twice, the others once
    for place in (0, 1):
        counts = np.array([np.sum(labels[seen[places[seen] == place]] == c) for c in range(4)])
        inner = np.log([counts[0], counts[1], counts[2:].sum() / 2])
        corrected = spread(
            *map(jnp.asarray, (np.float32(inner[None]), [0, 1, 2, 2], data.corrections[0]))
        )
        corrected_odds = special.softmax(np.asarray(corrected[0]))
        truth = np.bincount(labels[places == place], minlength=4)
        np.testing.assert_allclose(corrected_odds[:2], truth[:2] / truth.sum(), rtol=1e-5)


def test_spread_logits_have_the_loss_and_gradient_of_a_dustbin():
    random = np.random.default_rng(0)
    inner, class_map = random.normal(size=(6, 3)).astype(np.float32), np.array([0, 2, 1, 2, 2])
    labels = np.array([0, 1, 2, 3, 4, 2])

    def whole(inner):
        logits = spread(inner, jnp.asarray(class_map), jnp.float32(0))
        return -jax.nn.log_softmax(logits)[np.arange(6), labels].sum()

    def dustbin(inner):
        alone = inner + jnp.log(jnp.array([[1.0, 1.0, 3.0]]))
        return -jax.nn.log_softmax(alone)[np.arange(6), class_map[labels]].sum()

    plain, other = (
        jax.value_and_grad(whole)(jnp.asarray(inner)),
        jax.value_and_grad(dustbin)(jnp.asarray(inner)),
    )
    np.testing.assert_allclose(plain[0] - other[0], 3 * np.log(3), rtol=1e-5)
    np.testing.assert_allclose(plain[1], other[1], atol=1e-6)


@pytest.mark.parametrize("classes", [CLASSES, ((0, 1, 2, 4), (3,))])  # a head as wide as before too
def test_specialists_begin_as_the_generalist(classes):
    data = tiny.dataset()
    first, general = begun(GENERALIST, None, data, classes), GENERALIST.logits(data)
    for special_classes, answers in zip(classes, first.logits(data), strict=True):
        chosen = list(special_classes)
        others = np.setdiff1d(np.arange(5), chosen)
        np.testing.assert_allclose(answers[:, chosen], general[:, chosen], atol=1e-5)
        mean = np.repeat(general[:, others].mean(axis=1, keepdims=True), len(others), axis=1)
        np.testing.assert_allclose(answers[:, others], mean, atol=1e-5)


def test_a_population_is_each_specialist_alone(trained):
    for member, classes in enumerate(CLASSES):
        alone = fit((classes,), seeds=(member,))
        tiny.close(alone.member(0).params, trained.member(member).params)
    assert tiny.differ(trained.member(0).params, begun_params(0))


def begun_params(member):
    return begun(GENERALIST, None, tiny.dataset(), CLASSES).member(member).params


def test_a_smaller_specialist_is_not_told_by_a_larger_one(trained):
    """Its spare column is asked for nothing, and stays what it was."""
    both = fit(((0, 1), (2,)))
    head = both.member(1).params["Dense_1"]["kernel"]
    assert width(((0, 1), (2,))) == head.shape[-1] == 3
    np.testing.assert_array_equal(head[:, 1], 0)
    np.testing.assert_array_equal(both.member(1).extra["class_map"], [2, 2, 0, 2, 2])
    alone = fit(((2,),), seeds=(1,), epochs=1.5).logits(tiny.dataset())
    np.testing.assert_allclose(both.logits(tiny.dataset())[1], alone[0], atol=1e-4)


def test_one_device_or_eight(trained):
    tiny.close(fit(mesh=kd.MeshSpec()).params, trained.params, rtol=1e-4, atol=1e-5)


def test_they_learn_their_classes(trained):
    """More than the generalist knows of them, whose weights are random here."""
    longer, data = fit(epochs=40, terms=[kd.term("hard")]), tiny.dataset()
    for classes, answers in zip(CLASSES, longer.logits(data), strict=True):
        rows = np.isin(data.labels, classes)
        right = (answers.argmax(axis=1) == data.labels)[rows].mean()
        assert right > (GENERALIST.logits(data).argmax(axis=1) == data.labels)[rows].mean()
    wanted = np.log((64 - 26) / 26), np.log((64 - 25) / 25)
    np.testing.assert_allclose(longer.extra["correction"], wanted, rtol=1e-6)


def test_together_they_are_a_teacher_like_any_other(trained):
    data = tiny.dataset()
    team = specialists.team(GENERALIST, trained, top=2)
    kept = kd.precompute(team, data)
    wanted = specialists.joint(GENERALIST.logits(data), trained.logits(data), CLASSES, top=2)
    np.testing.assert_allclose(kept.variables.logits, wanted.log_probs, atol=1e-5)
    assert wanted.gradient.max() < 1e-6
    table = kd.soft_labels(logits=wanted.log_probs, data=data)
    students = [
        kd.fit(
            tiny.PLAIN, data, [kd.term("soft_targets")], teacher=teacher, batch_size=16, mesh=ONE
        ).params
        for teacher in (team, kept, table)
    ]
    tiny.close(students[0], students[1], rtol=1e-4, atol=1e-5)
    tiny.close(students[1], students[2], rtol=1e-4, atol=1e-5)


def test_a_module_of_ones_own_says_how_it_is_made():
    """By a function of its outputs, where kd does not know it."""
    own = dataclasses.replace(GENERALIST, model=dataclasses.replace(tiny.PLAIN, made=None))
    with pytest.raises(KdError, match="pass network, a function"):
        fit(generalist=own)
    first = begun(own, lambda outputs: mlp(outputs, (8,)), tiny.dataset(), CLASSES)
    tiny.close(first.params, begun(GENERALIST, None, tiny.dataset(), CLASSES).params)
    for other in (lambda outputs: mlp(outputs, (9,)), lambda outputs: mlp(outputs, (8, 8))):
        with pytest.raises(KdError, match="more than its head"):
            begun(own, other, tiny.dataset(), CLASSES)


def of_six_classes():
    return kd.arrays(np.zeros((12, 4, 4), np.float32), np.arange(12) % 6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ((0,), ())}, "specialist 1 has no class"),
        ({"classes": (tuple(range(5)),)}, "has all 5 classes"),
        ({"classes": ((9,),)}, "has the class 9"),
        ({"batch_size": 7}, "its size is even, got 7"),
        ({"batch_size": 60}, "lower batch_size"),
        ({"seeds": (0,)}, "2 specialists need a seed each, got 1"),
        ({"data": of_six_classes()}, "answers with 5 classes and the data has 6"),
        ({"data": dataclasses.replace(tiny.dataset(), labels=None)}, "this data has none"),
        (
            {"generalist": Trained(tiny.PLAIN, tiny.members(tiny.PLAIN), {}, members=True)},
            "choose a member",
        ),
        ({"learning_rate": 1e30}, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    with pytest.raises(KdError) as refused:
        fit(**changes)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_teams_that_cannot_be_are_refused(trained):
    with pytest.raises(KdError, match="these are no specialists"):
        specialists.team(GENERALIST, GENERALIST)
    with pytest.raises(KdError, match="top must be 1 or more of 5 classes, got 9"):
        specialists.team(GENERALIST, trained, top=9)
    six = Trained(mlp(6, (8,)), tiny.take(tiny.members(mlp(6, (8,))), 0), {})
    with pytest.raises(KdError, match="answers with 6 classes and the specialists with 5"):
        kd.precompute(specialists.team(six, trained), tiny.dataset())


class Normed(nn.Module):
    """A network whose statistics leave out what weighs nothing."""

    classes: int

    @nn.compact
    def __call__(self, x, train=False, weight=None):
        x = BatchNorm(train, name="norm")(x.reshape(len(x), 1, 1, -1), weight)
        return nn.Dense(self.classes, name="head")(x.reshape(len(x), -1))


def test_a_generalist_with_batch_statistics():
    data = tiny.dataset()
    terms = [kd.term("hard")]
    whole = kd.fit(Normed(data.num_classes), data, terms, epochs=1, batch_size=8, mesh=ONE)
    taught = fit(generalist=whole, network=Normed)
    moved, before = taught.extra["network"]["batch_stats"], whole.extra["batch_stats"]
    assert moved["norm"]["mean"].shape == (2, *before["norm"]["mean"].shape)
    assert np.any(moved["norm"]["mean"] != before["norm"]["mean"][None], axis=1).all()
    assert taught.logits(data).shape == (2, len(data), data.num_classes)
