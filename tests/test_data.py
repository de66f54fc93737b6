"""Laws of data sets in memory: what they hold, where they come from, how batches are taken."""

import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from kd import data as kd_data
from kd.errors import KdError

SPLITS = kd_data.arrays(np.arange(40.0)[:, None], np.arange(40) % 4)

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
