"""A loss that is not finite: what is named is the first piece that is not, and only a run that its
own steps drove there hears of the learning rate.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import tiny
from kd import data as kd_data
from kd.core.losses import LossInfo
from kd.core.types import Outputs, Teacher
from kd.errors import KdError
from kd.models import as_model
from kd.training.diagnosis import diagnosed
from kd.training.log import NotFinite

DATA = tiny.dataset(32)
BAD = 7  # the example that all trouble comes from
FIRST = DATA.inputs[BAD, 0, 0]
HARD, SOFT = kd.term("hard"), kd.term("soft_targets", temperature=2.0)


def broken(inputs):
    """NaN for one example, 0 for the others."""
    return jnp.where(inputs[:, 0, 0] == FIRST, jnp.nan, 0.0)[:, None]


class Net(nn.Module):
    """A layer that may be no number for one example, in its answer or in its gradient alone."""

    trouble: str = ""

    @nn.compact
    def __call__(self, inputs):
        logits = nn.Dense(tiny.CLASSES)(inputs.reshape(len(inputs), -1))
        if self.trouble == "answer":
            return logits + broken(inputs)
        if self.trouble == "gradient":  # of the root of 0
            at_zero = jnp.where(broken(inputs) == 0, 1.0, 0.0)
            return logits + 0 * jnp.sqrt(jnp.abs(logits * at_zero))
        return logits


def own(loss):
    return kd.term(LossInfo(lambda student, *_: loss(student.logits), needs=()), name="own")


def teacher(*pairs):
    scale = jnp.ones(2) if pairs else jnp.float32(1)

    def apply(scale, batch):
        return Outputs(scale * jnp.tile(batch["inputs"][:, 0, :1] + broken(batch["inputs"]), 5))

    return Teacher(scale, apply, pairs=pairs or None)


def spoil(key, batch):
    del key
    return {**batch, "inputs": batch["inputs"] + broken(batch["inputs"])[..., None]}


TROUBLE = {
    "inputs": ({"view": spoil}, f"the inputs of examples {BAD} are not finite"),
    "teacher": (
        {"terms": [SOFT], "teacher": teacher()},
        f"the teacher's answers to examples {BAD} are not finite",
    ),
    "teachers in pairs": (
        {
            "terms": [SOFT],
            "teacher": teacher(1, 0),
            "population": {"seed": (3, 4), "teacher": (1, 0)},
        },
        f"of member 0 is not finite .*the teacher's answers to examples {BAD} are not finite",
    ),
    "student": (
        {"model": Net("answer")},
        f"the student's answers to examples {BAD} are not finite",
    ),
    "student in parts": (
        {"model": Net("answer"), "accumulate": 2},
        f"the student's answers to examples {BAD} are not finite",
    ),
    "loss": (
        {"terms": [HARD, own(lambda z: z[:, 0] / 0.0)]},
        "the answers are finite, and own of config.objective is not",
    ),
    "gradient": (
        {"model": Net("gradient")},
        r"the gradient of step \d is not finite",
    ),
}


def fit(*, model=None, terms=(HARD,), **options):
    return kd.fit(model or Net(), DATA, list(terms), epochs=2, batch_size=16, **options)


@pytest.mark.parametrize("what", TROUBLE)
def test_the_first_that_is_not_finite_is_named(what):
    options, message = TROUBLE[what]
    with pytest.raises(KdError, match=message) as refused:
        fit(**options)
    assert "learning_rate" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("population", [None, {"learning_rate": (0.1, 3e38)}])
def test_the_rate_is_blamed_for_what_the_steps_did(population):
    rate = {"learning_rate": 3e38} if population is None else {"population": population}
    with pytest.raises(KdError, match=r"not finite at step \d+.*lower optim\.learning_rate") as who:
        fit(**rate)
    assert ("of member 1" in str(who.value)) == (population is not None)


def task(data, **options):
    net, members = Net("answer"), tiny.members_of((HARD,), seed=0)
    return tiny.task(net, (HARD,), members, data=data, steps=9, teacher=None, **options)


@pytest.mark.parametrize("view", [None, kd.jitter(1)])
def test_streamed_batches_are_made_again_too(view):
    """Of memory and of a stream the same example of the same step is named."""
    for step in range(2):
        rows = kd_data.rows(0, step, len(DATA), 16)
        said = {
            str(diagnosed(task(data, view=view), NotFinite("loss", step)))
            for data in (DATA, kd_data.as_stream(DATA))
        }
        assert len(said) == 1
        if view is None:
            assert ("the student's answers" in said.pop()) == (BAD in rows)


def test_answers_that_are_not_finite_on_other_data_are_named():
    trained = fit()
    bad = dataclasses.replace(trained, model=as_model(Net("answer")))
    with pytest.raises(
        KdError, match=rf"answers to 1 of 32 examples, e\.g\. {BAD}, are not finite"
    ):
        bad.errors(DATA)
    gone = dataclasses.replace(trained, params=jax.tree.map(lambda p: p * jnp.inf, trained.params))
    with pytest.raises(KdError, match=r"its training diverged; lower optim\.learning_rate"):
        gone.errors(DATA)


@pytest.mark.parametrize("kind", [np.int32, bool])
def test_logits_that_have_no_gradient_are_refused(kind):
    class Whole(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return Net()(inputs).astype(kind)

    with pytest.raises(KdError, match="which has no gradient"):
        fit(model=Whole())
