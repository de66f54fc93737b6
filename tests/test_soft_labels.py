"""Laws of soft labels: what fits teaches as a model would, and what does not is refused first."""

import jax
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
from kd.teachers import answers as predict

DATA = tiny.dataset()
LOGITS = 3 * np.random.default_rng(0).normal(size=(64, tiny.CLASSES)).astype(np.float32)
P = reference.softmax(LOGITS, 1.0)
SPARSE = np.eye(tiny.CLASSES)[np.arange(64) % tiny.CLASSES] * 0.7 + 0.3 * np.eye(tiny.CLASSES)[0]


def asked(teacher, temperature=1.0):
    """The softened distributions of a table, ``[n v]``."""
    outputs = teacher.apply(teacher.variables, {"index": jnp.arange(64)})
    return np.exp(outputs.log_probs(temperature))


def fit(teacher, *terms, **options):
    terms = list(terms) or [kd.term("soft_targets", temperature=2.0)]
    options = {"epochs": 2, "batch_size": 16, **options}
    return kd.fit(tiny.PLAIN, DATA, terms, teacher=teacher, **options)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_logits_and_their_probabilities_are_one_teacher(temperature):
    logits = kd.soft_labels(logits=LOGITS, data=DATA)
    wanted = reference.softmax(LOGITS, temperature)
    np.testing.assert_allclose(asked(logits, temperature), wanted, rtol=1e-5, atol=1e-7)
    for kept_at in (1.0, 4.0):
        softened = reference.softmax(LOGITS, kept_at)
        table = kd.soft_labels(probabilities=softened, data=DATA, temperature=kept_at)
        np.testing.assert_allclose(asked(table, temperature), wanted, rtol=1e-4, atol=1e-6)
        assert table.manifest.kind == "probabilities"
        assert table.manifest.temperature == kept_at


def test_a_table_of_a_models_logits_trains_the_students_of_the_model():
    live = tiny.teacher()
    table = kd.soft_labels(logits=predict.answers(live, DATA).logits, data=DATA)
    students = [fit(teacher).params for teacher in (live, kd.precompute(live, DATA), table)]
    tiny.close(students[0], students[1])
    tiny.close(students[1], students[2])


def test_eight_devices_learn_from_a_table_as_one_does():
    for table in (
        kd.soft_labels(probabilities=SPARSE, data=DATA),
        kd.soft_labels(logits=np.stack([LOGITS, -LOGITS]), data=DATA, average="arithmetic"),
    ):
        alone = fit(table, mesh=kd.MeshSpec(devices=1)).params
        eight = fit(table, mesh=kd.MeshSpec(devices=8)).params
        tiny.close(alone, jax.device_get(eight), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_members_of_a_table_are_averaged_as_models_are(average):
    members = np.stack([LOGITS, -LOGITS, LOGITS[::-1]])
    table = kd.soft_labels(
        probabilities=reference.softmax(members, 1.0), data=DATA, average=average
    )
    wanted = np.exp(Outputs(jnp.asarray(members), average).log_probs(2.0))
    np.testing.assert_allclose(asked(table, 2.0), wanted, rtol=1e-4, atol=1e-6)
    assert table.manifest.members == 3


@pytest.mark.parametrize("name", ["kl", "soft_targets", "jsd"])
@given(seed=st.integers(0, 999), temperature=st.floats(0.5, 20.0))
def test_zeros_have_finite_values_and_gradients_where_they_are_allowed(name, seed, temperature):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(5), size=64)
    p[:, :3] *= random.integers(0, 2, (64, 3))
    p /= p.sum(axis=1, keepdims=True)
    table = kd.soft_labels(probabilities=p, data=DATA)
    outputs = table.apply(table.variables, {"index": jnp.arange(64)})
    loss = kd.term(name).info.loss
    hparams = {"temperature": jnp.float32(temperature), "beta": jnp.float32(0.3)}
    student = jnp.asarray(random.normal(size=(64, 5)), jnp.float32)

    def total(z):
        return loss(Outputs(z), outputs, {}, hparams).sum()

    value, gradient = jax.value_and_grad(total)(student)
    # 0 log 0 = 0: what a probability of nearly 0 tends to
    nearly = Outputs(jnp.log(jnp.asarray(np.maximum(p, 1e-37), jnp.float32)))
    if name != "jsd" and temperature <= 2.0:
        wanted = loss(Outputs(student), nearly, {}, hparams).sum()
        np.testing.assert_allclose(value, wanted, rtol=1e-3)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_one_hot_probabilities_are_hard_labels():
    """At temperature 1 the divergence from certainty is the cross-entropy with the label."""
    table = kd.soft_labels(probabilities=np.eye(tiny.CLASSES)[DATA.labels], data=DATA)
    soft = fit(table, kd.term("kl"))
    tiny.close(soft.params, fit(None, kd.term("hard")).params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["reverse_kl", "logit_mse"])
