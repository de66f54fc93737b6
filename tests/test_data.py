"""Laws of data: an order that is a function of (seed, step), splits, batches, augmentation,
sources.
"""

import dataclasses
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
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


# --- data sets and batches ---


@pytest.mark.parametrize(
    ("inputs", "labels", "options", "message"),
    [
        (np.zeros((0, 2)), None, {"num_classes": 2}, "empty"),
        (np.zeros((3, 2)), None, {}, "num_classes"),
        (np.zeros((3, 2)), None, {"num_classes": -3}, "num_classes must be 1 or more, got -3"),
        (np.zeros((3, 2)), np.zeros(2, int), {}, "one label each"),
        (np.zeros((3, 2)), np.zeros((3, 2, 1), int), {}, "one label each"),
        (np.zeros((3, 2)), np.full(3, 0.5), {"targets": "classes"}, "whole numbers"),
        (np.zeros((3, 2)), np.zeros((3, 2), int), {"targets": "classes"}, "not one-hot rows"),
        (
            np.zeros((3, 2)),
            np.array([0, 1, 5]),
            {"num_classes": 5},
            "label 5 of example 2 is out of range.*0 to 4",
        ),
        (np.zeros((3, 2)), np.array([0, -2, 1]), {}, "label -2 of example 1 is out of range"),
        (np.array([[1.0], [np.nan]]), np.zeros(2, int), {}, "finite"),
        (np.array([[1.0], [np.inf]]), np.zeros(2, int), {}, "finite"),
        (np.array(["a", "b"]), np.zeros(2, int), {}, "finite numbers"),
    ],
)
def test_arrays_that_make_no_data_set_are_refused(inputs, labels, options, message):
    with pytest.raises(KdError, match=message):
        kd_data.arrays(inputs, labels, **options)


def test_the_number_of_classes_is_counted_or_given():
    assert kd_data.arrays(np.zeros((3, 2)), np.array([0, 4, 1])).num_classes == 5
    assert kd_data.arrays(np.zeros((3, 2)), np.array([0, 4, 1]), num_classes=7).num_classes == 7


def test_the_fingerprint_sees_every_part():
    inputs, labels = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([0, 1, 2])
    base = kd_data.arrays(inputs, labels)
    others = [
        kd_data.arrays(inputs + 1e-6, labels),
        kd_data.arrays(inputs, labels[::-1]),
        kd_data.arrays(inputs, labels, num_classes=4),
        kd_data.arrays(inputs, labels, scale=0.5),
        kd_data.arrays(inputs.reshape(3, 1, 2), labels),
        kd_data.arrays(inputs, num_classes=3),
    ]
    assert base.fingerprint == kd_data.arrays(inputs.copy(), labels.copy()).fingerprint
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


def test_gather_makes_the_batch_of_its_rows_and_padding_weighs_nothing():
    data = kd_data.arrays(np.arange(12, dtype=np.uint8).reshape(6, 2), np.arange(6), scale=0.5)
    batch = kd_data.gather(kd_data.to_device(data), jnp.array([4, 0, -1]))
    np.testing.assert_array_equal(batch["inputs"][:2], [[4, 4.5], [0, 0.5]])
    np.testing.assert_array_equal(batch["labels"][:2], [4, 0])
    np.testing.assert_array_equal(batch["index"][:2], [4, 0])
    np.testing.assert_array_equal(batch["weight"], [1, 1, 0])
    assert batch["inputs"].dtype == jnp.float32
    unlabelled = kd_data.arrays(np.zeros((6, 2)), num_classes=3)
    assert "labels" not in kd_data.gather(kd_data.to_device(unlabelled), jnp.array([0]))


# --- windows ---

FRAMES = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)


@st.composite
def windowed(draw):
    """A windowed data set, and the same examples stacked."""
    window = draw(st.integers(1, 30))
    starts = np.array(draw(st.lists(st.integers(0, 30 - window), min_size=1, max_size=12)))
    labels = np.arange(len(starts)) % 3
    options = {"num_classes": 3, "scale": draw(st.sampled_from([1.0, 0.5]))}
    stacked = np.stack([FRAMES[start : start + window] for start in starts])
    return kd_data.arrays(FRAMES, labels, starts=starts, window=window, **options), kd_data.arrays(
        stacked, labels, **options
    )


