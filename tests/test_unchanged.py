"""A run that has changed no parameter is an error, whoever trains it and however it comes about."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kd
import runs
import tiny
from kd.core.losses import LossInfo
from kd.errors import KdError
from kd.training.unchanged import check_changed, digests


def flat(student, teacher, batch, hparams):
    """A loss that no student can change."""
    del teacher, hparams
    return 0.0 * student.logits.sum(axis=-1) + batch["weight"]


FLAT = kd.term(LossInfo(flat, needs=()), name="flat")
SHORT = {"epochs": 1, "batch_size": 16}


@given(st.integers(0, 23), st.integers(0, 31), st.booleans())
def test_every_bit_of_every_element_counts(place, bit, population):
    values = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    changed = values.copy()
    changed.view(np.uint32).reshape(-1)[place] ^= np.uint32(1 << bit)
    before, after = (digests({"w": jnp.asarray(x)}, population) for x in (values, changed))
    differ = np.atleast_1d(np.asarray(before != after)[0])
    assert differ.sum() == 1
    assert not population or differ[place // 12]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "bool", "complex64"])
def test_any_type_is_watched(dtype):
    leaf = jnp.zeros(5, dtype)
    changed = leaf.at[3].set(jnp.ones((), dtype))
    assert (digests([leaf], False) != digests([changed], False)).all()
    assert (digests([leaf], False) == digests([leaf.copy()], False)).all()


def test_one_leaf_that_moves_is_enough_and_each_member_needs_one():
    before = jnp.array([[1, 2, 3], [4, 5, 6]], jnp.uint32)
    check_changed(before, before.at[1].add(1), 7)
    with pytest.raises(KdError, match="7 steps have changed no parameter of member 0, 2:"):
        check_changed(before, before.at[0, 1].add(1), 7)


@pytest.mark.parametrize(
    ("terms", "options", "whose"),
    [
        ([FLAT], {}, "no parameter:"),
        ([kd.term("hard")], {"optimizer": optax.set_to_zero()}, "no parameter:"),
        (
            [FLAT, kd.term("hard")],
            {"population": {"hard": {"weight": (1.0, 0.0)}}},
            "no parameter of member 1:",
        ),
    ],
)
def test_a_run_that_teaches_nothing_is_refused(terms, options, whose):
    with pytest.raises(KdError, match=f"4 steps have changed {whose}"):
        kd.fit(tiny.PLAIN, tiny.dataset(), terms, **SHORT, **options)


def test_a_run_that_freezes_some_is_not():
    labels = {"Dense_0": "frozen", "Dense_1": "trained"}
    some = optax.multi_transform({"frozen": optax.set_to_zero(), "trained": optax.sgd(0.1)}, labels)
    start = jax.jit(tiny.PLAIN.init)(jax.random.key(0), jnp.zeros((1, 4, 4)))[0]
    assert start.keys() == labels.keys()
    kd.fit(tiny.PLAIN, tiny.dataset(), [kd.term("hard")], optimizer=some, **SHORT)


def test_a_command_that_teaches_nothing_leaves_no_finished_run(tmp_path, capfd):
    objective = "{'flat': {'loss': 'test_unchanged:flat'}}"
    keys = {"objective": objective, "teacher__workdir": runs.finished()}
    for stop in ({}, {"checkpoint_epochs": 1}):
        assert runs.train(tmp_path / "run", **keys, **stop) == 2
        assert "6 steps have changed no parameter" in capfd.readouterr().err
        assert not (tmp_path / "run" / "evaluation.json").exists()
