"""Laws of what can be learnt beyond one class per example: weights of examples and classes, parts
without labels, several yes or no at once, numbers.
"""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import kd
import tiny
from kd import data as kd_data
from kd.core.objective import make_objective
from kd.core.state import init_state
from kd.core.step import make_train_step
from kd.core.terms import term
from kd.core.types import Outputs
from kd.models import mlp
from kd.placement.mesh import MeshSpec, make_mesh

INPUTS = np.random.default_rng(0).normal(size=(16, 4, 4)).astype(np.float32)
CLASSES = np.arange(16) % 5


def reads_labels(student, teacher, batch, hparams):
    del teacher, hparams
    return -jnp.take_along_axis(student.log_probs(), batch["labels"][..., None], -1)[..., 0]


TOLD = kd.LossInfo(reads_labels, needs=("labels",))
TERMS = {
    "hard": term("hard", 0.5),
    "soft_targets": term("soft_targets", temperature=3.0),
    "untold": term(reads_labels, name="untold"),
    "told": term(TOLD, 0.5, name="hard"),
    "bce": term("bce"),
    "mse": term("mse"),
}


def batch_of(data, rows=None):
    rows = np.arange(len(data)) if rows is None else rows
    return dict(kd_data.gather(kd_data.to_device(data), jnp.asarray(rows, jnp.int32)))


@functools.cache
def a_step(*names, taught=True, outputs=5, targets="classes", accumulate=1):
    terms = [TERMS[name] for name in names or ("hard", "soft_targets")]
    model = mlp(outputs, (8,))
    step = make_train_step(
        model,
        tiny.teacher() if taught else None,
        make_objective(terms),
        optax.sgd(1.0),
        targets=targets,
        accumulate=accumulate,
    )
    state = init_state(model, optax.sgd(1.0), 0, jnp.zeros((1, 4, 4)))
    variables = tiny.teacher().variables if taught else None
    hparams = tiny.hparams(terms)
    compiled = jax.jit(step)
    return lambda batch: compiled(state, variables, batch, hparams)


def values(metrics):
    return {name: float(mean.value) for name, mean in metrics.items()}


def same(first, other):
    """Two steps end with the same parameters and metrics."""
    tiny.close(first[0].params, other[0].params)
    assert values(first[1]) == pytest.approx(values(other[1]), rel=1e-5, abs=1e-6)


# --- weights ---


@hypothesis.given(st.lists(st.integers(0, 3), min_size=8, max_size=8))
@hypothesis.settings(max_examples=10)
def test_a_weight_of_two_is_the_example_twice(weights):
    hypothesis.assume(sum(weights))
    weighted = kd.arrays(INPUTS[:8], CLASSES[:8], num_classes=5, weights=np.float32(weights))
    repeated = np.repeat(np.arange(8), weights)
    once = kd.arrays(INPUTS[:8], CLASSES[:8], num_classes=5)
    rows = np.full(24, -1)
    rows[: len(repeated)] = repeated
    same(a_step()(batch_of(weighted)), a_step()(batch_of(once, rows)))


def test_weights_of_one_are_none_to_the_byte():
    plain = kd.arrays(INPUTS, CLASSES)
    for weighted in (
        kd.arrays(INPUTS, CLASSES, weights=np.ones(16)),
        kd.weigh_classes(plain, (1.0,) * 5),
    ):
        assert weighted.weights is None
        assert weighted.fingerprint == plain.fingerprint
    assert kd.arrays(INPUTS, CLASSES, weights=np.arange(16)).fingerprint != plain.fingerprint


def test_weights_stay_with_their_examples():
    data = kd.arrays(INPUTS, CLASSES, weights=np.arange(16))
    assert kd_data.take(data, "train[4:6]").weights.tolist() == [4, 5]
    assert kd.of_classes(data, (1,)).weights.tolist() == [1, 6, 11]
    assert batch_of(data, np.array([3, -1, 5]))["weight"].tolist() == [3, 0, 5]


