"""The number on disk is the number the model sees: one picture, however it is stored, is one
picture.
"""

import json

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
from kd import data as kd_data
from kd.data.seen import Seen, agree, scale_for
from kd.data.stored import default_scale
from kd.errors import KdError

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (120, 4, 4), np.uint8)
BYTES[0, 0, :2] = 0, 255
LABELS = np.arange(120) % 5

STORED = {  # one picture in any type, 0 to 1
    "u1": BYTES,
    ">u2": BYTES.astype(">u2") * 257,
    "<u2": BYTES.astype("<u2") * 257,
    "f2": (BYTES / 255).astype("f2"),
    "<f4": (BYTES / 255).astype("<f4"),
    ">f4": (BYTES / 255).astype(">f4"),
    "<f8": BYTES / 255,
    ">f8": (BYTES / 255).astype(">f8"),
    "long double": (BYTES / 255).astype(np.longdouble),
}


def saved(path, train, test=None, **more):
    test = train if test is None else test
    labels = {"train_labels": LABELS, "test_labels": LABELS, "num_classes": 5}
    np.savez(path, train_inputs=train, test_inputs=test, **labels, **more)
    return path


def all_seen(data):
    return np.asarray(kd_data.gather(kd_data.to_device(data), jnp.arange(len(data)))["inputs"])


def ways(data):
    """The same examples from memory, from a stream and by themselves."""
    stream = kd_data.as_stream(data)
    with kd_data.in_order(stream, len(data), threads=0) as batches:
        batch = {key: jnp.asarray(leaf) for key, leaf in next(batches).items()}
    streamed = kd_data.as_seen(batch, stream.unit)["inputs"]
    return all_seen(data), np.asarray(streamed), data.first


@pytest.mark.parametrize("kind", STORED)
def test_one_picture_in_any_storage_is_seen_alike(kind, tmp_path):
    want = (BYTES / 255).astype(np.float32)
    atol = 5e-4 if kind == "f2" else 1e-7  # half precision itself is no finer
    path = saved(tmp_path / "data.npz", STORED[kind])
    for data in (kd.arrays(STORED[kind], LABELS), kd_data.load(f"npz:{path}", "train")):
        memory, stream, first = ways(data)
        np.testing.assert_allclose(memory, want, 0, atol)
        np.testing.assert_array_equal(memory, stream)
        np.testing.assert_array_equal(memory[:1], first)
        assert memory.dtype == stream.dtype == first.dtype == np.float32
        assert (data.seen.low, data.seen.high) == (0, 1)


@hypothesis.given(
    st.sampled_from([bool, *np.typecodes["AllInteger"], *"efdg"]),
    st.sampled_from([(6,), (6, 2), (6, 3, 2), (6, 3, 2, 1), (6, 2, 2, 3), (6, 2, 2, 2)]),
)
def test_only_images_of_unsigned_numbers_are_divided(kind, shape):
    stored = RANDOM.integers(0, 2, shape).astype(kind)
    image = len(shape) == 3 or (len(shape) == 4 and shape[-1] != 2)
    if stored.dtype.kind == "u" and image and stored.dtype.itemsize > 1:
        with pytest.raises(KdError, match="what is white is not known"):
            kd.arrays(stored, num_classes=2)
        return
    largest = 255 if stored.dtype.kind == "u" and image else 1
    seen = all_seen(kd.arrays(stored, num_classes=2))
    np.testing.assert_allclose(seen, stored.astype(np.float32) / largest, 1e-6)


def test_sixteen_bits_are_divided_by_their_own_maximum():
    assert default_scale(np.full((1, 2, 2), 65535, np.uint16)) == 1 / 65535
    assert kd.arrays(np.full((1, 2, 2), 9, np.uint16), num_classes=2, scale=1.0).first.max() == 9


@pytest.mark.parametrize("sign", [1, -1])
def test_a_scale_of_the_caller_counts_for_all_types(sign):
    for stored in (BYTES, BYTES.astype(np.int64), BYTES.astype(np.float64), BYTES.astype("u8")):
        memory, stream, _ = ways(kd.arrays(stored, LABELS, scale=sign / 16))
        np.testing.assert_array_equal(memory, BYTES.astype(np.float32) * sign / 16)
        np.testing.assert_array_equal(memory, stream)


def test_a_scale_stored_in_the_file_counts_and_the_configs_goes_before(tmp_path):
    path = saved(tmp_path / "data.npz", BYTES, scale=1 / 16)
    for scale, want in ((None, 1 / 16), (0.5, 0.5)):
        data = kd_data.load(f"npz:{path}", "train", scale=scale)
        streamed = kd_data.open_stream(f"npz:{path}", "train", scale=scale)
        assert data.scale == streamed.scale == want
        assert data.fingerprint == streamed.fingerprint
    bad = saved(tmp_path / "bad.npz", BYTES, scale=[1.0, 2.0])
    with pytest.raises(KdError, match="must be one number"):
        kd_data.load(f"npz:{bad}", "train")


def listed(split, argument, data_dir):
    return [split, argument, data_dir]


def test_a_source_that_answers_with_no_data_set_is_refused():
    with pytest.raises(KdError, match=r"answered with list; return a data set"):
        kd_data.load("test_numbers:listed", "train")


