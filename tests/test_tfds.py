"""Laws of prepared TFDS image sets: in memory is the stream, and what is damaged is one line."""

import numpy as np
import pytest

from bench.prepared import prepare
from damage import damaged
from kd import data as kd_data
from kd.data.images.tfds import load_tfds, stream_tfds
from kd.errors import KdError
from pictures import encoded

IMAGES = list(np.random.default_rng(0).integers(0, 256, (36, 28, 28, 1), np.uint8))


@pytest.fixture
def home(tmp_path):
    return prepare(tmp_path, {"train": IMAGES, "test": IMAGES[:5]})


def load(home, split="train"):
    return load_tfds("mnist", split, str(home.parents[1]))


def refused(home, message):
    for read in (load, lambda home: stream_tfds("mnist", "train", str(home.parents[1]))):
        with pytest.raises(KdError, match=message) as caught:
            read(home)
        assert "\n" not in str(caught.value)


def shard(home):
    return sorted(home.glob("*train*"))[1]


def test_in_memory_is_the_stream(home):
    data, read = load(home), stream_tfds("mnist", "train", str(home.parents[1]))
    assert np.array_equal(data.inputs, IMAGES)
    assert data.labels.tolist() == [k % 10 for k in range(36)]
    assert (data.num_classes, data.scale) == (10, 1 / 255)
    assert kd_data.in_memory(read).fingerprint == data.fingerprint


def test_a_shard_that_is_not_there(home):
    shard(home).unlink()
    refused(home, r"no .*mnist-train.array_record-00001, a part of the data set; prepare it again")


@pytest.mark.parametrize("length", [0, 10, 1000, 70_000, -1, -100])
def test_a_shard_that_is_cut(home, length):
    shard(home).write_bytes(shard(home).read_bytes()[:length])
    refused(home, "holds 0 examples and dataset_info.json notes 16|cannot read")


@pytest.mark.parametrize("noted", [15, 17])
def test_a_count_that_is_not_that_of_the_shard(home, noted):
    info = home / "dataset_info.json"
    info.write_text(info.read_text().replace('"16"', f'"{noted}"'))
    refused(home, f"holds 16 examples and dataset_info.json notes {noted}")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe"])
def test_notes_that_are_none(home, content):
    (home / "dataset_info.json").write_bytes(content)
    refused(home, "cannot read .*mnist.*prepare (it|the set) again")


def test_damage_anywhere_gives_the_same_data_or_one_line(home):
    """Every byte that is not padding."""
    whole, path, refusals = load(home).fingerprint, shard(home), []
    content = path.read_bytes()
    end = max(place for place, byte in enumerate(content) if byte)
    tail = content[end + 1 :]
    for fault, head in damaged(content[: end + 1], most=60):
        path.write_bytes(head + tail)
        try:
            assert load(home).fingerprint == whole, fault
        except KdError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert "\n" not in "".join(refusals)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"no image", "cannot read example 3, row 3 of the source: "),
        (encoded(IMAGES[0][..., 0])[:-40], "cannot read example 3, row 3 of the source: "),
        (encoded(np.zeros((9, 28), np.uint8)), r"image 3 is uint8\[9, 28, 1\] and uint8\[28, 28"),
    ],
)
def test_an_image_that_cannot_be_used_is_named(tmp_path, image, message):
    home = prepare(tmp_path, {"train": [*IMAGES[:3], image, *IMAGES[3:]]})
    with pytest.raises(KdError, match=message) as caught:
        load(home)
    assert "\n" not in str(caught.value)


def test_more_than_memory_holds_is_refused_before_it_is_read(home, monkeypatch):
    monkeypatch.setattr("kd.system.memory.available_memory", lambda: 500)
    with pytest.raises(KdError, match=r"holding 36 examples .*set data\.stream=true"):
        load(home)
