"""Laws of outputs: whatever is done to logits is done to the taps beside them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from kd.core.losses import LossInfo
from kd.core.objective import make_objective
from kd.core.terms import term
from kd.core.types import Outputs
from kd.models.precision import in_bfloat16, rematerialised
from kd.teachers import answers as predict
from kd.teachers import make as kd_teacher

RANDOM = np.random.default_rng(0)


def drawn(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def tapped(model):
    """`model` with a tap: its logits again, doubled, and the whole number 7 for each example."""

    def apply(params, extra, inputs, train=False, key=None):
        outputs, updated = model.apply(params, extra, inputs, train=train, key=key)
        whole = jnp.full(len(inputs), 7, jnp.int32)
        return dataclasses.replace(
            outputs, taps={"twice": 2 * outputs.logits, "whole": whole}
        ), updated

    return dataclasses.replace(model, apply=apply)


def double(outputs):
    """Whether the tap says still what it said of the logits."""
    np.testing.assert_allclose(outputs.taps["twice"], 2 * outputs.logits, rtol=1e-6)
    assert (np.asarray(outputs.taps["whole"]) == 7).all()
    assert outputs.taps["whole"].dtype == jnp.int32


@pytest.mark.parametrize("members", [(), (2,)])
@pytest.mark.parametrize("positions", [(), (3,)])
def test_a_position_without_weight_is_zero_in_logits_and_taps(members, positions):
    weight = RANDOM.integers(0, 2, (4, *positions)).astype(np.float32)
    weight[0] = 0.0
    counts = (weight > 0)[..., None]
    each = RANDOM.normal(size=(*members, 4, *positions, 5)).astype(np.float32)
    pooled = RANDOM.normal(size=(*members, 4, 2)).astype(np.float32)
    holes = jnp.asarray(np.where(counts, each, np.nan))
    average = "arithmetic" if members else None
    outputs = Outputs(holes, average, {"each": holes, "pooled": jnp.asarray(pooled)})
    masked = outputs.masked(jnp.asarray(weight))
    for values in (masked.logits, masked.taps["each"]):
        np.testing.assert_array_equal(values, np.where(counts, each, 0.0))
    weighs = counts.reshape(4, -1).any(axis=1, keepdims=True)
    np.testing.assert_array_equal(masked.taps["pooled"], np.where(weighs, pooled, 0.0))


def test_a_tap_of_a_member_is_that_members():
    together = Outputs(drawn(3, 4, 5), "per_member", {"hidden": drawn(3, 4, 2)})
    for i in range(3):
        alone = together.member(i)
        assert alone.average is None
        np.testing.assert_array_equal(alone.logits, together.logits[i])
        np.testing.assert_array_equal(alone.taps["hidden"], together.taps["hidden"][i])


@pytest.mark.parametrize("switch", [tapped, lambda m: in_bfloat16(tapped(m))])
@pytest.mark.parametrize("wrap", [lambda model: model, rematerialised])
def test_a_tap_survives_what_is_done_to_a_model(switch, wrap):
    params = tiny.take(tiny.members(), 0)
    outputs = wrap(switch(tiny.WIDE)).apply(params, {}, tiny.batch()["inputs"])[0]
    assert outputs.taps["twice"].dtype == outputs.logits.dtype == jnp.float32
    double(outputs)


@pytest.mark.parametrize("average", [None, "geometric", "per_member"])
def test_a_tap_survives_ensembles_predict_and_a_table(average):
    model, data = tapped(tiny.WIDE), tiny.dataset()
    teacher = (
        kd_teacher.live(model, tiny.take(tiny.members(), 0))
        if average is None
        else kd_teacher.ensemble(model, tiny.members(), average=average)
    )
    double(teacher.apply(teacher.variables, tiny.batch()))
    answers = predict.answers(teacher, data, batch_size=10)
    assert answers.taps["whole"].shape == answers.logits.shape[:-1]
    double(answers)
    table = kd_teacher.kept(answers)
    tiny.close(
        table.apply(table.variables, tiny.batch()),
        teacher.apply(teacher.variables, tiny.batch()),
    )


def of_taps(student, teacher, batch, hparams):
    """A loss on hidden features: it sees nothing of the logits."""
    del batch, hparams
    return jnp.mean((student.taps["twice"] - teacher.taps["twice"]) ** 2, axis=-1)


@pytest.mark.parametrize("average", [None, "per_member"])
def test_a_loss_on_taps_teaches_whatever_the_parts_of_a_batch(average):
    terms = [term(LossInfo(of_taps), name="features")]
    teacher = (
        kd_teacher.live(tapped(tiny.WIDE), tiny.take(tiny.members(), 0))
        if average is None
        else kd_teacher.ensemble(tapped(tiny.WIDE), tiny.members(), average=average)
    )
    batch = dict(tiny.batch())
    batch["inputs"] = batch["inputs"].at[3].set(jnp.nan)
    batch["weight"] = batch["weight"].at[3].set(0.0)
    states = [
        jax.jit(tiny.step(tapped(tiny.PLAIN), teacher, terms, accumulate=parts))(
            tiny.state(), teacher.variables, batch, tiny.hparams(terms)
        )[0]
        for parts in (1, 4)
    ]
    tiny.close(states[0].params, states[1].params)
    assert tiny.differ(states[0].params, tiny.state().params)


def test_the_objective_reads_a_masked_tap():
    terms, weight = [term(LossInfo(of_taps), name="features")], jnp.asarray([1.0, 0.0])
    taps = drawn(2, 3).at[1].set(jnp.nan)
    student = Outputs(drawn(2, 3), taps={"twice": taps})
    teacher = Outputs(drawn(2, 3), taps={"twice": drawn(2, 3)})
    hparams = {"terms": {"features": {"weight": jnp.float32(1.0)}}}
    total, _, _ = make_objective(terms)(student, teacher, {"weight": weight}, hparams, jnp.int32(0))
    assert np.isfinite(total[0])
    assert total[1] == 0