def test_another_scale_is_another_data_set():
    data = kd_data.load("digits", "train[:50]")
    stream = kd_data.Stream(kd_data.as_stream(data).source, 10, "identity")
    for examples in (data, stream):
        assert examples.scaled(None) is examples
        assert examples.scaled(0.3).fingerprint != examples.fingerprint
        assert examples.scaled(0.3).seen.scale == 0.3


OFFSET = 1e9 + RANDOM.normal(size=(50, 3))
REFUSED = {
    "a mask": (np.ma.masked_equal(BYTES, 0), r"masked values.*array\.filled"),
    "an offset": (OFFSET, "subtract its mean"),
    "an offset of one feature": (np.hstack([OFFSET[:, :1], RANDOM.normal(size=(50, 2))]), "feat"),
    "a great offset": (1e15 + RANDOM.normal(size=(50, 1)), "subtract its mean"),
    "an offset of whole numbers": (2**30 + np.arange(50)[:, None] % 7, "subtract its mean"),
    "too small for float32": (RANDOM.normal(size=(50, 3)) * 1e-200, "subtract its mean"),
    "too large for float32": (RANDOM.normal(size=(50, 3)) * 1e200, "float32 cannot hold"),
    "no numbers": (np.zeros((5, 0)), "hold no numbers"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_model_would_not_see_is_refused(what):
    inputs, message = REFUSED[what]
    with pytest.raises(KdError, match=message):
        kd.arrays(inputs, num_classes=5)


@pytest.mark.parametrize("scale", [1e-300, 1e38, float("nan"), float("inf"), 0.0, True])
def test_a_scale_that_leaves_nothing_is_refused(scale):
    inputs = 50 * RANDOM.normal(size=(9, 2))
    with pytest.raises(KdError, match="scale"):
        kd.arrays(inputs, num_classes=2, scale=scale)
    with pytest.raises(KdError, match="scale"):
        kd.arrays(inputs, num_classes=2, scale=0.5).scaled(scale)
    with pytest.raises(KdError, match="scale"):
        kd_data.as_stream(kd.arrays(inputs, num_classes=2, scale=0.5)).scaled(scale)


FINE = {
    "nothing masked": np.ma.array(BYTES),
    "noise of rounding beside numbers": np.hstack(
        [0.1 + 1e-17 * OFFSET[:, :1], RANDOM.normal(size=(50, 2))]
    ),
    "years": 1990.0 + np.arange(50.0)[:, None] % 30,
    "a constant": np.full((50, 2), 0.1),
    "whole numbers": RANDOM.integers(-(2**31), 2**31 - 1, (50, 2)),
}


@pytest.mark.parametrize("what", FINE)
def test_what_float32_can_tell_apart_is_taken(what):
    assert len(kd.arrays(FINE[what], num_classes=5))


def seen(dtype="uint8", scale=1 / 255, low=0.0, high=1.0, image=True):
    return Seen((8, 8), dtype, scale, low, high, image)


UNITS = {  # two data sets, and the scale at which a model of the first sees the second
    "the same": (seen(), seen(), 1 / 255),
    "a darker half": (seen(), seen(high=0.3), 1 / 255),
    "bytes and floats": (seen(), seen("float32", 1.0), 1.0),
    "bytes that were not divided": (seen(), seen(scale=1.0, high=255.0), 1 / 255),
    "floats that were not divided": (seen(), seen("float32", 1.0, high=255.0), 1 / 255),
    "sixteenths": (seen(scale=1 / 16), seen(high=16 / 255), 1 / 16),
    "a model of raw bytes": (seen(scale=1.0, high=255.0), seen(), 1.0),
    "floats in another unit": (seen("float32", 1.0), seen("float32", 1.0, high=255.0), None),
    "centred floats": (seen("float32", 1.0, -1.0), seen(), None),
    "features with a long tail": (
        seen("float32", 1.0, image=False),
        seen("float32", 1.0, high=99.0, image=False),
        1.0,
    ),
    "an unknown range": (seen(low=None, high=None), seen("float32", 1.0), None),
}


@pytest.mark.parametrize("what", UNITS)
def test_a_model_sees_others_in_the_unit_that_it_was_trained_on(what):
    trained_on, data, want = UNITS[what]
    if want is None:
        with pytest.raises(KdError, match=r"trained was trained on .* and this data is"):
            scale_for(trained_on, data, "the trained")
        return
    scale = scale_for(trained_on, data, "it")
    assert scale == want
    assert agree(trained_on, data.at(scale)) or agree(data.at(scale), trained_on)


@hypothesis.given(st.sampled_from([row[i] for row in UNITS.values() for i in (0, 1)]), st.data())
def test_units_agree_both_ways(first, data):
    other = data.draw(st.sampled_from([row[i] for row in UNITS.values() for i in (0, 1)]))
    assert agree(first, first)
    assert agree(first, other) == agree(other, first)


def test_the_range_is_said_once_and_recorded(tmp_path, capfd):
    assert runs.train(tmp_path / "run") == 0
    said = capfd.readouterr().err
    assert said.count("train: inputs [8 8], uint8 x 1/16: 0 to 1\n") == 1
    record = json.loads((tmp_path / "run" / "run.json").read_text())["inputs"]
    assert record == {
        "shape": [8, 8],
        "dtype": "uint8",
        "scale": 1 / 16,
        "low": 0.0,
        "high": 1.0,
        "image": True,
        "ids": False,
        "tokenizer": "",
    }
    assert kd.load_trained(tmp_path / "run").seen == kd.load("digits", "train[:120]").seen