def test_a_loss_that_zeros_make_infinite_refuses_them_by_name(name):
    with pytest.raises(KdError, match=f"objective.{name} allows no probability"):
        fit(kd.soft_labels(probabilities=SPARSE, data=DATA), kd.term(name))
    fit(kd.soft_labels(probabilities=P, data=DATA), kd.term(name))


def spoiled(values, value, row=7):
    values = np.array(values)
    values[row, 2] = value
    return values


REFUSED = {
    "neither": ({}, "exactly one of the two"),
    "both": ({"logits": LOGITS, "probabilities": P}, "exactly one of the two"),
    "too few rows": ({"logits": LOGITS[:63]}, "63 rows and the data has 64"),
    "one row": ({"probabilities": P[:1]}, "1 rows and the data has 64"),
    "too many rows": ({"logits": np.concatenate([LOGITS] * 2)}, "128 rows and the data has 64"),
    "NaN": ({"logits": spoiled(LOGITS, np.nan)}, "logits hold NaN or infinity, first in row 7"),
    "infinity": ({"logits": spoiled(LOGITS, np.inf)}, "first in row 7"),
    "more than float32 holds": ({"logits": spoiled(np.float64(LOGITS), 1e300)}, "in row 7"),
    "a probability of NaN": ({"probabilities": spoiled(P, np.nan)}, "probabilities hold NaN"),
    "below 0": ({"probabilities": spoiled(P, -0.1)}, "below 0 .*first in row 7"),
    "logits for probabilities": ({"probabilities": LOGITS}, "pass logits="),
    "a sum of 100": ({"probabilities": 100 * P}, "do not sum to 1, first in row 0"),
    "probabilities for logits": ({"logits": P}, "look like probabilities"),
    "one-hot rows for logits": ({"logits": np.eye(5)[DATA.labels]}, "look like probabilities"),
    "labels": ({"probabilities": DATA.labels}, r"class indices are labels"),
    "text": ({"logits": [["a"] * 5] * 64}, "must be real numbers"),
    "rows of different lengths": ({"logits": [[1.0], [1.0, 2.0]]}, "are no array"),
    "masked": ({"logits": np.ma.masked_greater(LOGITS, 1.0)}, "masked values"),
    "a temperature of logits": ({"logits": LOGITS, "temperature": 2.0}, "logits are not"),
    "a temperature of 0": ({"probabilities": P, "temperature": 0}, "above 0"),
    "members without an axis": ({"logits": LOGITS, "average": "arithmetic"}, r"\[e n v\]"),
    "members that agree on nothing": (
        {"probabilities": np.stack([np.eye(5)[DATA.labels], np.eye(5)[DATA.labels - 1]])}
        | {"average": "geometric"},
        "no class that all members allow, first in row 0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    keys, message = REFUSED[case]
    with pytest.raises(KdError, match=message):
        kd.soft_labels(**{"data": DATA, **keys})


@pytest.mark.parametrize("classes", [4, 7])
def test_other_classes_than_the_students_are_refused(classes):
    table = kd.soft_labels(logits=np.zeros((64, classes)), data=DATA)
    with pytest.raises(KdError, match=f"with 5 classes and the teacher with {classes}"):
        fit(table)
