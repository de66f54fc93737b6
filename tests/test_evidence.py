"""Evidence: an interval that covers, and a verdict that does not care which arm is called the
treatment.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.errors import KdError
from kd.evidence import (
    compare_counts,
    compare_errors,
    few_factor,
    interval,
    machine,
    mean_sd,
    t_interval,
)

EXAMPLES = 60
wrong = st.sets(st.integers(0, EXAMPLES - 1)).map(sorted)
arms = st.integers(1, 4).flatmap(
    lambda seeds: st.tuples(*[st.lists(wrong, min_size=seeds, max_size=seeds)] * 2)
)


def rows(matrix):
    """For each seed, the examples it gets wrong."""
    return [np.flatnonzero(row).tolist() for row in matrix]


def simulated(random, seeds, examples, effect=0.0):
    """Two arms of equal difficulty by example and by seed; the treatment errs less by `effect` of
    every example.
    """
    difficulty = random.beta(0.5, 2.0, size=examples)
    skill = random.normal(0, 0.05, size=(seeds, 1))
    control = random.random((seeds, examples)) < np.clip(difficulty + skill, 0, 1)
    treatment = random.random((seeds, examples)) < np.clip(difficulty + skill - effect, 0, 1)
    return treatment, control


@given(arms)
def test_swapping_the_arms_flips_the_verdict(both):
    treatment, control = both
    value = compare_errors(treatment, control, EXAMPLES, resamples=200)
    other = compare_errors(control, treatment, EXAMPLES, resamples=200)
    assert value.difference == -other.difference
    np.testing.assert_allclose([value.low, value.high], [-other.high, -other.low], atol=1e-9)
    flipped = {"HELPS": "HURTS", "HURTS": "HELPS", "NO EVIDENCE": "NO EVIDENCE"}
    assert value.verdict == flipped[other.verdict]
    assert value.low <= value.high


@given(arms)
def test_identical_arms_are_no_evidence(both):
    comparison = compare_errors(both[0], both[0], EXAMPLES, resamples=50)
    assert (comparison.difference, comparison.low, comparison.high) == (0, 0, 0)
    assert comparison.verdict == "NO EVIDENCE"


@given(arms)
def test_the_difference_is_that_of_the_mean_errors(both):
    treatment, control = both
    wanted = np.mean([len(seed) for seed in treatment]) - np.mean([len(seed) for seed in control])
    assert compare_errors(treatment, control, EXAMPLES, resamples=50).difference == pytest.approx(
        wanted
    )


def test_a_large_effect_is_found_and_more_of_it_is_clearer():
    """The further the arms are apart, the further zero is from the interval, counted in its
    widths.
    """
    random, clearness = np.random.default_rng(0), []
    for effect in (0.0, 0.05, 0.2):
        treatment, control = simulated(random, 8, 400, effect)
        comparison = compare_errors(rows(treatment), rows(control), 400)
        clearness.append(-comparison.high / (comparison.high - comparison.low))
        verdict = comparison.verdict
    assert clearness == sorted(clearness)
    assert verdict == "HELPS"


def test_more_examples_and_more_seeds_narrow_the_interval():
    treatment, control = simulated(np.random.default_rng(0), 16, 1600)

    def width(seeds, examples):
        few = treatment[:seeds, :examples], control[:seeds, :examples]
        comparison = compare_errors(rows(few[0]), rows(few[1]), examples)
        return (comparison.high - comparison.low) / examples

    assert width(16, 100) > 1.5 * width(16, 1600)
    assert width(2, 400) > 1.5 * width(16, 400)


def test_examples_are_resampled_too():
    """Seeds that all agree leave no spread between seeds; the test examples could still have been
    others.
    """
    comparison = compare_errors([[0, 1, 2]] * 5, [[3, 4]] * 5, EXAMPLES)
    assert comparison.low < 0 < comparison.high
    assert comparison.verdict == "NO EVIDENCE"


def test_seeds_are_resampled_too():
    """Seeds that disagree on the sign are a spread, even where they cancel on every example."""
    better, worse = [], list(range(20))
    comparison = compare_errors([better, worse] * 3, [worse, better] * 3, EXAMPLES)
    assert comparison.low < -5
    assert comparison.high > 5


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """At least 95% of 200 simulated experiments: noise in seeds and examples at once is counted in
    both.
    """
    random, covered, wrongly, differences, widths = np.random.default_rng(0), 0, 0, [], []
    for _ in range(200):
        treatment, control = simulated(random, 10, 200)  # the truth: no difference
        comparison = compare_errors(rows(treatment), rows(control), 200, resamples=400)
        covered += comparison.low <= 0 <= comparison.high
        wrongly += comparison.verdict != "NO EVIDENCE"
        differences.append(comparison.difference)
        widths.append(comparison.high - comparison.low)
    assert covered >= 0.95 * 200
    assert covered + wrongly == 200
    # and is not so wide that it says nothing
    assert np.mean(widths) < 2 * 3.92 * np.std(differences)


@pytest.mark.parametrize("shape", [(5, 300), (300, 6), (5, 6)])
def test_few_seeds_or_units_are_no_excuse_for_verdicts(shape):
    """Arms of equal merit, and runs or speakers that are lucky: a verdict is wrong one time in
    twenty.
    """
    random, wrongly, tried = np.random.default_rng(0), 0, 400
    for _ in range(tried):
        luck = sum(
            random.normal(size=(n, 1)[::order])
            for n, order in zip(shape, (1, -1), strict=True)
            if n < 10
        )
        difference = 100 + luck + 0.01 * random.normal(size=shape)
        comparison = compare_counts(
            difference.tolist(), np.full(shape, 100.0).tolist(), resamples=400
        )
        wrongly += not comparison.low <= 0 <= comparison.high
    assert 0.01 * tried < wrongly < 0.09 * tried


def test_of_many_seeds_an_interval_stays_as_it_is():
    factors = [few_factor(n) for n in (2, 3, 5, 10, 30, 10_000)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(1, abs=1e-3)
    assert few_factor(1) == 1


@given(st.integers(0, 2**31), st.integers(6, 40), st.floats(0.1, 100))
def test_the_interval_of_a_mean_is_about_that_of_student(seed, seeds, spread):
    values = (spread * np.random.default_rng(seed).normal(size=seeds)).tolist()
    _, low, high = interval([[[value] for value in values]], lambda mean: mean, resamples=1000)
    below, above = t_interval(values)
    assert high - low == pytest.approx(above - below, rel=0.25)


def test_the_same_results_give_the_same_interval():
    treatment, control = map(rows, simulated(np.random.default_rng(1), 3, 100, 0.1))
    assert compare_errors(treatment, control, 100) == compare_errors(treatment, control, 100)


@pytest.mark.parametrize(("treatment", "control"), [([], []), ([[1]], [[1], [2]])])
def test_arms_that_cannot_be_paired(treatment, control):
    with pytest.raises(KdError, match="same seeds in both arms"):
        compare_errors(treatment, control, EXAMPLES)


# --- units that are resampled whole ---


@given(arms)
def test_examples_that_are_units_of_their_own_are_compared_as_examples(both):
    matrices = [[[float(i in seed) for i in range(EXAMPLES)] for seed in arm] for arm in both]
    assert compare_counts(*matrices, resamples=50) == compare_errors(*both, EXAMPLES, resamples=50)


def test_examples_that_err_together_are_less_evidence():
    """Ten examples of a unit that are always right or wrong together are one example ten times."""
    treatment, control = simulated(np.random.default_rng(0), 8, 40, 0.1)
    together = compare_counts((10.0 * treatment).tolist(), (10.0 * control).tolist())
    apart = compare_counts(
        *(np.repeat(arm, 10, axis=1).astype(float).tolist() for arm in (treatment, control))
    )
    assert together.difference == pytest.approx(apart.difference)
    assert together.high - together.low > 1.2 * (apart.high - apart.low)


@pytest.mark.parametrize(
    ("treatment", "control"), [([], []), ([[1.0]], [[1.0], [2.0]]), ([[1.0]], [[1.0, 2.0]])]
)
def test_counts_that_cannot_be_paired(treatment, control):
    with pytest.raises(KdError, match="same seeds and units"):
        compare_counts(treatment, control)


tables = st.integers(1, 5).flatmap(
    lambda units: st.tuples(
        *[
            st.lists(
                st.lists(st.integers(0, 9), min_size=units, max_size=units), min_size=1, max_size=3
            )
        ]
        * 2
    )
)


@given(tables)
def test_the_interval_of_a_difference_flips_with_it(both):
    value, low, high = interval(both, lambda a, b: a - b, resamples=50)
    other, below, above = interval(both, lambda a, b: b - a, resamples=50)
    assert (value, low, high) == pytest.approx((-other, -above, -below))
    assert value == pytest.approx(np.sum(both[0]) / len(both[0]) - np.sum(both[1]) / len(both[1]))


@given(tables)
def test_arms_are_paired_by_unit(both):
    """An arm and itself plus one in every unit differ by exactly the number of units, whichever are
    drawn.
    """
    arm = both[0][:1]
    more = [[count + 1 for count in seed] for seed in arm]
    assert interval([more, arm], lambda a, b: a - b, resamples=50) == pytest.approx(
        (len(arm[0]),) * 3
    )


def test_what_is_not_defined_is_left_out():
    arms = [[[1, 0, 3]], [[1, 0, 1]]]
    value, low, high = interval(
        arms, lambda a, b: np.where(b > 0, a / np.where(b > 0, b, 1), np.nan)
    )
    assert value == 2
    assert low < 2 < high
    assert np.isnan(interval(arms, lambda a, _: a * np.nan)).all()
    with pytest.raises(KdError, match="same units"):
        interval([[[1, 2]], [[1]]], lambda a, b: a - b)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_mean_and_standard_deviation(values):
    mean, sd = mean_sd(values)
    assert mean == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert sd**2 == pytest.approx(
        sum((v - mean) ** 2 for v in values) / (len(values) - 1), rel=1e-5, abs=1e-6
    )
    assert mean_sd(values[:1]) == (values[0], 0.0)


def test_the_machine_is_named():
    text = machine()
    assert text["cores"] >= 1
    assert text["cpu"]
    assert set(text["versions"]) >= {"jax", "flax", "optax", "numpy"}


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=8), st.floats(-50, 50), st.floats(0.1, 10)
)
def test_a_t_interval_moves_and_stretches_with_its_values(values, shift, scale):
    low, high = t_interval(values)
    moved = t_interval([scale * value + shift for value in values])
    np.testing.assert_allclose(
        moved, (scale * low + shift, scale * high + shift), rtol=1e-6, atol=1e-6
    )
    assert low <= np.mean(values) <= high


def test_a_t_interval_holds_the_truth_nineteen_times_in_twenty():
    random = np.random.default_rng(0)
    held = [
        low <= 0 <= high
        for low, high in (t_interval(random.normal(size=3).tolist()) for _ in range(2000))
    ]
    assert 0.93 < np.mean(held) < 0.97
    assert np.isnan(t_interval([1.0])).all()


@pytest.mark.parametrize(
    "rows", [[-1], [10], np.array([True, False] * 5), np.array([1.0]), np.array([[1]])], ids=str
)
def test_rows_that_are_not_of_the_test_set_are_refused(rows):
    with pytest.raises(KdError, match="rows"):
        compare_errors([rows] * 5, [[1]] * 5, 10)


def test_rows_in_an_array_are_the_same_rows():
    rows = np.array([[1, 2], [2, 3]])
    assert compare_errors(rows, rows[::-1], 10) == compare_errors(
        [[1, 2], [2, 3]], [[2, 3], [1, 2]], 10
    )


@pytest.mark.parametrize("counts", [[[1.0, np.nan]], [[]], [[1.0, 2.0], [1.0]]])
def test_counts_that_are_no_table_of_numbers_are_refused(counts):
    with pytest.raises(KdError, match=r"errors must be|same seeds and units"):
        compare_counts(counts, counts)
