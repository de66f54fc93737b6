"""Laws of several teachers with a weight each."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kd
import reference
import tiny
from kd.core.types import Outputs
from kd.errors import KdError
from kd.teachers import make

DATA = tiny.dataset()
LOGITS = 3 * np.random.default_rng(0).normal(size=(64, tiny.CLASSES)).astype(np.float32)
TABLE = kd.soft_labels(logits=LOGITS, data=DATA)
AVERAGES = ("arithmetic", "geometric", "per_member")
TERMS = [kd.term("soft_targets", temperature=3.0)]


def answer(teacher):
    return teacher.apply(teacher.variables, tiny.batch())


def probs(teacher, temperature=2.0):
    return np.exp(answer(teacher).log_probs(temperature))


def fit(teacher):
    return kd.fit(tiny.PLAIN, DATA, TERMS, teacher=teacher, epochs=2, batch_size=16).params


@given(
    weights=st.lists(st.floats(0.1, 10.0), min_size=2, max_size=3),
    average=st.sampled_from(AVERAGES[:2]),
    temperature=st.floats(0.5, 10.0),
)
def test_a_mixture_is_the_weighted_mean(weights, average, temperature):
    teachers = [tiny.teacher(i) for i in range(len(weights))]
    mixed = kd.mixture(list(zip(teachers, weights, strict=True)), average=average)
    z = np.stack([np.float64(answer(teacher).logits) for teacher in teachers])
    w = (np.array(weights) / sum(weights))[:, None, None]
    wanted = (
        (w * reference.softmax(z, temperature)).sum(0)
        if average == "arithmetic"
        else reference.softmax((w * z).sum(0), temperature)
    )
    np.testing.assert_allclose(probs(mixed, temperature), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("average", AVERAGES)
def test_equal_teachers_are_the_one_and_a_weight_of_nothing_counts_nothing(average):
    alone = fit(tiny.teacher())
    for pairs in (
        [(tiny.teacher(), 1.0)] * 3,
        [(tiny.teacher(), 5)],
        [(tiny.teacher(), 1.0), (tiny.teacher(1), 0.0), (TABLE, 0.0)],
    ):
        tiny.close(fit(kd.mixture(pairs, average=average)), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("average", AVERAGES)
def test_equal_weights_are_an_ensemble(average):
    whole = make.ensemble(tiny.WIDE, tiny.members(), average=average)
    mixed = kd.mixture([(tiny.teacher(i), 1.0) for i in range(3)], average=average)
    tiny.close(fit(mixed), fit(whole), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("average", AVERAGES)
def test_live_teachers_and_tables_mix_and_are_kept(average):
    live = tiny.teacher()
    mixed = kd.mixture([(live, 0.7), (TABLE, 0.3)], average=average)
    tables = kd.mixture([(kd.precompute(live, DATA), 0.7), (TABLE, 0.3)], average=average)
    kept = kd.precompute(mixed, DATA)
    assert kept.manifest.members == 2
    for other in (tables, kept):
        tiny.close(fit(mixed), fit(other), rtol=1e-4, atol=1e-5)
    assert tiny.differ(fit(mixed), fit(live))


def test_a_geometric_ensemble_counts_as_its_mean_logits():
    ensemble = make.ensemble(tiny.WIDE, tiny.members(), average="geometric")
    mixed = kd.mixture([(ensemble, 0.5), (TABLE, 0.5)])
    z = np.asarray(answer(ensemble).logits, np.float64).mean(axis=0)
    other = np.asarray(answer(TABLE).logits, np.float64)
    wanted = (reference.softmax(z, 2.0) + reference.softmax(other, 2.0)) / 2
    np.testing.assert_allclose(probs(mixed), wanted, rtol=1e-4, atol=1e-6)


def test_an_arithmetic_ensemble_keeps_its_share():
    ensemble = make.ensemble(tiny.WIDE, tiny.members())
    mixed = kd.mixture([(ensemble, 0.5), (TABLE, 0.5)])
    assert answer(mixed).weights == pytest.approx((1 / 6,) * 3 + (0.5,))
    wanted = (probs(ensemble) + probs(TABLE)) / 2
    np.testing.assert_allclose(probs(mixed), wanted, rtol=1e-4, atol=1e-6)


def test_classes_that_one_teacher_rules_out():
    p = np.eye(tiny.CLASSES)[np.arange(64) % tiny.CLASSES]
    certain = kd.soft_labels(probabilities=p, data=DATA)
    mixed = kd.mixture([(certain, 0.5), (TABLE, 0.5)])
    np.testing.assert_allclose(probs(mixed), (probs(certain) + probs(TABLE)) / 2, atol=1e-6)
    assert mixed.manifest.zeros
    assert np.isfinite(np.ravel(fit(mixed)["Dense_0"]["kernel"])).all()
    nothing = kd.mixture([(certain, 0.0), (TABLE, 1.0)], average="geometric")
    np.testing.assert_allclose(probs(nothing), probs(TABLE), rtol=1e-5)


def test_weights_survive_what_is_done_to_outputs():
    outputs = Outputs(jnp.ones((2, 3, 5)), "arithmetic", weights=(0.7, 0.3))
    assert outputs.masked(jnp.ones(3)).weights == (0.7, 0.3)
    assert outputs.astype(jnp.bfloat16).weights == (0.7, 0.3)
    assert outputs.member(0).weights is None


OTHER = kd.soft_labels(logits=LOGITS[:32], data=tiny.dataset(32))
REFUSED = [
    ([], "pairs of a teacher"),
    ([tiny.teacher()], "pairs of a teacher"),
    ([(tiny.teacher(), 0.0)], "not all 0"),
    ([(tiny.teacher(), -1.0), (TABLE, 2.0)], "0 or more"),
    ([(tiny.teacher(), True)], "0 or more"),
    ([(TABLE, 1.0), (OTHER, 1.0)], "different examples"),
]


@pytest.mark.parametrize(("teachers", "words"), REFUSED)
def test_what_is_no_mixture_is_refused(teachers, words):
    with pytest.raises(KdError, match=words):
        kd.mixture(teachers)


def test_answers_that_do_not_fit_are_refused_before_the_first_step():
    wide = kd.soft_labels(logits=np.pad(LOGITS, ((0, 0), (0, 2))), data=DATA)
    with pytest.raises(KdError, match="answer with shapes"):
        fit(kd.mixture([(TABLE, 1.0), (wide, 1.0)]))
    ensemble = make.ensemble(tiny.WIDE, tiny.members())
    with pytest.raises(KdError, match="has no logits of its own"):
        fit(kd.mixture([(TABLE, 1.0), (ensemble, 1.0)], average="geometric"))
