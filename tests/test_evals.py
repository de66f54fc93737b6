"""Laws of the measures: each against an independent reference, and each can move."""

import inspect

import hypothesis
import hypothesis.strategies as st
import jaxtyping
import numpy as np
import pytest

import reference
from kd import evals
from kd.errors import KdError

N, CLASSES = 12, 5


def some(n=N, seed=0, scale=2.0):
    random = np.random.default_rng(seed)
    return scale * random.normal(size=(n, CLASSES)), random.integers(0, CLASSES, n)


# no ties, and no confidence on the edge of a bin
NOISE = np.random.default_rng(0).normal(size=(N, CLASSES))
logits = reference.logits(shape=(N, CLASSES)).map(lambda z: z + 0.1 * NOISE)
PERFECT, LABELS = 100 * np.eye(CLASSES), np.arange(CLASSES)


@hypothesis.given(logits, st.integers(0, 1000))
def test_every_measure_of_a_classifier_matches_a_loop(z, seed):
    y = np.random.default_rng(seed).integers(0, CLASSES, N)
    p = reference.softmax(z)
    missed = [i for i in range(N) if int(p[i].argmax()) != y[i]]
    got = evals.classify(z, y)
    assert got["errors"] == len(missed)
    assert got["errors_per_class"] == [sum(y[i] == c for i in missed) for c in range(CLASSES)]
    assert evals.wrong(z, y).tolist() == missed
    np.testing.assert_allclose(got["accuracy"], 1 - len(missed) / N)
    np.testing.assert_allclose(got["nll"], np.mean([-np.log(p[i, y[i]]) for i in range(N)]))
    np.testing.assert_allclose(
        got["brier"], np.mean([((p[i] - np.eye(CLASSES)[y[i]]) ** 2).sum() for i in range(N)])
    )
    np.testing.assert_allclose(got["ece"], ece_by_loop(p, y), atol=1e-9)
    np.testing.assert_allclose(evals.log_softmax(z), np.log(p), rtol=1e-9, atol=1e-12)


def ece_by_loop(p, y, bins=15):
    total, confidence = 0.0, p.max(-1)
    for b in range(bins):
        last = b == bins - 1
        inside = (confidence >= b / bins) & ((confidence < (b + 1) / bins) | last)
        if inside.any():
            accuracy = np.mean(p[inside].argmax(-1) == y[inside])
            total += inside.mean() * abs(accuracy - confidence[inside].mean())
    return total


def test_a_perfect_classifier():
    got = evals.classify(PERFECT, LABELS)
    assert (got["accuracy"], got["errors"], got["errors_per_class"]) == (1.0, 0, [0] * CLASSES)
    np.testing.assert_allclose([got["nll"], got["brier"], got["ece"]], 0, atol=1e-12)


def test_a_perfectly_wrong_classifier():
    got = evals.classify(PERFECT, (LABELS + 1) % CLASSES)
    assert (got["accuracy"], got["errors"], got["errors_per_class"]) == (
        0.0,
        CLASSES,
        [1] * CLASSES,
    )
    np.testing.assert_allclose([got["nll"], got["brier"], got["ece"]], [100, 2, 1])


@pytest.mark.parametrize("name", sorted(evals.CLASSIFICATION))
def test_every_measure_of_a_classifier_can_move(name):
    measure = evals.CLASSIFICATION[name]
    assert measure(PERFECT, LABELS) != measure(PERFECT, (LABELS + 1) % CLASSES)
    assert measure.__doc__  # and has its definition


@hypothesis.given(logits, st.integers(0, 1000))
def test_bounds(z, seed):
    y = np.random.default_rng(seed).integers(0, CLASSES, N)
    got = evals.classify(z, y)
    assert 0 <= got["brier"] <= 2
    assert 0 <= got["ece"] <= 1
    assert got["nll"] >= 0
    assert sum(got["errors_per_class"]) == got["errors"] == round((1 - got["accuracy"]) * N)


def test_the_true_probabilities_are_calibrated_and_sharper_ones_are_not():
    random = np.random.default_rng(0)
    z = 1.5 * random.normal(size=(20000, CLASSES))
    # drawn from softmax(z)
    y = (reference.softmax(z).cumsum(-1) > random.uniform(size=(20000, 1))).argmax(-1)
    honest, overconfident, timid = (evals.ece(scale * z, y) for scale in (1, 4, 0.25))
    assert honest < 0.02 < 0.1 < min(overconfident, timid)
    assert evals.errors(z, y) == evals.errors(4 * z, y)  # though the decisions are the same
    # proper scores know it too
    assert evals.nll(z, y) < min(evals.nll(4 * z, y), evals.nll(z / 4, y))
    assert evals.brier(z, y) < min(evals.brier(4 * z, y), evals.brier(z / 4, y))


def test_certainty_falls_into_the_last_bin():
    probabilities = np.array([[1.0, 0, 0, 0, 0], [0.97, 0.01, 0.01, 0.005, 0.005]])
    with np.errstate(divide="ignore"):
        z = np.maximum(np.log(probabilities), -100)
    # wrong and right, in one bin
    np.testing.assert_allclose(evals.ece(z, np.array([1, 0])), (1.97 - 1) / 2)


