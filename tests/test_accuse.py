"""The laws of `kd.provenance.accuse`: ranks that are exact, whatever the statistic, and a student
that is closer than models which nobody taught.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.errors import KdError
from kd.provenance import STATISTICS, accuse, holm, needed, rank_p
from kd.provenance.ranks import check_enough

LOGITS = [name for name, (access, _) in STATISTICS.items() if access == "logits"]


def models(seed, count, queries=40, classes=4, alike=1.0):
    """Models of one task: what all of them know, and what each draws itself."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(1).integers(0, classes, queries)
    task = 2 * np.eye(classes)[truth] * alike
    return task + rng.normal(size=(count, queries, classes)), truth


def student_of(teacher, other, share):
    return share * teacher + (1 - share) * other


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=30), st.floats(-6, 6, width=32))
def test_a_rank_is_one_of_m_plus_one_values(null, score):
    p = rank_p(score, np.array(null))
    assert p * (len(null) + 1) == pytest.approx(round(p * (len(null) + 1)))
    assert 1 / (len(null) + 1) <= p <= 1
    assert rank_p(score, np.array(null[::-1])) == p
    assert rank_p(score + 1, np.array(null)) <= p


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_its_definition_and_monotone(p_values):
    adjusted = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    k = len(p_values)
    for j in range(k):
        steps = [min(1.0, (k - i) * p_values[order[i]]) for i in range(j + 1)]
        assert adjusted[order[j]] == max(steps)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    assert sorted(adjusted) == [adjusted[i] for i in order]
    raised = holm([min(1.0, p + 0.1) for p in p_values])
    assert all(r >= a for r, a in zip(raised, adjusted, strict=True))


@pytest.mark.parametrize("statistic", STATISTICS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_each_of_a_pool_as_the_suspect_gives_each_p_once(statistic, seed):
    """The exact law: exchangeable models have p-values that are uniform, and with ties above."""
    m = 9
    pool, truth = models(seed, m + 1)
    teacher = models(seed + 1, 1)[0][0]
    how = {"truth": truth, "statistics": [statistic], "level": 0.2, "power": False}
    p_values = [
        accuse(pool[i], teacher, np.delete(pool, i, axis=0), **how).against[0].p
        for i in range(m + 1)
    ]
    uniform = np.arange(1, m + 2) / (m + 1)
    if statistic in LOGITS:
        np.testing.assert_allclose(sorted(p_values), uniform)
    assert all(p >= u - 1e-12 for p, u in zip(sorted(p_values), uniform, strict=True))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), tried=st.sampled_from([["kl"], ["kl", "agreement"]]))
def test_the_order_of_controls_is_nothing(seed, tried):
    pool, truth = models(seed, 22)
    how = {"truth": truth, "statistics": tried, "level": 0.2, "power": False}
    shuffled = np.random.default_rng(seed).permutation(20)
    ours = accuse(pool[0], pool[1], pool[2:], **how).against[0]
    theirs = accuse(pool[0], pool[1], pool[2:][shuffled], **how).against[0]
    assert (ours.p, ours.statistic) == (theirs.p, theirs.statistic)
    assert sorted(ours.null) == pytest.approx(sorted(theirs.null))


def share_below(level, p_values):
    return np.mean(np.array(p_values) <= level)


def test_several_statistics_accuse_no_more_often():
    """Half of the controls choose. Choosing by the suspect and ranking by all of them accuses more
    often than the level, which is why it is not done.
    """
    several, naive = [], []
    for seed in range(120):
        pool, truth = models(seed, 40, queries=12)
        how = {"truth": truth, "level": 0.2, "power": False}
        suspect, teacher, controls = pool[0], models(seed + 1000, 1, queries=12)[0][0], pool[1:]
        tried = ["kl", "residual_correlation", "rare_agreement", "same_mistake"]
        told = accuse(suspect, teacher, controls, statistics=tried, **how)
        assert told.ranking == 20
        several.append(told.against[0].p)
        each = [accuse(suspect, teacher, controls, statistics=[s], **how) for s in tried]
        naive.append(min(outcome.against[0].p for outcome in each))
    assert share_below(0.2, several) < 0.31  # 0.2, and three standard errors of 120
    assert share_below(0.2, naive) > 0.3


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_student_is_found_and_an_independent_model_is_not(statistic):
    pool, truth = models(0, 60, queries=400)
    teacher, controls = pool[0], pool[11:]  # just enough of them
    how = {"truth": truth, "statistics": [statistic], "level": 0.02}
    taught = accuse(student_of(teacher, pool[1], 0.7), teacher, controls, **how)
    assert taught.accused == ("the teacher",)
    assert taught.against[0].p == 1 / 50
    alone = [accuse(pool[i], teacher, controls, power=False, **how) for i in range(2, 10)]
    assert sum(bool(outcome.accused) for outcome in alone) <= 1
    power = taught.against[0].power
    assert power[0.5] > 0.9
    assert list(power.values()) == sorted(power.values())


