"""Laws of prediction: whatever the batches, every example is answered once, in order, in evaluation
mode.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from kd.teachers import answers as predict
from kd.teachers import make as kd_teacher

DATA = tiny.dataset(23)


def wanted(member):
    return tiny.WIDE.apply(tiny.take(tiny.members(), member), {}, jnp.asarray(DATA.inputs))[
        0
    ].logits


@pytest.mark.parametrize("batch_size", [7, 23, 1000])
def test_batches_and_padding_do_not_show(batch_size):
    whole = predict.predict(
        tiny.WIDE, tiny.take(tiny.members(), 1), {}, DATA, members=False, batch_size=batch_size
    )
    np.testing.assert_allclose(whole, wanted(1), rtol=1e-5, atol=1e-6)


def test_members_are_answered_for_apart():
    logits = predict.predict(tiny.WIDE, tiny.members(), {}, DATA, members=True, batch_size=7)
    assert logits.shape == (3, 23, tiny.CLASSES)
    for member in range(3):
        np.testing.assert_allclose(logits[member], wanted(member), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("average", [None, "arithmetic", "per_member"])
def test_answers_of_a_teacher_keep_its_members_apart(average):
    teacher = (
        tiny.teacher(1)
        if average is None
        else kd_teacher.ensemble(tiny.WIDE, tiny.members(), average=average)
    )
    outputs = predict.answers(teacher, DATA, batch_size=7)
    assert outputs.average == average
    everyone = wanted(1) if average is None else np.stack([wanted(member) for member in range(3)])
    np.testing.assert_allclose(outputs.logits, everyone, rtol=1e-5, atol=1e-6)