def same_batches(one, other):
    rows = jnp.concatenate([jnp.arange(len(one), dtype=jnp.int32)[::-1], jnp.array([-1])])
    batches = [kd_data.gather(kd_data.to_device(data), rows) for data in (one, other)]
    for a, b in zip(*map(jax.tree.leaves, batches), strict=True):
        np.testing.assert_array_equal(a, b)


@hypothesis.given(windowed())
def test_windowed_examples_are_the_stacked_ones(both):
    one, other = both
    assert len(one) == len(other)
    np.testing.assert_array_equal(one.first, other.first)
    same_batches(one, other)


@hypothesis.given(windowed(), st.integers(1, 99))
def test_a_slice_of_windows_is_the_slice_of_the_stack(both, percent):
    one, other = both
    hypothesis.assume(round(len(one) * percent / 100) >= 1)
    same_batches(*(kd_data.take(data, f"all[:{percent}%]") for data in (one, other)))
    assert kd_data.take(one, f"all[:{percent}%]").inputs.frames is one.inputs.frames


def test_the_fingerprint_sees_the_windows():
    base, labels = np.array([0, 5, 9]), np.arange(3)
    sets = [
        kd_data.arrays(FRAMES, labels, starts=base + shift, window=w)
        for shift, w in [(0, 4), (1, 4), (0, 5)]
    ]
    assert len({data.fingerprint for data in sets}) == 3
    assert (
        kd_data.arrays(FRAMES, labels, starts=base.astype(np.int8), window=4).fingerprint
        == sets[0].fingerprint
    )


@pytest.mark.parametrize(
    ("starts", "window", "message"),
    [
        (None, 3, "without starts"),
        ([0], 0, "between 1 and the 30 frames.*got 0"),
        ([0], 31, "between 1 and the 30 frames.*got 31"),
        ([0, 28], 3, "window of example 1, 3 frames from 28, leaves the 30 frames"),
        ([-1], 3, "window of example 0"),
        ([0.0], 3, "whole numbers"),
        ([[0]], 3, "whole numbers"),
        ([], 3, "whole numbers"),
    ],
)
def test_windows_that_do_not_fit_are_refused(starts, window, message):
    starts = None if starts is None else np.array(starts)
    with pytest.raises(KdError, match=message):
        kd_data.arrays(FRAMES, num_classes=2, starts=starts, window=window)


def test_windows_come_back_from_an_npz_file(tmp_path):
    data = kd_data.arrays(FRAMES, np.arange(3), starts=np.array([0, 5, 9]), window=4)
    np.savez(
        tmp_path / "w.npz",
        train_inputs=FRAMES,
        train_labels=data.labels,
        train_starts=data.inputs.starts,
        window=data.inputs.width,
    )
    assert kd_data.load("npz:w.npz", "train", str(tmp_path)).fingerprint == data.fingerprint
    np.savez(
        tmp_path / "bad.npz",
        train_inputs=FRAMES,
        train_labels=data.labels,
        train_starts=data.inputs.starts,
    )
    with pytest.raises(KdError, match="window must lie between"):
        kd_data.load("npz:bad.npz", "train", str(tmp_path))


# --- jitter ---

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1, (12, 6, 6)), jnp.float32)
FRAMED = jnp.pad(IMAGES, [(0, 0), (2, 2), (2, 2)])  # nothing within two pixels of the border
JITTER = jax.jit(kd_data.jitter(2))


def shifted(key, images=FRAMED, index=None):
    index = jnp.arange(len(images)) if index is None else index
    return JITTER(key, {"inputs": images, "index": index})["inputs"]


def test_jitter_of_no_pixels_is_nothing_at_all_and_of_fewer_is_refused():
    assert kd_data.jitter(0) is None
    with pytest.raises(KdError, match="jitter_pixels"):
        kd_data.jitter(-1)


