"""Metrics that text is judged by: each is what scikit-learn or scipy says, and can move."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from kd import evals
from kd.errors import KdError


def some(seed, classes, n=40):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, classes)), random.integers(0, classes, n)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.integers(0, 10**6), st.integers(2, 5), st.integers(4, 40))
def test_those_of_classes_are_scikit_learns(seed, classes, n):
    z, y = some(seed, classes, n)
    answers = z.argmax(-1)
    hypothesis.assume(len({*y.tolist(), *answers.tolist()}) > 1)
    table = metrics.confusion_matrix(y, answers, labels=range(classes))
    np.testing.assert_array_equal(evals.confusion(z, y), table)
    wanted = metrics.matthews_corrcoef(y, answers)
    np.testing.assert_allclose(evals.CLASSIFICATION["matthews"](z, y), wanted, atol=1e-9)
    average = "binary" if classes == 2 else "macro"
    wanted = metrics.f1_score(y, answers, average=average, zero_division=0)
    np.testing.assert_allclose(evals.CLASSIFICATION["f1"](z, y), wanted, atol=1e-12)


@hypothesis.given(st.integers(0, 10**6), st.integers(0, 2))
def test_those_of_numbers_are_scipys(seed, digits):
    """Rounded numbers tie."""
    random = np.random.default_rng(seed)
    z, y = random.normal(size=(2, 20)).round(digits)
    z = z + y
    hypothesis.assume(np.ptp(z) > 0 and np.ptp(y) > 0)
    np.testing.assert_allclose(evals.pearson(z, y), stats.pearsonr(z, y).statistic, atol=1e-9)
    np.testing.assert_allclose(evals.spearman(z, y), stats.spearmanr(z, y).statistic, atol=1e-9)


def test_they_move():
    y = np.arange(4.0)
    for metric in (evals.pearson, evals.spearman):
        assert metric(y, y) == pytest.approx(1)
        assert metric(-y, y) == pytest.approx(-1)
        assert metric(np.zeros(4), y) is None
    bent = np.asarray([0.0, 1.0, 2.0, 100.0])
    assert evals.spearman(bent, y) == pytest.approx(1)
    assert evals.pearson(bent, y) < 0.9
    same = np.tile([1.0, 0.0], (4, 1))
    assert evals.matthews(same, np.asarray([0, 1, 0, 1])) == 0
    assert evals.matthews(np.eye(2), np.asarray([1, 0])) == pytest.approx(-1)


def test_perplexity_counts_equally_likely_classes():
    y = np.asarray([0, 3, 1])
    assert evals.perplexity(np.zeros((3, 7)), y) == pytest.approx(7)
    assert evals.perplexity(100 * np.eye(7)[y], y) == pytest.approx(1)


def test_hidden_words_are_judged_by_their_scores():
    scores = np.asarray([[np.log(4), 1.0], [np.log(9), 0.0]])
    told = evals.measured(scores, np.zeros(2), "words")
    wanted = {"accuracy": 0.5, "errors": 1, "nll": np.log(36) / 2, "perplexity": 6.0}
    assert told == pytest.approx(wanted)
    assert set(told) == set(evals.HIDDEN_WORDS) <= set(evals.MORE_IS_BETTER)
    assert evals.badness("perplexity", scores, np.zeros(2), "words") == pytest.approx(6)
    with pytest.raises(KdError, match="judged by their scores"):
        evals.measured(np.zeros((0, 2)), np.zeros(0), "words")