def test_the_teacher_that_taught_is_named_among_several():
    pool, _ = models(3, 60, queries=200)
    teachers = {"A": pool[0], "B": pool[1], "C": pool[2]}
    told = accuse(student_of(pool[1], pool[3], 0.6), teachers, pool[4:], level=0.06, power=False)
    assert told.accused == ("B",)
    by_name = {outcome.teacher: outcome for outcome in told.against}
    assert [by_name[name].adjusted for name in teachers] == holm(
        [by_name[name].p for name in teachers]
    )


def test_labels_are_all_that_is_looked_at_where_they_are_all_that_is_seen():
    pool, _ = models(4, 32, queries=100)
    labels = pool.argmax(axis=-1)
    how = {"access": "labels", "level": 0.1, "power": False}
    seen = accuse(pool[0], pool[1], pool[2:], **how)
    told = accuse(labels[0], labels[1], labels[2:], **how)
    assert dataclasses.asdict(seen) == dataclasses.asdict(told)
    with pytest.raises(KdError, match="needs logits, and labels are all"):
        accuse(labels[0], labels[1], labels[2:], statistics=["kl"], **how)
    with pytest.raises(KdError, match="of one model labels are all that is known"):
        accuse(labels[0], pool[1], pool[2:], level=0.1)


@pytest.mark.parametrize("level", [0.5, 0.1, 0.05, 0.01, 0.001])
@pytest.mark.parametrize("teachers", [1, 3])
def test_just_enough_controls(level, teachers):
    """With one fewer no suspect, however close, could be accused."""
    m = needed(level, teachers)
    assert teachers / (m + 1) <= level * (1 + 1e-9)
    assert teachers / m > level * (1 - 1e-9)
    check_enough(level, m, teachers)
    with pytest.raises(KdError, match=f"takes {m:,} controls or more, and there are {m - 1:,}"):
        check_enough(level, m - 1, teachers)


POOL = models(5, 24)[0]
REFUSED = {
    "another number of queries": ((POOL[0][:9], POOL[1], POOL[2:]), {}, "9 queries and the teach"),
    "other classes": ((POOL[0][:, :3], POOL[1], POOL[2:]), {}, "with 3 classes and the teacher"),
    "the suspect is a control": ((POOL[2], POOL[1], POOL[2:]), {}, "control 0 answers as the sus"),
    "the teacher is a control": ((POOL[0], POOL[3], POOL[2:]), {}, "control 1 answers as the tea"),
    "no teacher": ((POOL[0], {}, POOL[2:]), {}, "somebody must be the teacher"),
    "not finite": ((POOL[0] * np.nan, POOL[1], POOL[2:]), {}, "the suspect are not finite"),
    "no answers": ((POOL, POOL[1], POOL[2:]), {}, r"logits \[n v\] or with labels"),
    "a level of none": ((POOL[0], POOL[1], POOL[2:]), {"level": 0}, "between 0 and 1"),
    "too few": ((POOL[0], POOL[1], POOL[2:]), {"level": 0.01}, "takes 99 controls .* are 22"),
    "too few halves": (
        (POOL[0], POOL[1], POOL[2:]),
        {"statistics": ["kl", "agreement"], "level": 0.05},
        "several statistics takes 38 controls .* are 22",
    ),
    "an unknown statistic": (
        (POOL[0], POOL[1], POOL[2:]),
        {"statistics": ["klx"]},
        "unknown statistic 'klx'; did you mean 'kl'",
    ),
    "mistakes without labels": (
        (POOL[0], POOL[1], POOL[2:]),
        {"statistics": ["same_mistake"]},
        "counts mistakes, and the probe set has no labels",
    ),
    "unknown access": (
        (POOL[0], POOL[1], POOL[2:]),
        {"access": "weights"},
        "access of accuse must be",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line(case):
    arguments, options, message = REFUSED[case]
    with pytest.raises(KdError, match=message):
        accuse(*arguments, **{"level": 0.1, **options})