def test_balanced_classes_weigh_the_same():
    data = kd.arrays(INPUTS, np.minimum(CLASSES, 2))
    balanced = kd.weigh_classes(data, "balanced")
    sums = np.bincount(data.labels, balanced.weights)
    np.testing.assert_allclose(sums, 16 / 3, rtol=1e-6)


def test_class_weights_by_name_multiply_those_of_the_examples():
    data = kd.arrays(INPUTS[:3], [0, 1, 1], class_names=("cat", "dog"), weights=[1, 2, 3])
    assert kd.weigh_classes(data, {"dog": 10.0}).weights.tolist() == [1, 20, 30]
    assert kd.weigh_classes(data, (0.5, 1.0)).weights.tolist() == [0.5, 2, 3]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "a number for each of the 16 examples"),
        (np.full(16, -1.0), "0 or more, got -1.0 of example 0"),
        (np.full(16, np.nan), "finite"),
        (np.full(16, 1e60), "finite"),
        (np.zeros(16), "all 0"),
        (np.array(["a"] * 16), "a number for each"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(kd.KdError, match=message):
        kd.arrays(INPUTS, CLASSES, weights=weights)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("even", "unknown kind of class weights"),
        ((1.0, 2.0), "5 classes and 2 class weights"),
        ({"7": 2.0}, "unknown class among the class weights"),
        ((1.0, -2.0, 1.0, 1.0, 1.0), "0 or more, got -2.0"),
        ((0.0,) * 5, "all 0"),
    ],
)
def test_class_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(kd.KdError, match=message):
        kd.weigh_classes(kd.arrays(INPUTS, CLASSES), weights)


# --- parts without labels ---


def half_labelled(weights=None):
    labels = np.where(np.arange(16) < 6, CLASSES, -1)
    return kd.arrays(INPUTS, labels, num_classes=5, weights=weights)


def test_a_term_on_labels_is_its_mean_over_the_labelled_examples_alone():
    """And the teacher's term its mean over all: masked == sliced, term by term."""
    weights = np.random.default_rng(1).uniform(0.5, 2, 16)
    mixed = values(a_step()(batch_of(half_labelled(weights)))[1])
    labelled = values(
        a_step()(batch_of(kd.arrays(INPUTS[:6], CLASSES[:6], weights=weights[:6])))[1]
    )
    everything = values(a_step()(batch_of(kd.arrays(INPUTS, CLASSES, weights=weights)))[1])
    assert mixed["loss/hard"] == pytest.approx(labelled["loss/hard"], rel=1e-5)
    assert mixed["accuracy"] == pytest.approx(labelled["accuracy"])
    for name in ("loss/soft_targets", "agreement"):
        assert mixed[name] == pytest.approx(everything[name], rel=1e-5)
    wanted = 0.5 * labelled["loss/hard"] + everything["loss/soft_targets"]
    assert mixed["loss"] == pytest.approx(wanted, rel=1e-5)


def test_its_gradient_is_that_of_the_labelled_examples_alone():
    alone = a_step("hard", taught=False)
    mixed, _ = alone(batch_of(half_labelled()))
    sliced, _ = alone(batch_of(kd.arrays(INPUTS[:6], CLASSES[:6], num_classes=5)))
    tiny.close(mixed.params, sliced.params)


def test_one_device_is_eight_where_labels_lie_on_a_few():
    labels = np.where(np.arange(16) < 3, CLASSES, -1)
    batch = batch_of(kd.arrays(INPUTS, labels, num_classes=5, weights=1.0 + np.arange(16)))
    split = NamedSharding(make_mesh(MeshSpec(devices=8)), PartitionSpec("data"))
    same(a_step()(batch), a_step()(jax.device_put(batch, split)))


def test_members_take_the_mean_over_their_own_labelled_examples():
    """Whose batches hold different numbers of labels."""
    seeds = kd.product(seed=(0, 1))
    taught = {"teacher": kd.precompute(tiny.teacher(), half_labelled())}
    terms, how = [TERMS["hard"], TERMS["soft_targets"]], {"epochs": 4, "batch_size": 4}
    both = kd.fit(tiny.PLAIN, half_labelled(), terms, population=seeds, **taught, **how)
    for seed in (0, 1):
        alone = kd.fit(tiny.PLAIN, half_labelled(), terms, seed=seed, **taught, **how)
        tiny.close(tiny.take(both.params, seed), alone.params)


