"""Laws of .npz files: spellings of keys, labels as words, and damage that is one line."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from damage import damaged
from kd import data as kd_data
from kd.errors import KdError

INPUTS = np.random.default_rng(0).integers(0, 256, (6, 2, 2), np.uint8)
LABELS = np.array([0, 2, 1, 0, 1, 2])
WORDS = np.array(["cat", "egg", "dog", "cat", "dog", "egg"])  # 0, 2, 1, ... in the alphabet


def load(path, split="train"):
    return kd_data.load(f"npz:{path.name}", split, str(path.parent))


def save(path, **stored):
    np.savez(path, **stored)
    return path


def same(first, other):
    assert np.array_equal(first.inputs, other.inputs)
    assert first.labels.tolist() == other.labels.tolist()
    assert first.num_classes == other.num_classes


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        ("x_{}", "y_{}"),
        ("X_{}", "y_{}"),
        ("{}_x", "{}_y"),
        ("{}_X", "{}_Y"),
        ("{}_images", "{}_labels"),
        ("images_{}", "labels_{}"),
        ("{}_data", "{}_targets"),
    ],
)
def test_every_spelling_is_the_same_data(tmp_path, inputs, labels):
    wanted = load(save(tmp_path / "a.npz", train_inputs=INPUTS, train_labels=LABELS))
    stored = {
        inputs.format("train"): INPUTS,
        labels.format("train"): LABELS,
        inputs.format("test"): INPUTS[:2],
        labels.format("test"): LABELS[:2],
    }
    path = save(tmp_path / "b.npz", **stored)
    assert load(path).fingerprint == wanted.fingerprint
    assert len(load(path, "test")) == 2


def test_two_spellings_of_one_split_are_refused(tmp_path):
    path = save(tmp_path / "a.npz", train_inputs=INPUTS, x_train=INPUTS, y_train=LABELS)
    with pytest.raises(KdError, match="holds train_inputs and x_train for train; keep one"):
        load(path)


def test_what_was_looked_for_and_what_is_there_is_said(tmp_path):
    path = save(tmp_path / "a.npz", arr_0=INPUTS, arr_1=LABELS)
    with pytest.raises(KdError, match=r"has no train_inputs, x_train or .*it holds 'arr_0', 'arr"):
        load(path)
    with pytest.raises(KdError, match="did you mean 'train'"):
        load(save(tmp_path / "b.npz", x_train=INPUTS, y_train=LABELS), "trian")


# --- words ---


@pytest.mark.parametrize("words", [WORDS, WORDS.astype("S"), WORDS[:, None]])
def test_words_are_classes_in_the_order_of_the_alphabet(tmp_path, words):
    data = load(save(tmp_path / "a.npz", x_train=INPUTS, y_train=words))
    same(data, kd_data.arrays(INPUTS, LABELS, num_classes=3))
    assert data.class_names == ("cat", "dog", "egg")


def test_an_index_is_the_same_class_in_every_split(tmp_path):
    path = save(
        tmp_path / "a.npz", x_train=INPUTS, y_train=WORDS, x_test=INPUTS[1:3], y_test=WORDS[1:3]
    )
    test = load(path, "test")
    assert test.labels.tolist() == [2, 1]
    assert (test.num_classes, test.class_names) == (3, ("cat", "dog", "egg"))


def test_a_class_that_train_has_not_is_refused(tmp_path):
    odd = np.array(["cat", "fox"])
    path = save(tmp_path / "a.npz", x_train=INPUTS, y_train=WORDS, x_test=INPUTS[:2], y_test=odd)
    for split in ("train", "test"):
        with pytest.raises(KdError, match="test has class 'fox', which train has not"):
            load(path, split)


@pytest.mark.parametrize("words", [np.array("cat"), np.tile(WORDS[:, None], 2), WORDS[:5]])
def test_words_that_are_not_one_for_each_example_are_refused(tmp_path, words):
    with pytest.raises(KdError, match=r"shape \(.*\).*one label"):
        load(save(tmp_path / "a.npz", x_train=INPUTS, y_train=words))


TYPES = ["?", ">u2", "u8", "f2", ">f8", "g", "c8", "U3", "S3", "M8[s]", "m8[s]", "V4"]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (6,), (6, 0), (6, 1), (1, 4, 4), (60, 2)])
@pytest.mark.parametrize("key", ["train_inputs", "train_labels", "num_classes"])
def test_any_type_and_shape_is_data_or_one_line(tmp_path, kind, shape, key):
    stored = {"train_inputs": INPUTS, "train_labels": LABELS, key: np.zeros(shape, kind)}
    try:
        data = load(save(tmp_path / "a.npz", **stored))
    except KdError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert len(data) == len(data.labels) == 6


def test_words_are_part_of_the_fingerprint(tmp_path):
    named = load(save(tmp_path / "a.npz", x_train=INPUTS, y_train=WORDS))
    other = load(save(tmp_path / "b.npz", x_train=INPUTS, y_train=np.char.upper(WORDS)))
    plain = load(save(tmp_path / "c.npz", x_train=INPUTS, y_train=LABELS))
    assert len({named.fingerprint, other.fingerprint, plain.fingerprint}) == 3


# --- arrays of any kind come back as NumPy reads them ---


@pytest.mark.parametrize("save_as", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "inputs",
    [
        INPUTS,
        np.asfortranarray(INPUTS.astype(np.float32)),
        INPUTS.astype(">f4"),
        INPUTS[:, ::2],
        INPUTS > 100,
    ],
)
def test_the_array_is_that_of_numpy(tmp_path, save_as, inputs):
    save_as(tmp_path / "a.npz", train_inputs=inputs, train_labels=LABELS)
    array = load(tmp_path / "a.npz").inputs
    with np.load(tmp_path / "a.npz") as stored:
        np.testing.assert_array_equal(array, stored["train_inputs"])


# --- damage ---


@pytest.mark.parametrize("save_as", [np.savez, np.savez_compressed])
def test_a_damaged_file_gives_the_same_data_or_one_line(tmp_path, save_as):
    path, refusals = tmp_path / "a.npz", []
    save_as(path, train_inputs=INPUTS, train_labels=WORDS, num_classes=3)
    wanted = load(path).fingerprint
    for fault, content in damaged(path.read_bytes(), most=400):
        path.write_bytes(content)
        try:
            assert load(path).fingerprint == wanted, fault
        except KdError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert "\n" not in "".join(refusals)


def member(path, content, name="train_inputs.npy"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def npy(shape, descr="'|u1'", content=b""):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    header = text.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("(1000000, 1000000, 1000000)"), r"declares uint8\[1000000, .* and holds 0 bytes"),
        (npy("(4, 4)", content=bytes(17)), "holds 17 bytes"),
        (npy("(4, 4)", content=bytes(15)), "holds 15 bytes"),
        (npy("(-4, -4)", content=bytes(16)), "its shape is"),
        (npy("(True, 4)", content=bytes(4)), "cannot read|."),
        (npy("(2.0,)", content=bytes(2)), "shape"),
        (npy("(2,)", "'|O'", bytes(16)), "holds Python objects"),
        (npy("(2,)", "[('a', 'O')]", bytes(16)), "holds Python objects"),
        (npy("(2,)", "'nonsense'", bytes(2)), "descr|data type"),
        (npy("__import__('os')", content=bytes(2)), "cannot read"),
        (npy("(" * 1000 + ")" * 1000), "cannot read"),
        (b"", "cannot read"),
        (b"\x93NUMPY\x09\x00", "version"),
        (b"no array at all", "cannot read"),
        (npy("()", content=b"1"), "single value"),
        (npy("(0, 4)"), "0 examples"),
    ],
)
def test_an_array_that_is_none_is_one_line(tmp_path, content, message):
    path = member(tmp_path / "a.npz", content)
    tracemalloc.start()
    with pytest.raises(KdError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


@pytest.mark.parametrize(
    "name", ["../train_inputs.npy", "train_inputs", "a/b.npy", "\u00e9.npy", ".npy"]
)
def test_odd_keys_are_one_line_or_ignored(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for key, array in {name: INPUTS, "y_train.npy": LABELS}.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(key, buffer.getvalue())
    if name == "train_inputs":  # as numpy.load takes it too
        assert len(load(tmp_path / "a.npz")) == 6
        return
    with pytest.raises(KdError, match=r"no safe one|has no train_inputs"):
        load(tmp_path / "a.npz")