def test_a_constant_added_to_logits_and_the_order_of_examples_change_nothing():
    z, y = some()
    order = np.random.default_rng(1).permutation(N)
    for other in (evals.classify(z + 30, y), evals.classify(z[order], y[order])):
        for name, value in evals.classify(z, y).items():
            np.testing.assert_allclose(other[name], value, atol=1e-9)


def test_agreement_counts_the_same_decisions():
    z, _ = some(100)
    other, _ = some(100, seed=1)
    assert evals.agreement(z, 3 * z + 1) == 1.0
    assert evals.agreement(z, -z) == 0.0
    assert (
        evals.agreement(z, other)
        == evals.agreement(other, z)
        == np.mean([a.argmax() == b.argmax() for a, b in zip(z, other, strict=True)])
    )


def test_agreement_on_errors_looks_at_the_teachers_errors_alone():
    teacher = PERFECT[[0, 1, 2, 3]]
    labels = np.array([0, 1, 3, 4])  # the teacher is wrong about the last two
    skilled, apprentice = PERFECT[labels], teacher
    halfway = PERFECT[[4, 4, 2, 4]]  # shares one of the two errors, and is wrong elsewhere
    assert evals.agreement_on_errors(skilled, teacher, labels) == 0.0
    assert evals.agreement_on_errors(apprentice, teacher, labels) == 1.0
    assert evals.agreement_on_errors(halfway, teacher, labels) == 0.5
    assert evals.agreement_on_errors(skilled, PERFECT[labels], labels) is None


@hypothesis.given(logits, logits)
def test_held_out_kl_matches_and_goes_from_teacher_to_student(zs, zt):
    wanted = reference.kl(reference.softmax(zt), reference.softmax(zs)).mean()
    np.testing.assert_allclose(evals.held_out_kl(zs, zt), wanted, rtol=1e-7, atol=1e-9)


def test_held_out_kl_is_zero_for_the_same_distribution_only():
    z, _ = some()
    np.testing.assert_allclose(evals.held_out_kl(z + 5, z), 0, atol=1e-12)
    assert evals.held_out_kl(1.01 * z, z) > 1e-6
    assert evals.agreement(1.01 * z, z) == 1.0  # which agreement cannot see


def test_compare_holds_every_measure_of_the_pair():
    (zs, y), (zt, _) = some(50), some(50, seed=1)
    assert evals.compare(zs, zt, y) == {
        "agreement": evals.agreement(zs, zt),
        "agreement_on_errors": evals.agreement_on_errors(zs, zt, y),
        "held_out_kl": evals.held_out_kl(zs, zt),
    }


def test_float32_logits_are_measured_in_float64():
    z, y = some()
    narrow = z.astype(np.float32)
    assert evals.nll(narrow, y) == evals.nll(narrow.astype(np.float64), y)


NOT_LABELS = {
    "one for all": LABELS[:1],
    "too few": LABELS[:-1],
    "a column": LABELS[:, None],
    "beyond the classes": LABELS + 1,
    "negative": LABELS - 1,
}


@pytest.mark.parametrize("name", sorted(evals.CLASSIFICATION))
@pytest.mark.parametrize("wrong", NOT_LABELS)
def test_labels_that_would_be_repeated_or_wrapped_are_refused(name, wrong):
    measure = inspect.unwrap(evals.CLASSIFICATION[name])
    with pytest.raises((KdError, jaxtyping.TypeCheckError), match=r"label|Labels"):
        measure(PERFECT, NOT_LABELS[wrong])


@pytest.mark.parametrize("hole", [np.nan, np.inf])
@pytest.mark.parametrize(
    "measure", [*evals.CLASSIFICATION.values(), lambda z, _: evals.agreement(z, z)]
)
def test_answers_that_are_not_finite_are_no_class(measure, hole):
    z = PERFECT.copy()
    z[2, 1] = hole  # which argmax would take
    with pytest.raises(KdError, match="example 2 are not"):
        measure(z, LABELS)


def test_a_class_that_both_rule_out_adds_nothing():
    z, y = some()
    ruled_out = np.concatenate([z, np.full((N, 1), -np.inf)], axis=1)
    first, other = ruled_out, np.concatenate([z[:, ::-1], np.full((N, 1), -np.inf)], axis=1)
    assert evals.held_out_kl(first, other) == pytest.approx(evals.held_out_kl(z, z[:, ::-1]))
    assert evals.entropy_of_targets(first, (1.0, 3.0)) == pytest.approx(
        evals.entropy_of_targets(z, (1.0, 3.0))
    )
    assert evals.class_kl(first, other, y)[:CLASSES, :CLASSES] == pytest.approx(
        evals.class_kl(z, z[:, ::-1], y), nan_ok=True
    )


def test_nothing_is_no_result():
    with pytest.raises(KdError, match="nothing to evaluate"):
        evals.accuracy(PERFECT[:0], LABELS[:0])