def test_parts_of_a_batch_share_the_mean_over_the_labelled():
    """Even where a part holds no label at all."""
    labels = np.where(np.arange(16) % 4 == 0, CLASSES, -1)  # all of them in the first of two parts
    batch = batch_of(kd.arrays(INPUTS, labels, num_classes=5))
    same(a_step()(batch), a_step(accumulate=2)(batch))


def test_a_batch_without_any_label_teaches_by_the_teacher_alone():
    mixed = batch_of(half_labelled(), np.arange(8, 16))
    state, metrics = a_step()(mixed)
    only_soft = a_step("soft_targets")
    tiny.close(state.params, only_soft(mixed)[0].params)
    assert values(metrics)["loss/hard"] == 0


def test_behind_a_missing_label_nothing_is_looked_at():
    objective = make_objective((term("hard"),))
    logits = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    logits[2] = np.nan
    batch = {
        "labels": jnp.array([0, 1, -1, 2]),
        "labelled": jnp.array([True, True, False, True]),
        "weight": jnp.ones(4),
    }
    hparams = tiny.hparams((term("hard"),))

    def mean(z):
        return objective(Outputs(z), None, batch, hparams, jnp.int32(0))[0].mean()

    value, slope = jax.value_and_grad(mean)(jnp.asarray(logits))
    assert np.isfinite(value)
    assert (np.asarray(slope[2]) == 0).all()
    assert np.isfinite(slope).all()


def test_labelled_throughout_the_batch_says_nothing_more():
    """Nothing changes for data of which every example has a label, to the byte."""
    assert set(batch_of(kd.arrays(INPUTS, CLASSES))) == {"inputs", "labels", "weight", "index"}


def test_a_loss_of_ones_own_must_say_that_it_reads_labels():
    with pytest.raises(kd.KdError, match="reads labels and some examples have none"):
        a_step("untold")(batch_of(half_labelled()))
    told, hard = a_step("told", taught=False), a_step("hard", taught=False)
    same(told(batch_of(half_labelled())), hard(batch_of(half_labelled())))


def test_evaluation_is_of_the_labelled_alone():
    trained = kd.fit(tiny.PLAIN, half_labelled(), [kd.term("hard")], epochs=2, batch_size=8)
    part = kd.arrays(INPUTS[:6], CLASSES[:6], num_classes=5)
    assert trained.errors(half_labelled()) == trained.errors(part)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([0, None, 1], [0, -1, 1]),
        (np.array([0, -1, 1]), [0, -1, 1]),
        ([0.5, None, 2.0], [0.5, np.nan, 2.0]),
        ([[0.5, 1.0], [np.nan, np.nan], [1.0, 0.0]], [[0.5, 1], [np.nan, np.nan], [1, 0]]),
    ],
)
def test_no_label_has_many_spellings(labels, wanted):
    data = kd.arrays(INPUTS[:3], labels)
    np.testing.assert_array_equal(data.labels, np.float32(wanted))
    assert data.has_label.tolist() == [True, False, True]
    assert data.partly_labelled


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([-1, -1], {}, "no example has a label"),
        ([-1, 1], {}, r"pass \(labels \+ 1\) // 2"),
        ([[0.5, np.nan], [1, 0]], {}, "example 0 has 1 of 2 labels missing"),
        ([[0.5, 2.0], [1, 0]], {"targets": "binary"}, r"binary labels must be in \[0, 1\]"),
        ([np.inf, 0.0], {}, "numbers labels must be finite"),
        ([0.5, 1.0], {"num_classes": 2}, "ask for 1 outputs, and num_classes is 2"),
        ([0, 2], {"targets": "binary"}, r"binary labels must be in \[0, 1\]"),
        ([None, "a"], {}, "labels must be numbers"),
        ([10**400], {}, "labels must be numbers"),
    ],
)
def test_labels_that_are_none_are_refused(labels, options, message):
    with pytest.raises(kd.KdError, match=message):
        kd.arrays(INPUTS[:2], labels, **options)
