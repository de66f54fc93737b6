"""Laws of the order of examples, a function of (seed, step), and of splits."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from kd import data as kd_data
from kd.data import order as order_module
from kd.errors import KdError

SPLITS = kd_data.arrays(np.arange(40.0)[:, None], np.arange(40) % 4)


def values(split):
    return kd_data.take(SPLITS, split).inputs[:, 0].astype(int).tolist()


# --- order ---


@hypothesis.given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 2**31), st.integers(0, 5))
def test_an_epoch_visits_examples_at_most_once_in_disjoint_batches(
    examples, batch_size, seed, epoch
):
    batch_size = min(batch_size, examples)
    steps = kd_data.steps_per_epoch(examples, batch_size)
    seen = np.concatenate(
        [kd_data.rows(seed, epoch * steps + i, examples, batch_size) for i in range(steps)]
    )
    assert len(set(seen.tolist())) == len(seen) == steps * batch_size
    assert examples - len(seen) < batch_size  # and leaves out less than a batch
    assert set(seen.tolist()) <= set(range(examples))


@hypothesis.given(
    st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4),
    st.lists(st.integers(0, 40), min_size=1, max_size=30),
)
def test_the_order_of_a_population_is_that_of_each_member_in_any_turn(seeds, steps):
    order = kd_data.Order(seeds, 23, 5)
    for step in steps:
        assert order.rows(step).tolist() == [kd_data.rows(s, step, 23, 5).tolist() for s in seeds]


@pytest.mark.parametrize("members", [1, 65, 300])
def test_a_member_draws_each_epoch_once_however_many_they_are(members, monkeypatch):
    drawn = []
    draw = order_module.permutation
    monkeypatch.setattr(order_module, "permutation", lambda *a: drawn.append(a) or draw(*a))
    order = kd_data.Order(range(members), 20, 4)
    for step in range(15):
        order.rows(step)
    assert sorted(drawn) == sorted(
        (seed, epoch, 20) for seed in range(members) for epoch in range(3)
    )


def test_an_epoch_of_whole_batches_is_a_permutation_and_every_epoch_another():
    epochs = [
        np.concatenate([kd_data.rows(3, 5 * e + i, 40, 8) for i in range(5)]) for e in range(4)
    ]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_order_is_a_function_of_seed_and_step_alone():
    backwards = {step: kd_data.rows(1, step, 40, 8).tolist() for step in reversed(range(20))}
    for step in range(20):
        assert kd_data.rows(1, step, 40, 8).tolist() == backwards[step]
    assert len({tuple(kd_data.rows(seed, 0, 40, 8)) for seed in range(20)}) == 20


def test_what_an_epoch_leaves_out_differs_between_epochs():
    left_out = [set(range(10)) - set(kd_data.rows(0, epoch, 10, 9).tolist()) for epoch in range(30)]
    assert len(set.union(*left_out)) > 5


@pytest.mark.parametrize("batch_size", [0, 41, -1])
def test_a_batch_that_does_not_fit_the_data_is_refused(batch_size):
    with pytest.raises(
        KdError, match=rf"batch_size must lie between 1 and the 40 examples.*{batch_size}"
    ):
        kd_data.rows(0, 0, 40, batch_size)


@hypothesis.given(st.integers(1, 60), st.integers(1, 20))
def test_padded_rows_hold_every_row_once_in_order(examples, batch_size):
    table = kd_data.padded_rows(examples, batch_size)
    flat = table.reshape(-1)
    assert table.shape[1] == batch_size
    assert flat[:examples].tolist() == list(range(examples))
    assert np.all(flat[examples:] == -1)
    assert len(flat) - examples < batch_size


# --- splits ---


@hypothesis.given(st.integers(0, 40))
def test_a_split_in_two_by_number_is_the_whole(cut):
    hypothesis.assume(0 < cut < 40)
    assert values(f"all[:{cut}]") + values(f"all[{cut}:]") == list(range(40))
    assert len(values(f"all[:{cut}]")) == cut


@hypothesis.given(st.integers(2, 98))
def test_a_split_in_two_by_percent_is_the_whole(percent):
    first, second = values(f"all[:{percent}%]"), values(f"all[{percent}%:]")
    assert first + second == list(range(40))
    assert abs(len(first) - 40 * percent / 100) <= 0.5


def test_splits_by_hand():
    assert values("all") == values("all[:]") == list(range(40))
    assert values("all[3:6]") == [3, 4, 5]
    assert values("all[25%:50%]") == list(range(10, 20))
    assert kd_data.parse_split("train[:3%]") == ("train", None, "3%")


@pytest.mark.parametrize("split", ["all[5:5]", "all[6:3]", "all[40:]", "all[:0]", "all[:1%]"])
def test_an_empty_split_is_refused(split):
    with pytest.raises(KdError, match="is empty"):
        values(split)


@pytest.mark.parametrize(
    "split", ["all[", "all[3]", "all[-3:]", "all[a:b]", "all[1:2:3]", "", "all[1.5%:]"]
)
def test_what_is_not_a_split_is_refused_with_examples_of_one(split):
    with pytest.raises(KdError, match="not of the form"):
        values(split)


def test_a_slice_keeps_labels_classes_and_scale():
    data = dataclasses.replace(SPLITS, scale=0.25)
    part = kd_data.take(data, "all[4:6]")
    assert (part.labels.tolist(), part.num_classes, part.scale) == ([0, 1], 4, 0.25)