@hypothesis.given(st.integers(0, 2**31))
def test_every_image_moves_by_at_most_two_pixels_and_stays_whole(seed):
    for image, moved in zip(
        np.asarray(FRAMED), np.asarray(shifted(jax.random.key(seed))), strict=True
    ):
        offsets = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
        assert any(np.array_equal(np.roll(image, offset, (0, 1)), moved) for offset in offsets)
        np.testing.assert_allclose(moved.sum(), image.sum(), rtol=1e-5)


def test_every_shift_occurs():
    one_pixel = jnp.zeros((1200, 5, 5)).at[:, 2, 2].set(1.0)
    where = np.argwhere(np.asarray(shifted(jax.random.key(0), one_pixel)))[:, 1:]
    counts = np.bincount(where[:, 0] * 5 + where[:, 1], minlength=25)
    assert np.all(np.abs(counts - 48) < 6 * np.sqrt(48))  # 25 shifts, equally often


def test_the_shift_depends_on_example_and_key_not_on_place_or_company():
    key, order = jax.random.key(1), np.random.default_rng(1).permutation(12)
    together = shifted(key)
    np.testing.assert_array_equal(shifted(key, FRAMED[order], jnp.asarray(order)), together[order])
    assert np.any(shifted(jax.random.key(2)) != together)
    assert np.any(shifted(key, index=jnp.arange(12) + 12) != together)


def test_what_leaves_the_image_is_gone_and_zeros_come_in():
    moved = np.asarray(shifted(jax.random.key(0), IMAGES))
    assert moved.shape == IMAGES.shape
    assert all(0.2 < np.count_nonzero(image) / 36 <= 1 for image in moved)
    assert np.count_nonzero(moved) < IMAGES.size


def test_jitter_keeps_channels_apart_and_the_rest_of_the_batch():
    coloured = jnp.stack([FRAMED, 2 * FRAMED], axis=-1)
    batch = {"inputs": coloured, "index": jnp.arange(12), "labels": jnp.arange(12)}
    moved = kd_data.jitter(2)(jax.random.key(1), batch)
    np.testing.assert_array_equal(moved["inputs"][..., 0], shifted(jax.random.key(1)))
    np.testing.assert_array_equal(moved["inputs"][..., 1], 2 * moved["inputs"][..., 0])
    assert moved["labels"] is batch["labels"]


def test_jitter_of_what_is_no_image_is_refused():
    with pytest.raises(KdError, match="jitter needs images"):
        JITTER(jax.random.key(0), {"inputs": jnp.zeros((3, 4)), "index": jnp.arange(3)})


# --- sources ---


def test_digits_are_two_disjoint_labelled_sets():
    train, test = kd_data.load("digits", "train"), kd_data.load("digits", "test")
    assert (len(train), len(test), train.num_classes) == (1200, 597, 10)
    assert train.inputs.shape[1:] == (8, 8)
    assert train.inputs.max() * train.scale == 1.0
    assert np.bincount(test.labels, minlength=10).min() > 0
    assert len(kd_data.load("digits", "train[:3%]")) == 36


def test_an_npz_file_comes_back_as_it_was_written(tmp_path):
    inputs, labels = (
        np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32),
        np.array([0, 2, 1, 0, 1, 2]),
    )
    np.savez(
        tmp_path / "set.npz",
        train_inputs=inputs,
        train_labels=labels,
        test_inputs=inputs[:2],
        num_classes=4,
    )
    train = kd_data.load("npz:set.npz", "train", str(tmp_path))
    np.testing.assert_array_equal(train.inputs, inputs)
    np.testing.assert_array_equal(train.labels, labels)
    test = kd_data.load("npz:set.npz", "test[:1]", str(tmp_path))
    assert (len(test), test.labels, test.num_classes) == (1, None, 4)
    absolute = kd_data.load(f"npz:{tmp_path / 'set.npz'}", "train")
    assert absolute.fingerprint == train.fingerprint
    with pytest.raises(KdError, match="did you mean 'train'"):
        kd_data.load("npz:set.npz", "trian", str(tmp_path))


