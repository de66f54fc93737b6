"""Laws of the objective: weights, schedules, masks, ensembles, and what it refuses."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference
import tiny
from kd.core.losses import LOSSES, LossInfo, hard
from kd.core.metrics import weighted_mean
from kd.core.objective import check_widths, make_objective
from kd.core.schedules import Schedule
from kd.core.terms import term
from kd.core.types import Outputs
from kd.errors import KdError

STEPS = 10
RISING = Schedule("piecewise", points=((0.0, 1.0), (50.0, 2.0)))  # doubles half-way


def sample(shape=(4, 6), seed=0):
    random = np.random.default_rng(seed)
    zs, zt = 2 * random.normal(size=(2, *shape)).astype(np.float32)
    return (
        jnp.asarray(zs),
        jnp.asarray(zt),
        random.integers(0, shape[-1], shape[:-1]).astype(np.int32),
    )


def evaluate(terms, zs, teacher, labels=None, weight=None, step=0, numbers=None):
    batch = {"weight": jnp.ones(zs.shape[:-1]) if weight is None else jnp.asarray(weight)}
    batch |= {} if labels is None else {"labels": jnp.asarray(labels)}
    hparams = {"terms": tiny.hparams(terms)["terms"] if numbers is None else numbers}
    return make_objective(terms, STEPS)(Outputs(zs), teacher, batch, hparams, jnp.int32(step))[:2]


@hypothesis.given(st.floats(0, 10), st.floats(0.01, 10))
def test_the_total_is_the_weighted_sum_of_the_terms(a, b):
    zs, zt, labels = sample()
    terms = [term("hard", a), term("soft_targets", b, temperature=3.0)]
    total, values = evaluate(terms, zs, Outputs(zt), labels)
    np.testing.assert_allclose(total, a * values["hard"] + b * values["soft_targets"], rtol=1e-5)
    np.testing.assert_allclose(values["hard"], reference.LOSSES["hard"](zs, zt, labels), rtol=1e-4)


def test_numbers_come_from_hparams_not_from_the_term():
    zs, zt, _ = sample()
    terms = [term("soft_targets", temperature=2.0)]
    numbers = tiny.hparams([term("soft_targets", 3.0, temperature=5.0)])["terms"]
    total, _ = evaluate(terms, zs, Outputs(zt), numbers=numbers)
    np.testing.assert_allclose(
        total, 3 * reference.LOSSES["soft_targets"](zs, zt, None, 5.0), rtol=1e-4
    )


def test_a_temperature_schedule_reaches_the_loss():
    zs, zt, _ = sample()
    terms = [term("soft_targets", temperature=2.0, temperature_schedule=RISING)]
    early, late = (evaluate(terms, zs, Outputs(zt), step=step)[0] for step in (0, STEPS))
    np.testing.assert_allclose(
        early, reference.LOSSES["soft_targets"](zs, zt, None, 2.0), rtol=1e-4
    )
    np.testing.assert_allclose(late, reference.LOSSES["soft_targets"](zs, zt, None, 4.0), rtol=1e-4)


def test_a_weight_schedule_scales_the_total_and_not_the_logged_value():
    zs, _, labels = sample()
    terms = [term("hard", 1.5, weight_schedule=RISING)]
    early, values = evaluate(terms, zs, None, labels)
    late, late_values = evaluate(terms, zs, None, labels, step=STEPS)
    np.testing.assert_allclose(late, 2 * early, rtol=1e-6)
    np.testing.assert_array_equal(values["hard"], late_values["hard"])


def test_a_term_of_weight_zero_adds_nothing():
    zs, zt, labels = sample()
    with_it, _ = evaluate([term("hard"), term("kl", 0.0)], zs, Outputs(zt), labels)
    without, _ = evaluate([term("hard")], zs, Outputs(zt), labels)
    np.testing.assert_array_equal(with_it, without)


def test_a_hard_objective_ignores_the_teacher():
    zs, zt, labels = sample()
    alone, _ = evaluate([term("hard")], zs, None, labels)
    for teacher in (Outputs(zt), Outputs(-zt), Outputs(jnp.stack([zt, zs]), "per_member")):
        np.testing.assert_array_equal(evaluate([term("hard")], zs, teacher, labels)[0], alone)


def test_padding_is_not_in_the_denominator():
    zs, zt, labels = sample()
    terms = [term("hard"), term("soft_targets", temperature=3.0)]
    padded = [jnp.concatenate([x, jnp.zeros_like(x)]) for x in (zs, zt, jnp.asarray(labels))]
    weight = jnp.concatenate([jnp.ones(4), jnp.zeros(4)])
    mean = weighted_mean(evaluate(terms, zs, Outputs(zt), labels)[0], jnp.ones(4)).value
    with_padding = weighted_mean(
        evaluate(terms, padded[0], Outputs(padded[1]), padded[2], weight)[0], weight
    ).value
    np.testing.assert_allclose(with_padding, mean, rtol=1e-6)


TAUGHT = sorted(name for name, info in LOSSES.items() if info.teacher and not info.taps)


@pytest.mark.parametrize("name", TAUGHT)
def test_per_member_is_the_mean_of_the_losses(name):
    zs, zt, labels = sample()
    members = jnp.stack([zt, -zt, zs[::-1]])
    total, _ = evaluate([term(name)], zs, Outputs(members, "per_member"), labels)
    each = [evaluate([term(name)], zs, Outputs(member), labels)[0] for member in members]
    np.testing.assert_allclose(total, np.mean(each, axis=0), rtol=1e-5, atol=1e-6)


def test_forward_kl_has_the_same_gradient_per_member_as_against_the_arithmetic_mean():
    zs, zt, _ = sample()
    members = jnp.stack([zt, -zt, zs[::-1]])

    def slope(name, average):
        terms = [term(name, temperature=3.0)]
        return jax.grad(lambda z: evaluate(terms, z, Outputs(members, average))[0].sum())(zs)

    np.testing.assert_allclose(slope("kl", "per_member"), slope("kl", "arithmetic"), atol=1e-6)
    assert (
        np.abs(slope("reverse_kl", "per_member") - slope("reverse_kl", "arithmetic")).max() > 1e-3
    )


@pytest.mark.parametrize("average", ["arithmetic", "geometric", "per_member"])
def test_ensemble_answers_behind_the_mask_are_never_seen(average):
    zs, zt, _ = sample()
    weight = jnp.array([1.0, 0.0, 2.0, 0.0])
    members = jnp.stack([zt, -zt])
    spoiled = members.at[:, 1::2].set(jnp.nan)
    for z, answer in ((zs, spoiled), (zs.at[1].set(jnp.inf), members)):
        total, _ = evaluate([term("kl")], z, Outputs(answer, average), weight=weight)
        clean, _ = evaluate([term("kl")], zs, Outputs(members, average), weight=weight)
        np.testing.assert_allclose(total[::2], clean[::2], rtol=1e-6)
        assert np.isfinite(total).all()


@pytest.mark.parametrize(
    "teacher",
    [
        Outputs(jnp.zeros((1, 6))),
        Outputs(jnp.zeros((3, 1, 6)), "arithmetic"),
        Outputs(jnp.zeros((2, 2, 6))),
    ],
)
def test_a_teacher_with_other_positions_is_refused_not_broadcast(teacher):
    zs, _, _ = sample()
    with pytest.raises(KdError, match="the teacher answers for positions"):
        evaluate([term("kl")], zs, teacher)


def test_a_student_with_other_positions_is_refused():
    zs, zt, _ = sample()
    with pytest.raises(KdError, match="the student answers for positions"):
        evaluate([term("kl")], zs[:1], Outputs(zt), weight=jnp.ones(4))


def test_a_temperature_that_no_loss_reads_is_an_error():
    with pytest.raises(KdError, match=r"objective\.hard.*'temperature'"):
        term("hard", temperature=4.0)
    with pytest.raises(KdError, match=r"objective\.logit_mse has no temperature"):
        term("logit_mse", temperature_schedule=RISING)


def test_a_misspelt_loss_or_number_is_shown_with_the_nearest_name():
    with pytest.raises(KdError, match="did you mean 'soft_targets'"):
        term("soft_target")
    with pytest.raises(KdError, match="did you mean 'temperature'"):
        term("kl", temprature=2.0)


@pytest.mark.parametrize(
    ("loss", "numbers"),
    [
        ("kl", {"temperature": 0.0}),
        ("kl", {"temperature": -1.0}),
        ("kl", {"temperature": float("inf")}),
        ("kl", {"temperature": float("nan")}),
        ("jsd", {"beta": 0.0}),
        ("jsd", {"beta": 1.0}),
        ("label_smoothing", {"smoothing": 1.0}),
        ("hard", {"weight": -0.1}),
        ("hard", {"weight": float("nan")}),
    ],
)
def test_numbers_outside_their_interval_are_refused_by_name(loss, numbers):
    with pytest.raises(KdError, match=rf"objective\.{loss}\.{next(iter(numbers))} must"):
        term(loss, **numbers)


def test_terms_need_distinct_names():
    zs, zt, _ = sample()
    with pytest.raises(KdError, match="distinct names"):
        make_objective([term("kl"), term("kl", temperature=2.0)])
    with pytest.raises(KdError, match="distinct names"):
        make_objective([])
    _, values = evaluate([term("kl"), term("kl", name="kl_hot", temperature=2.0)], zs, Outputs(zt))
    assert set(values) == {"kl", "kl_hot"}
    assert np.all(values["kl"] > values["kl_hot"])


def absolute(student, teacher, batch, hparams):
    return hparams["scale"] * jnp.abs(student.logits - teacher.logits).sum(axis=-1)


def entropy_of_student(student, teacher, batch, hparams):
    return -(jnp.exp(student.log_probs()) * student.log_probs()).sum(axis=-1)


without_teacher = LossInfo(entropy_of_student, needs=())


def test_a_loss_of_the_users_by_function_or_by_path():
    zs, zt, _ = sample()
    wanted = 2 * np.abs(zs - zt).sum(-1)
    for loss in (absolute, f"{__name__}:absolute"):
        total, values = evaluate([term(loss, scale=2.0)], zs, Outputs(zt))
        assert set(values) == {"absolute"}
        np.testing.assert_allclose(total, wanted, rtol=1e-5)
    terms = [term(f"{__name__}:without_teacher")]
    check_widths(6, None, terms, labelled=False)
    total, _ = evaluate(terms, zs, None)
    p = reference.softmax(zs)
    np.testing.assert_allclose(total, -(p * np.log(p)).sum(-1), rtol=1e-4)


def test_a_function_already_in_the_table_is_the_same_loss():
    zs, _, labels = sample()
    np.testing.assert_array_equal(
        evaluate([term(hard)], zs, Outputs(zs), labels)[0],
        evaluate([term("hard")], zs, None, labels)[0],
    )


def test_different_widths_are_refused_and_both_are_shown():
    with pytest.raises(KdError, match=r"(?s)10.*12|12.*10") as error:
        check_widths(10, 12, [term("kl")], labelled=True)
    assert "10 classes" in str(error.value)
    check_widths(10, 10, [term("kl"), term("hard")], labelled=True)
    check_widths(10, None, [term("hard")], labelled=True)


def test_a_term_without_what_it_needs_is_refused_by_name():
    with pytest.raises(KdError, match=r"objective\.kl needs a teacher"):
        check_widths(10, None, [term("hard"), term("kl")], labelled=True)
    with pytest.raises(KdError, match=r"objective\.hard needs labels"):
        check_widths(10, 10, [term("hard"), term("kl")], labelled=False)
    check_widths(10, 10, [term("kl")], labelled=False)
