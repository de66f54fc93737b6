"""Laws of mixed images and of views in a row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from kd import data as kd_data
from kd.core.terms import term
from kd.data import chain, jitter, mixup
from kd.errors import KdError

KEY = jax.random.key(3)


def batch(inputs, index=None, **more):
    inputs = jnp.asarray(inputs)
    index = jnp.arange(len(inputs)) if index is None else jnp.asarray(index)
    return {
        "inputs": inputs,
        "labels": index % 5,
        "weight": jnp.ones(len(inputs)),
        "index": index,
        **more,
    }


IMAGES = np.random.default_rng(0).uniform(size=(8, 4, 4, 3)).astype(np.float32)
mixed = jax.jit(mixup())


def shares(index, key=KEY):
    """How much of itself each example keeps: it is one and its partner nothing, by turns."""
    parity = jnp.arange(len(index)) % 2
    even, odd = (
        mixed(key, batch(x[:, None].astype(jnp.float32), index))["inputs"][:, 0]
        for x in (1 - parity, parity)
    )
    return np.where(parity, odd, even)


@given(
    st.lists(st.integers(0, 2**31 - 1), min_size=8, max_size=8, unique=True), st.integers(0, 2**31)
)
def test_every_image_is_a_mean_of_itself_and_the_one_before(index, seed):
    key, index = jax.random.key(seed), np.asarray(index)
    share = shares(index, key)[:, None, None, None]
    assert np.all((share >= 0) & (share < 1))
    wanted = share * IMAGES + (1 - share) * np.roll(IMAGES, 1, axis=0)
    np.testing.assert_allclose(
        mixed(key, batch(IMAGES, index))["inputs"], wanted, rtol=1e-5, atol=1e-6
    )


def test_a_share_belongs_to_the_example_and_not_to_its_place():
    index = np.asarray([5, 9, 2, 7, 11, 4, 30, 1])
    order = np.asarray([3, 0, 1, 2, 7, 6, 5, 4])
    np.testing.assert_array_equal(shares(index)[order], shares(index[order]))
    np.testing.assert_array_equal(shares(index)[:4], shares(index[:4]))


def test_shares_are_uniform_and_differ_from_step_to_step():
    first, second = (shares(np.arange(4000), key) for key in jax.random.split(KEY))
    for share in (first, second):
        counts = np.histogram(share, bins=10, range=(0, 1))[0]
        assert ((counts - 400) ** 2 / 400).sum() < 40  # chi-square, 9 degrees of freedom: p < 1e-5
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_a_mixed_image_has_no_label_and_keeps_all_else():
    before = batch(IMAGES, extra=jnp.arange(8))
    after = mixed(KEY, before)
    assert set(after) == {"inputs", "weight", "index", "extra"}
    assert all(
        after[name] is not None and not tiny.differ(after[name], before[name])
        for name in set(after) - {"inputs"}
    )
    assert after["inputs"].shape == IMAGES.shape


def test_a_batch_of_equal_images_stays_what_it_is():
    same = np.repeat(IMAGES[:1], 5, axis=0)
    np.testing.assert_allclose(mixed(KEY, batch(same))["inputs"], same, rtol=1e-6)
    np.testing.assert_allclose(mixed(KEY, batch(IMAGES[:1]))["inputs"], IMAGES[:1], rtol=1e-6)


def test_what_the_teacher_sees_is_mixed_alike():
    after = mixed(KEY, batch(IMAGES, teacher_inputs=jnp.asarray(2 * IMAGES)))
    np.testing.assert_allclose(after["teacher_inputs"], 2 * after["inputs"], rtol=1e-5)


@pytest.mark.parametrize(
    ("stored", "wanted"), [("uint8", "float32"), ("bfloat16", "bfloat16"), ("float32", "float32")]
)
def test_types_stay_and_whole_numbers_become_numbers(stored, wanted):
    images = jnp.asarray(100 * IMAGES, stored)
    after = mixed(KEY, batch(images))["inputs"]
    assert after.dtype == wanted
    exact = mixed(KEY, batch(images.astype("float32")))["inputs"]
    np.testing.assert_allclose(np.asarray(after, np.float32), exact, atol=1.0)  # of 100


def test_inputs_without_an_axis_are_refused():
    with pytest.raises(KdError, match="mixup needs inputs"):
        mixup()(KEY, batch(jnp.arange(3.0)))


def test_teacher_and_student_see_the_same_mixed_images():
    """A student that is its teacher has nothing to learn, whatever is mixed; with another view it
    would have.
    """
    state = tiny.state()
    from kd.teachers import make as kd_teacher

    twin = kd_teacher.live(tiny.PLAIN, state.params)
    terms = (term("soft_targets", temperature=2.0),)
    step = jax.jit(tiny.step(teacher=twin, terms=terms, view=mixup()))
    _, metrics = step(state, twin.variables, tiny.batch(), tiny.hparams(terms))
    assert metrics["loss"].value == pytest.approx(0, abs=1e-6)
    assert "accuracy" not in metrics
    assert metrics["agreement"].value == 1


# --- views in a row ---


def add(amount):
    return lambda _, batch: {**batch, "inputs": batch["inputs"] + amount}


def double(key, batch):
    return {**batch, "inputs": batch["inputs"] * 2}


def draw(name):
    return lambda key, batch: {**batch, name: jax.random.uniform(key)}


def test_a_chain_of_none_is_none_and_of_one_is_that_one():
    assert chain() is chain(None, None) is None
    assert chain(None, double, None) is double


@given(st.lists(st.sampled_from([None, double, add(1.0), add(3.0)]), max_size=5))
def test_views_are_applied_in_order(views):
    row = chain(*views)
    wanted = functools.reduce(lambda b, view: view(KEY, b), filter(None, views), batch(IMAGES))
    got = batch(IMAGES) if row is None else row(KEY, batch(IMAGES))
    np.testing.assert_array_equal(got["inputs"], wanted["inputs"])


def test_each_view_has_a_key_of_its_own_whatever_the_others_are():
    together = chain(draw("a"), draw("b"), draw("c"))(KEY, {})
    assert len({float(value) for value in together.values()}) == 3
    without = chain(draw("a"), None, draw("c"))(KEY, {})
    assert without == {name: together[name] for name in ("a", "c")}
    assert chain(draw("a"), draw("b"))(jax.random.key(4), {})["a"] != together["a"]


def test_shifted_then_mixed_is_reproducible_and_unlabelled():
    row = chain(jitter(1), mixup())
    eager, again = row(KEY, batch(IMAGES)), jax.jit(row)(KEY, batch(IMAGES))
    np.testing.assert_allclose(eager["inputs"], again["inputs"], rtol=1e-6)
    assert "labels" not in eager
    assert tiny.differ(eager["inputs"], mixed(KEY, batch(IMAGES))["inputs"])


def test_rows_of_a_data_set_are_mixed_by_their_identity():
    table = kd_data.to_device(kd_data.arrays(IMAGES, np.arange(8)))
    rows = mixed(KEY, kd_data.gather(table, jnp.asarray([3, 5])))
    other = mixed(KEY, kd_data.gather(table, jnp.asarray([7, 3, 5])))
    np.testing.assert_allclose(rows["inputs"][1], other["inputs"][2], rtol=1e-6)