def test_a_file_that_is_no_npz_is_refused_with_the_way_to_write_one(tmp_path):
    np.save(tmp_path / "single.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", train_inputs=np.array([{}], dtype=object))
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "noise.npz").write_bytes(b"PK\x03\x04 and no more")
    for name in ("single.npy", "empty.npz", "noise.npz"):
        with pytest.raises(KdError, match=r"cannot read .*numpy\.savez"):
            kd_data.load(f"npz:{name}", "train", str(tmp_path))
    with pytest.raises(KdError, match=r"train_inputs\.npy in .* holds Python objects; store"):
        kd_data.load("npz:objects.npz", "train", str(tmp_path))
    with pytest.raises(KdError, match=r"no .*missing\.npz; point KD_DATA_DIR"):
        kd_data.load("npz:missing.npz", "train", str(tmp_path))


def three_examples(name, argument, data_dir):
    return kd_data.arrays(np.zeros((3, 2)), np.arange(3))


def test_a_source_of_the_users_is_reached_by_its_path():
    assert len(kd_data.load(f"{__name__}:three_examples", "train[:2]")) == 2


def test_an_unknown_source_is_refused_with_the_nearest_name():
    with pytest.raises(KdError, match="did you mean 'digits'"):
        kd_data.load("digit", "train")


def test_the_mnist_test_set(mnist_dir):
    data = kd_data.load("tfds:mnist", "test", mnist_dir)
    assert data.inputs.shape == (10000, 28, 28, 1)
    assert data.inputs.dtype == np.uint8
    assert (data.inputs.min(), data.inputs.max(), data.scale) == (0, 255, 1 / 255)
    counts = np.bincount(data.labels, minlength=10)
    assert data.num_classes == len(counts) == 10
    assert counts.tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]  # of the original files
    assert len(kd_data.load("tfds:mnist", "test[:5%]", mnist_dir)) == 500


def test_mnist_that_is_not_there_or_has_no_such_split_is_refused(mnist_dir, tmp_path):
    with pytest.raises(KdError, match="did you mean 'test'"):
        kd_data.load("tfds:mnist", "tset", mnist_dir)
    with pytest.raises(KdError, match=r"is not prepared.*tfds build mnist"):
        kd_data.load("tfds:mnist", "test", str(tmp_path))


# --- examples of some classes ---


@hypothesis.given(st.sets(st.integers(0, 3), min_size=1))
def test_examples_of_some_classes_and_of_the_others_are_all_examples(classes):
    some = kd_data.of_classes(SPLITS, tuple(classes))
    others = set(range(4)) - classes
    rest = kd_data.of_classes(SPLITS, tuple(others)).inputs if others else SPLITS.inputs[:0]
    assert set(some.labels.tolist()) == classes
    assert some.num_classes == 4  # what was left out can still be answered
    together = np.concatenate([some.inputs, rest])[:, 0]
    assert sorted(together.tolist()) == SPLITS.inputs[:, 0].tolist()
    assert np.all(np.diff(some.inputs[:, 0]) > 0)  # in their order


@pytest.mark.parametrize("classes", [(), (4,), (0, 9)])
def test_a_class_that_is_not_there_is_refused(classes):
    with pytest.raises(
        KdError, match=r"data.classes must name classes that the split holds, \[0, 1, 2, 3\]"
    ):
        kd_data.of_classes(SPLITS, classes)


def test_classes_cannot_be_chosen_without_labels():
    with pytest.raises(KdError, match="there are no labels"):
        kd_data.of_classes(kd_data.arrays(np.zeros((3, 2)), num_classes=4), (1,))


def test_the_digits_are_scikit_learns_and_are_read_without_importing_it():
    """Importing it takes longer than all else before the first step."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    parts = [kd_data.load("digits", split) for split in ("train", "test")]
    np.testing.assert_array_equal(np.concatenate([p.inputs for p in parts]), bunch["images"])
    np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), bunch["target"])
    program = (
        "import sys, kd.data as d; d.load('digits', 'train'); assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
