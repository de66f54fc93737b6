"""Laws of teachers: the step cannot tell them apart, and an ensemble is what its members say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference
import tiny
from kd.core.types import Outputs
from kd.errors import KdError
from kd.models import mlp
from kd.teachers import answers as predict
from kd.teachers import make as kd_teacher

MERGING = ("arithmetic", "geometric")
TEMPERATURES = (0.7, 1.0, 4.0)


@functools.cache
def compiled(make, average):
    teacher = make(average)
    return teacher, jax.jit(tiny.step(teacher=teacher))


@functools.cache
def trained(make, average):
    """State and metrics after one step with a teacher, at learning rate 1: what moved is the
    gradient.
    """
    teacher, run = compiled(make, average)
    return run(tiny.state(), teacher.variables, tiny.batch(), tiny.hparams(learning_rate=1.0))


def live(average):
    return (
        tiny.teacher()
        if average is None
        else kd_teacher.ensemble(tiny.WIDE, tiny.members(), average=average)
    )


def precomputed(average):
    outputs = predict.answers(live(average), tiny.dataset(), batch_size=10)
    return kd_teacher.precomputed(np.asarray(outputs.logits), average=outputs.average)


@pytest.mark.parametrize("average", [None, "arithmetic", "per_member"])
def test_live_and_precomputed_give_the_same_losses_and_gradients(average):
    (state, metrics), (other, other_metrics) = trained(live, average), trained(precomputed, average)
    tiny.close(metrics, other_metrics)
    tiny.close(state, other)


def test_what_the_teacher_says_matters():
    teacher, run = compiled(precomputed, None)
    silent, _ = run(
        tiny.state(),
        jax.tree.map(jnp.zeros_like, teacher.variables),
        tiny.batch(),
        tiny.hparams(learning_rate=1.0),
    )
    assert tiny.differ(silent.params, trained(precomputed, None)[0].params)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("average", MERGING)
def test_an_ensemble_of_identical_members_is_one_of_them(average, temperature):
    same = tiny.take(tiny.members(), [1, 1, 1])
    ensemble = kd_teacher.ensemble(tiny.WIDE, same, average=average)
    single = tiny.teacher(1)
    together, alone = (
        t.apply(t.variables, tiny.batch()).log_probs(temperature) for t in (ensemble, single)
    )
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_averages_match_float64(temperature):
    logits = 3 * np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    arithmetic, geometric = (
        Outputs(jnp.asarray(logits), average).log_probs(temperature) for average in MERGING
    )
    np.testing.assert_allclose(
        np.exp(arithmetic), reference.softmax(logits, temperature).mean(0), rtol=1e-5
    )
    np.testing.assert_allclose(
        np.exp(geometric), reference.softmax(logits.mean(0), temperature), rtol=1e-5
    )
    product = np.prod(reference.softmax(logits, temperature), axis=0) ** (1 / 3)
    np.testing.assert_allclose(
        np.exp(geometric), product / product.sum(-1, keepdims=True), rtol=1e-5
    )
    assert np.abs(arithmetic - geometric).max() > 1e-3


@pytest.mark.parametrize("average", MERGING)
def test_an_average_is_a_distribution_even_where_members_are_certain(average):
    # three members, each certain of a class of its own
    certain = Outputs(200 * jnp.eye(3)[:, None, :], average)
    np.testing.assert_allclose(certain.log_probs(), -np.log(3), rtol=1e-4)


@pytest.mark.parametrize("average", MERGING)
def test_the_order_of_members_does_not_matter_to_their_average(average):
    teacher = live(average)
    first, other = (
        teacher.apply(variables, tiny.batch()).log_probs(2.0)
        for variables in (teacher.variables, tiny.take(teacher.variables, [2, 0, 1]))
    )
    np.testing.assert_allclose(first, other, rtol=1e-5, atol=1e-6)


def test_the_order_of_members_does_not_matter_to_a_loss_per_member():
    teacher, run = compiled(live, "per_member")
    shuffled = tiny.take(teacher.variables, [2, 0, 1])
    state, metrics = run(tiny.state(), shuffled, tiny.batch(), tiny.hparams(learning_rate=1.0))
    tiny.close((state, metrics), trained(live, "per_member"))


def test_the_mean_of_divergences_is_more_than_the_divergence_from_the_mean():
    apart, together = (
        trained(live, average)[1]["loss/soft_targets"].value
        for average in ("per_member", "arithmetic")
    )
    assert apart > together + 1e-3  # so the two averages are two teachers


def test_each_member_counts():
    teacher = live("arithmetic")
    spoiled = jax.tree.map(lambda leaf: leaf.at[2].multiply(3.0), teacher.variables)
    ours, theirs = (
        teacher.apply(v, tiny.batch()).log_probs() for v in (teacher.variables, spoiled)
    )
    assert np.abs(ours - theirs).max() > 1e-2


def test_a_teacher_answers_in_evaluation_mode():
    teacher = tiny.teacher()
    without_dropout = mlp(tiny.CLASSES, (16,))
    wanted, _ = without_dropout.apply(
        teacher.variables["params"], {}, tiny.batch()["inputs"], train=True
    )
    np.testing.assert_allclose(
        teacher.apply(teacher.variables, tiny.batch()).logits, wanted.logits, rtol=1e-6
    )


def test_a_teacher_may_see_inputs_of_its_own():
    teacher, batch = tiny.teacher(), tiny.batch()
    own = {**batch, "teacher_inputs": batch["inputs"], "inputs": jnp.zeros_like(batch["inputs"])}
    np.testing.assert_array_equal(
        teacher.apply(teacher.variables, own).logits, teacher.apply(teacher.variables, batch).logits
    )


def test_a_precomputed_teacher_answers_by_identity():
    logits = np.arange(12, dtype=np.float32).reshape(4, 3)
    teacher = kd_teacher.precomputed(logits)
    answer = teacher.apply(teacher.variables, {"index": jnp.array([2, 0, 2])})
    np.testing.assert_array_equal(answer.logits, logits[[2, 0, 2]])


def test_a_per_member_ensemble_has_no_single_distribution():
    with pytest.raises(ValueError, match="no single distribution"):
        Outputs(jnp.zeros((2, 3, 5)), "per_member").log_probs()


def test_an_unknown_average_is_refused_with_the_nearest_name():
    with pytest.raises(KdError, match="did you mean 'geometric'"):
        kd_teacher.check_average("geometrical")
