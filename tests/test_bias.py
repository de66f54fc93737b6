"""Laws of the bias offset: exact counts, exact minima, and what a constant cannot change."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest

from kd import evals
from kd.errors import KdError

N, CLASSES = 20, 5
# Multiples of 1/8: sums are exact, and ties are frequent.
eighths = hnp.arrays(np.int64, (N, CLASSES), elements=st.integers(-40, 40)).map(lambda z: z / 8)
some_classes = st.sets(st.integers(0, CLASSES - 1), min_size=1, max_size=CLASSES - 1).map(sorted)
labels = hnp.arrays(np.int32, N, elements=st.integers(0, CLASSES - 1))


def random(n=N, seed=0):
    draw = np.random.default_rng(seed)
    return 2 * draw.normal(size=(n, CLASSES)), draw.integers(0, CLASSES, n).astype(np.int32)


@hypothesis.given(eighths, some_classes)
def test_a_shift_moves_the_logits_of_its_classes_alone(z, classes):
    moved = evals.shift(z, classes, 1.5) - z
    assert moved[:, classes].tolist() == np.full((N, len(classes)), 1.5).tolist()
    assert moved.sum() == N * len(classes) * 1.5
    assert (evals.shift(evals.shift(z, classes, 1.5), classes, -1.5) == z).all()


@hypothesis.given(eighths, some_classes)
def test_raising_some_classes_is_lowering_the_others(z, classes):
    others = [c for c in range(CLASSES) if c not in classes]
    np.testing.assert_allclose(
        evals.log_softmax(evals.shift(z, classes, 3.5)),
        evals.log_softmax(evals.shift(z, others, -3.5)),
        rtol=1e-12,
        atol=1e-12,
    )


@hypothesis.given(
    eighths, some_classes, st.integers(-100, 100).map(lambda sixteenths: (2 * sixteenths + 1) / 16)
)
def test_an_example_is_predicted_in_the_classes_beyond_its_margin(z, classes, offset):
    top = evals.shift(z, classes, offset).argmax(axis=-1)
    assert (np.isin(top, classes) == (offset > evals.margins(z, classes))).all()


@hypothesis.given(eighths, some_classes, st.floats(0.01, 0.99))
def test_no_offset_comes_nearer_to_the_share(z, classes, share):
    def distance(offset):
        return abs(evals.top_share(evals.shift(z, classes, offset), classes) - share)

    every_count = np.arange(-200, 200) / 16 + 1 / 32  # between any two eighths, and beyond them all
    assert (
        distance(evals.match_frequency(z, classes, share))
        <= min(map(distance, every_count)) + 1e-12
    )


def test_every_count_can_be_had_where_no_margins_tie():
    z, _ = random()
    for count in range(1, N):
        offset = evals.match_frequency(z, [1, 3], count / N)
        assert evals.top_share(evals.shift(z, [1, 3], offset), [1, 3]) == count / N


def test_the_offset_rises_with_the_share_and_does_not_depend_on_the_order():
    z, _ = random()
    offsets = [evals.match_frequency(z, [2], share) for share in np.linspace(0.05, 0.95, 19)]
    assert offsets == sorted(offsets)
    assert len(set(offsets)) > 10
    shuffled = z[np.random.default_rng(1).permutation(N)]
    assert [
        evals.match_frequency(shuffled, [2], share) for share in np.linspace(0.05, 0.95, 19)
    ] == offsets


@hypothesis.given(eighths, some_classes)
def test_what_was_shifted_is_shifted_back(z, classes):
    there = evals.match_frequency(z, classes, 0.4)
    again = evals.match_frequency(evals.shift(z, classes, 3.5), classes, 0.4)
    np.testing.assert_allclose(again, there - 3.5)


@hypothesis.given(eighths, labels, some_classes)
def test_the_curve_counts_what_the_shifted_classifier_gets_wrong(z, y, classes):
    offsets = np.arange(-10, 10) + 1 / 16
    curve = evals.bias_curve(z, y, classes, offsets)
    shifted = [evals.shift(z, classes, offset) for offset in offsets]
    assert curve["errors"] == [evals.errors(answers, y) for answers in shifted]
    of_them = [sum(evals.errors_per_class(answers, y)[c] for c in classes) for answers in shifted]
    assert curve["errors_on_classes"] == of_them == sorted(of_them, reverse=True)
    elsewhere = np.subtract(curve["errors"], of_them).tolist()
    assert elsewhere == sorted(elsewhere)


@hypothesis.given(eighths, labels, some_classes)
def test_no_offset_has_fewer_errors_than_the_best(z, y, classes):
    def errors(offset):
        return evals.errors(evals.shift(z, classes, offset), y)

    best = evals.best_offset(z, y, classes)
    tried = np.arange(-200, 200) / 16 + 1 / 32
    assert errors(best) == min(map(errors, tried))
    assert errors(best) == evals.bias_curve(z, y, classes, [best])["errors"][0]


def test_a_bias_that_was_spoiled_is_found_again():
    """A good classifier whose class 3 was lowered by 6: matching its frequency mends it without a
    label.
    """
    _, y = random(2000)
    z = 4 * np.eye(CLASSES)[y] + np.random.default_rng(2).normal(size=(2000, CLASSES))
    spoiled = evals.shift(z, [3], -6.0)
    matched = evals.match_frequency(spoiled, [3], float(np.mean(y == 3)))
    best = evals.best_offset(spoiled, y, [3])
    assert abs(matched - 6) < 0.5
    assert abs(best - 6) < 1
    errors, of_them = evals.bias_curve(spoiled, y, [3], [0.0, matched, best]).values()
    assert errors[2] <= errors[1] <= errors[2] + 5 < errors[0] / 10
    assert of_them[0] > 10 * of_them[1]


@pytest.mark.parametrize(
    ("classes", "share", "words"),
    [
        ([3], 0.0, r"share must lie between 0 and 1, got 0\.0.*frequency of classes \[3\]"),
        ([3], 1.0, "share must lie between 0 and 1"),
        ([3], float("nan"), "share must lie between 0 and 1, got nan"),
        ([], 0.1, r"at least one of the 5 classes and not all of them, got \[\]"),
        (range(CLASSES), 0.1, "not all of them"),
        ([5], 0.1, "class 5 is out of range: there are 5 classes, 0 to 4"),
        ([-1], 0.1, "class -1 is out of range"),
    ],
)
def test_what_is_refused(classes, share, words):
    z, _ = random()
    with pytest.raises(KdError, match=words):
        evals.match_frequency(z, list(classes), share)
