"""Laws of the measures of dark knowledge: bounds, the teacher itself, permutations, and each can
move.
"""

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

import reference
from kd import evals
from kd.core import divergences
from kd.core.types import Outputs
from kd.errors import KdError

N, CLASSES = 12, 5
logits = reference.logits(shape=(N, CLASSES)).map(lambda z: z.astype(np.float64))
labels = st.integers(0, 1000).map(
    lambda seed: np.random.default_rng(seed).integers(0, CLASSES, N).astype(np.int32)
)


def random(seed, n=N):
    return 2 * np.random.default_rng(seed).normal(size=(n, CLASSES))


@hypothesis.given(logits, logits, st.integers(1, CLASSES))
def test_agreement_at_k_counts_sets_and_orders_as_a_loop_does(zs, zt, k):
    tops = [
        [sorted(range(CLASSES), key=lambda c, z=z: (-z[c], c))[:k] for z in side]
        for side in (zs, zt)
    ]
    pairs = list(zip(*tops, strict=True))
    assert evals.agreement_at_k(zs, zt, k) == np.mean([set(a) == set(b) for a, b in pairs])
    assert evals.agreement_at_k(zs, zt, k, ordered=True) == np.mean([a == b for a, b in pairs])


@hypothesis.given(logits, logits)
def test_agreement_at_k_in_its_limits(zs, zt):
    orders = [evals.agreement_at_k(zs, zt, k, ordered=True) for k in range(1, CLASSES + 1)]
    sets = [evals.agreement_at_k(zs, zt, k) for k in range(1, CLASSES + 1)]
    assert sets[0] == orders[0] == evals.agreement(zs, zt)
    assert sets[-1] == 1
    assert orders == sorted(orders, reverse=True)  # a longer order is harder to meet
    assert all(0 <= order <= as_set <= 1 for order, as_set in zip(orders, sets, strict=True))
    assert [evals.agreement_at_k(zt, zs, k) for k in range(1, CLASSES + 1)] == sets
    assert [evals.agreement_at_k(2 * zs, zs, k, ordered=True) for k in range(1, CLASSES + 1)] == [
        1
    ] * CLASSES


def test_agreement_at_k_of_strangers_is_chance_and_can_be_nothing():
    zs, zt = random(0, 20000), random(1, 20000)
    np.testing.assert_allclose(evals.agreement_at_k(zs, zt, 2), 1 / 10, atol=0.01)
    np.testing.assert_allclose(evals.agreement_at_k(zs, zt, 2, ordered=True), 1 / 20, atol=0.01)
    assert evals.agreement_at_k(zs, -zs, 2) == 0


@pytest.mark.parametrize("k", [0, CLASSES + 1])
def test_agreement_at_no_k(k):
    with pytest.raises(KdError, match=f"k must lie between 1 and the 5 classes, got {k}"):
        evals.agreement_at_k(random(0), random(1), k)


@hypothesis.given(logits, logits, labels)
def test_class_kl_adds_up_to_the_kl(zs, zt, y):
    table = evals.class_kl(zs, zt, y)
    per_example = reference.kl(reference.softmax(zt), reference.softmax(zs))
    for c in range(CLASSES):
        if (y == c).any():
            np.testing.assert_allclose(
                table[c].sum(), per_example[y == c].mean(), rtol=1e-7, atol=1e-9
            )
            assert (table[c] >= 0).all()
        else:
            assert np.isnan(table[c]).all()
    held = np.bincount(y, minlength=CLASSES) / N
    np.testing.assert_allclose(
        np.nansum(held[:, None] * table), evals.held_out_kl(zs, zt), rtol=1e-7, atol=1e-9
    )


def test_class_kl_is_nothing_for_the_teacher_itself_and_finds_where_the_student_differs():
    zt, y = random(0, 200), np.arange(200, dtype=np.int32) % CLASSES
    np.testing.assert_allclose(evals.class_kl(zt + 3, zt, y), 0, atol=1e-12)
    zs = zt.copy()
    zs[y == 2, 4] -= 3.0  # the student forgets that a 2 resembles a 4
    table = evals.class_kl(zs, zt, y)
    assert np.unravel_index(table.argmax(), table.shape) == (2, 4)
    np.testing.assert_allclose(np.delete(table, 2, axis=0), 0, atol=1e-12)


@hypothesis.given(
    logits, logits, labels, st.permutations(range(CLASSES)), st.permutations(range(N))
)
def test_new_names_for_the_classes_and_another_order_of_examples(zs, zt, y, classes, order):
    table = evals.class_kl(zs, zt, y)
    renamed = np.argsort(classes)[y].astype(np.int32)
    got = evals.class_kl(zs[:, classes][order], zt[:, classes][order], renamed[order])
    np.testing.assert_allclose(got, table[classes][:, classes], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        evals.entropy_of_targets(zt[:, classes][order], [1.0, 3.0]),
        evals.entropy_of_targets(zt, [1.0, 3.0]),
    )
    generic_s, generic_t = random(1), random(2)  # ties, which go by number, are left out
    assert evals.agreement_at_k(
        generic_s[:, classes][order], generic_t[:, classes][order], 2
    ) == evals.agreement_at_k(generic_s, generic_t, 2)


@hypothesis.given(logits)
def test_entropy_rises_with_the_temperature_from_none_to_that_of_chance(z):
    temperatures = [1e-3, 0.5, 1.0, 2.0, 5.0, 20.0, 1e4]
    entropies = evals.entropy_of_targets(z, temperatures)
    assert all(
        0 <= a <= b + 1e-12
        for a, b in zip(entropies, [*entropies[1:], np.log(CLASSES)], strict=True)
    )
    np.testing.assert_allclose(entropies[-1], np.log(CLASSES), atol=1e-5)


def test_entropy_can_move_and_certainty_has_none():
    certain = 1e4 * np.eye(CLASSES)
    assert evals.entropy_of_targets(certain, [1.0]) == [0]
    np.testing.assert_allclose(
        evals.entropy_of_targets(np.zeros((3, CLASSES)), [1.0, 9.0]), np.log(CLASSES)
    )
    assert evals.entropy_of_targets(certain, [1e4])[0] > 1


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_targets_of_an_ensemble_are_those_that_train(average, temperature):
    members = np.stack([random(seed) for seed in range(3)])
    trained_on = Outputs(jnp.asarray(members), average).log_probs(temperature)
    np.testing.assert_allclose(
        evals.soft_log_probs(members, temperature, average), trained_on, rtol=1e-5, atol=1e-5
    )
    (got,) = evals.entropy_of_targets(members, [temperature], average)
    np.testing.assert_allclose(got, divergences.entropy(trained_on).mean(), rtol=1e-5)


def test_an_ensemble_of_equals_is_one_model_and_disagreement_adds_entropy():
    members = np.stack([random(seed) for seed in range(3)])
    for average in ("arithmetic", "geometric"):
        np.testing.assert_allclose(
            evals.entropy_of_targets(np.stack([members[0]] * 3), [1.0, 4.0], average),
            evals.entropy_of_targets(members[0], [1.0, 4.0]),
        )
    apart = np.mean([evals.entropy_of_targets(member, [1.0, 4.0]) for member in members], axis=0)
    # entropy is concave
    assert (np.asarray(evals.entropy_of_targets(members, [1.0, 4.0])) > apart).all()


@pytest.mark.parametrize("temperature", [0.0, -2.0, float("nan"), float("inf")])
def test_no_such_temperature(temperature):
    with pytest.raises(KdError, match="temperature must be a positive number"):
        evals.entropy_of_targets(random(0), [1.0, temperature])
