"""Data that was decoded once is not decoded again as long as its files are the same, and is the
same to the byte.
"""

import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from bench.prepared import prepare
from kd import data as kd_data
from kd.data import as_stream, in_memory, table
from kd.errors import KdError
from kd.system import kept
from pictures import draw, encoded, write
from streams import DATA, Counted, counted

KINDS = ("folder", "zip", "tar", "tfds", "csv", "csv-zip")
CSV = "width,height,kind\n" + "".join(f"{k},{k * k % 7},{'ab'[k % 2]}\n" for k in range(12))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setattr(kept, "SETTLED", -60.0)  # the files of a test are as new as it is
    return tmp_path / "kept"


@pytest.fixture
def opened(monkeypatch):
    """How many images were opened, sets decoded, or tables parsed, so far."""
    calls = []

    def noted(function):
        return lambda *args, **options: calls.append(function) or function(*args, **options)

    held = sys.modules["kd.data.held"]
    monkeypatch.setattr(held, "_decoded", noted(held._decoded))
    monkeypatch.setattr(Image, "open", noted(Image.open))
    monkeypatch.setattr(table, "read_table", noted(table.read_table))
    return calls


def made(kind, folder, seed=0, splits=None, shape=(6, 5, 3)):
    """A source of that kind and the file whose change must be noticed."""
    files = draw(splits, shape, seed=seed, ending="bmp")  # of one size, whatever they show
    if kind == "folder":
        write(folder / "set", files)
        return "folder:set", folder / "set/train/ant/000.bmp"
    if kind == "zip":
        return "folder:set.zip", write(folder / "set.zip", files)
    if kind == "tar":
        write(folder / "plain", files)
        shutil.make_archive(str(folder / "set"), "tar", folder / "plain")
        shutil.rmtree(folder / "plain")
        return "folder:set.tar", folder / "set.tar"
    if kind == "tfds":
        images = np.random.default_rng(seed).integers(0, 256, (20, 28, 28, 1), np.uint8)
        home = prepare(folder, {"train": images, "test": images[:3]})
        return "tfds:mnist", sorted(home.glob("*train*"))[0]
    text = CSV.replace("3,", f"{3 + seed},")
    name = "rows.csv" if kind == "csv" else "rows.zip"
    path = folder / name
    write(path, {"train.csv": text}) if kind == "csv-zip" else path.write_text(text)
    return f"csv:{name}", path


def read(source, folder, **options):
    """What is read of a source, in full."""
    whole = kd_data.sources._whole(source, "train", str(folder), None, None, None)
    return whole.inputs.tobytes(), whole.labels.tolist(), whole.class_names, whole.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_reading_opens_nothing_and_gives_the_same_bytes(kind, tmp_path, opened):
    source, _ = made(kind, tmp_path)
    bare = read_bare(source, tmp_path)
    assert opened
    first = read(source, tmp_path)
    between = len(opened)
    assert read(source, tmp_path) == first == bare
    looks = 1 if kind in ("folder", "zip", "tar") else 0  # at the first header: is it colour?
    assert len(opened) == between + looks


def read_bare(source, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_CACHE_DIR", "off")
        return read(source, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_noticed(kind, tmp_path):
    """One that has the same size, and pretends to be as old."""
    source, file = made(kind, tmp_path)
    (tmp_path / "other").mkdir()
    _, other = made(kind, tmp_path / "other", seed=1)
    before, stat, size = read(source, tmp_path), file.stat(), other.stat().st_size
    file.write_bytes(other.read_bytes())
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if kind in ("folder", "tar", "csv"):
        assert size == stat.st_size
    if kind == "tfds":  # what it noted is of the other one too
        shutil.copytree(other.parent, file.parent, dirs_exist_ok=True)
    after = read(source, tmp_path)
    assert after != before
    assert after == read_bare(source, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_is_thrown_away(kind, tmp_path, place):
    source, _ = made(kind, tmp_path)
    before = read(source, tmp_path)
    arrays = sorted((place / "data").glob("*/*.npy"))
    assert arrays
    for path in arrays:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert read(source, tmp_path) == before
        assert path.read_bytes() != content


@pytest.mark.parametrize("kind", KINDS)
def test_off_keeps_nothing(kind, tmp_path, place, monkeypatch, opened):
    monkeypatch.setenv("KD_CACHE_DIR", "off")
    source, _ = made(kind, tmp_path)
    opened.clear()
    first, count = read(source, tmp_path), len(opened)
    assert read(source, tmp_path) == first
    assert len(opened) == 2 * count
    assert not place.exists()


def test_nothing_is_kept_of_what_was_changed_a_moment_ago(tmp_path, place, monkeypatch):
    monkeypatch.setattr(kept, "SETTLED", 3600.0)
    for kind in ("folder", "csv"):
        read(made(kind, tmp_path)[0], tmp_path)
    assert not place.exists()


def test_that_all_are_grey_is_seen_once(tmp_path, opened):
    made("folder", tmp_path, shape=(6, 5))
    read("folder:set", tmp_path)
    opened.clear()
    read("folder:set", tmp_path)
    assert len(opened) == 1
    write(tmp_path / "set", {"test/ant/000.png": encoded(np.zeros((6, 5, 3), np.uint8))})
    assert kd_data.load("folder:set", "train", tmp_path).inputs.shape[-1] == 3


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_stream_and_other_sizes_are_kept_too(kind, tmp_path, opened):
    source, _ = made(kind, tmp_path)

    def streamed(split="train[25%:]"):
        stream = kd_data.open_stream(source, split, str(tmp_path))
        return stream.read(range(6))[0].tobytes(), stream.names.tolist(), stream.class_names

    def resized():
        stream = kd_data.open_stream(source, "train", str(tmp_path), size=4)
        return in_memory(stream).inputs.tobytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_CACHE_DIR", "off")
        bare = streamed(), resized()
    assert (streamed(), resized()) == bare
    opened.clear()
    assert (streamed(), resized()) == bare
    assert len(opened) == 2


def test_images_of_several_sizes_are_streamed_as_before(tmp_path):
    large = encoded(np.zeros((9, 9, 3), np.uint8))
    write(tmp_path / "set", draw({"train": 4}) | {"train/ant/x.png": large})
    stream = kd_data.open_stream("folder:set", "train", str(tmp_path), size=4)
    assert stream.read(range(13))[0].shape == (13, 4, 4, 3)
    plain = kd_data.open_stream("folder:set", "train", str(tmp_path))
    with pytest.raises(KdError, match=r"was expected; set data\.image_size"):
        plain.read(range(13))


def test_nothing_is_kept_of_what_no_file_is_known_of(place, opened):
    """Neither of arrays, nor of a file that cannot be looked at."""
    source = Counted()
    source.files = ("gs://bucket/file",)
    for stream in (as_stream(DATA), counted(source)):
        opened.clear()
        assert in_memory(stream).fingerprint == in_memory(stream).fingerprint
        assert len(opened) == 2
    assert not place.exists()
