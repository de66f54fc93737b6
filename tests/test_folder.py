"""Laws of image folders: a folder is its zip and its stream, pixels are those of the files, and
what is wrong is one line that names the file.
"""

import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

import runs
from damage import damaged
from kd import data as kd_data
from kd.config import base_config, resolve
from kd.data.images.pictures import decoded, glance
from kd.errors import KdError
from kd.runs.splits import load_splits
from pictures import CLASSES, draw, encoded, write


def load(path, split="train"):
    return kd_data.load(f"folder:{path.name}", split, str(path.parent))


def stream(path, split="train", **options):
    return kd_data.open_stream(f"folder:{path.name}", split, str(path.parent), **options)


def images_of(path, split="train"):
    """Every image's bytes with its class."""
    data = load(path, split)
    return sorted(
        (data.class_names[label], image.tobytes())
        for image, label in zip(data.inputs, data.labels.tolist(), strict=True)
    )


def test_the_pixels_and_classes_are_those_of_the_files(tmp_path):
    files = draw()
    data = load(write(tmp_path / "set", files))
    assert (data.inputs.shape, data.inputs.dtype) == ((24, 6, 5, 3), np.uint8)
    assert (data.class_names, data.num_classes, data.scale) == (CLASSES, 3, 1 / 255)
    assert np.bincount(data.labels).tolist() == [8, 8, 8]
    wanted = sorted(
        (name.split("/")[1], np.asarray(Image.open(tmp_path / "set" / name)).tobytes())
        for name in files
        if name.startswith("train")
    )
    assert images_of(tmp_path / "set") == wanted


@pytest.mark.parametrize("kind", ["set.zip", "top/set", "top.zip"])
def test_a_folder_is_its_zip_with_or_without_a_folder_above(tmp_path, kind):
    files = draw()
    wanted = load(write(tmp_path / "plain", files)).fingerprint
    top = "some/folder/" if "top" in kind else ""
    path = write(tmp_path / kind, {f"{top}{name}": content for name, content in files.items()})
    assert load(path).fingerprint == wanted


@pytest.mark.parametrize("kind", ["set", "set.zip"])
def test_a_stream_is_the_data_in_memory(tmp_path, kind):
    path = write(tmp_path / kind, draw() | {"words.txt": b"no image"})
    data, read = load(path), stream(path)
    images, labels = read.read(range(len(read)))
    assert np.array_equal(images, data.inputs)
    assert labels.tolist() == data.labels.tolist() == read.labels.tolist()
    assert (read.class_names, read.scale, read.shape) == (CLASSES, 1 / 255, (6, 5, 3))
    part = stream(path, "train[25%:75%]")
    assert np.array_equal(part.read(range(12))[0], load(path, "train[25%:75%]").inputs)
    assert kd_data.in_memory(read).fingerprint == data.fingerprint


def test_a_slice_holds_every_class(tmp_path):
    path = write(tmp_path / "set.zip", draw({"train": 40}))
    for cut in ("[:25%]", "[25%:50%]", "[75%:]"):
        assert np.bincount(load(path, f"train{cut}").labels, minlength=3).min() >= 3


@pytest.mark.parametrize("ending", ["png", "webp", "bmp", "jpg", "gif"])
def test_every_format_is_read(tmp_path, ending):
    data = load(write(tmp_path / "set", draw({"train": 2}, ending=ending)))
    assert data.inputs.shape == (6, 6, 5, 3)
    if ending in ("png", "webp", "bmp"):  # the others lose something
        assert images_of(tmp_path / "set") == images_of(write(tmp_path / "png", draw({"train": 2})))


def test_the_stream_is_another_when_a_file_is(tmp_path):
    files = draw()
    prints = {stream(write(tmp_path / "a.zip", files)).fingerprint}
    changed = files | {"train/ant/000.png": files["train/ant/001.png"]}
    renamed = {name.replace("bee", "fly"): content for name, content in files.items()}
    less = dict(list(files.items())[1:])
    for number, other in enumerate((changed, renamed, less)):
        prints.add(stream(write(tmp_path / f"{number}.zip", other)).fingerprint)
    assert len(prints) == 4


# --- channels and depth ---


@pytest.mark.parametrize(
    ("shape", "dtype", "scale"),
    [((6, 5), np.uint8, 1 / 255), ((6, 5), np.uint16, 1 / 65535), ((6, 5, 3), np.uint8, 1 / 255)],
)
def test_channels_and_depth_are_those_of_the_files(tmp_path, shape, dtype, scale):
    path = write(tmp_path / "set", draw({"train": 2}, shape, dtype))
    data = load(path)
    assert data.inputs.shape == (6, 6, 5, 3 if len(shape) == 3 else 1)
    assert (data.inputs.dtype, data.scale) == (dtype, scale)
    assert np.array_equal(stream(path).read(range(6))[0], data.inputs)
    assert stream(path).scale == scale
    assert data.inputs.max() > np.iinfo(dtype).max // 2


def test_grey_among_colours_becomes_colour_in_every_split(tmp_path):
    files = (
        draw() | draw({"val": 2}, (6, 5)) | {"train/ant/x.png": encoded(np.full((6, 5), 7, "u1"))}
    )
    path = write(tmp_path / "set", files)
    data = load(path)
    assert data.inputs.shape[1:] == load(path, "val").inputs.shape[1:] == (6, 5, 3)
    assert any(np.all(image == 7) for image in data.inputs)


def test_a_palette_and_an_opaque_alpha_are_the_picture(tmp_path):
    flat = np.zeros((6, 5, 3), np.uint8) + np.array([10, 200, 30], np.uint8)
    palette = Image.fromarray(flat).quantize(4)
    alpha = np.concatenate([flat, np.full((6, 5, 1), 255, np.uint8)], -1)
    files = {"train/a/0.png": encoded(palette), "train/b/1.png": encoded(alpha)}
    assert np.array_equal(load(write(tmp_path / "set", files)).inputs, [flat, flat])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_an_image_is_turned_as_its_camera_was_held(tmp_path, orientation, ending):
    from PIL import ImageOps

    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(pixels, ending, exif=exif)
    path = write(tmp_path / "set", {f"train/a/0.{ending}": content})
    with Image.open(path / f"train/a/0.{ending}") as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(load(path).inputs, wanted[None])


# --- what is refused ---


def refused(path, message, split="train"):
    with pytest.raises(KdError, match=message) as caught:
        load(path, split)
    assert "\n" not in str(caught.value)


CLEAR = np.zeros((6, 5, 4), np.uint8)
SEVERAL = {"save_all": True, "append_images": [Image.new("RGB", (5, 6), "red")]}


@pytest.mark.parametrize(
    ("content", "ending", "message"),
    [
        (encoded(CLEAR), "png", "has transparent pixels"),
        (encoded(Image.new("RGB", (5, 6)), "gif", **SEVERAL), "gif", "is an animation"),
        (encoded(np.zeros((6, 5), np.uint16)), "png", "is a deep grey image among colour ones"),
        (b"", "png", "cannot read"),
        (b"GIF89a and no more", "gif", "cannot read"),
        (encoded(np.zeros((6, 5, 3), np.uint8), "tiff"), "png", "cannot read"),
        (draw()["train/ant/000.png"][:-30], "png", "cannot read"),
        (
            encoded(np.zeros((7, 5, 3), np.uint8)),
            "png",
            r"images of 2 sizes, 6x5 \(24\), 7x5 \(1\)",
        ),
    ],
)
def test_an_image_that_cannot_be_used_is_named(tmp_path, content, ending, message):
    path = write(tmp_path / "set.zip", draw() | {f"train/bee/odd.{ending}": content})
    refused(
        path,
        message
        if "sizes" in message
        else rf"train/bee/odd\.{ending} in .*{message}|"
        rf"{message} train/bee/odd\.{ending} in ",
    )


def test_sixteen_bits_among_eight_are_refused(tmp_path):
    files = draw(shape=(6, 5)) | {"train/ant/x.png": encoded(np.zeros((6, 5), np.uint16))}
    refused(write(tmp_path / "set", files), r"x\.png has 16 bits and .* 8; convert one")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"readme.txt": b"x"}, "holds no image; images lie in split/class/file"),
        (
            {"0.png": draw()["train/ant/000.png"]},
            r"0\.png lies in no split|0\.png in .* lies in no",
        ),
        ({"train/0.png": draw()["train/ant/000.png"]}, "has no folder of a class"),
        (draw() | {"train/0.png": b""}, "some images of train lie in no folder of a class"),
        (draw({"training": 1}), "unknown split .*did you mean 'training'"),
        (draw() | {"val/fox/0.png": b""}, "val has class 'fox', which train has not"),
    ],
)
def test_a_layout_that_is_none(tmp_path, files, message):
    refused(write(tmp_path / "set.zip", files), message)


def test_a_split_without_classes_is_unlabelled(tmp_path):
    flat = {f"unseen/{i}.png": content for i, content in enumerate(draw({"x": 2}).values())}
    path = write(tmp_path / "set", draw() | flat)
    data = load(path, "unseen")
    assert (data.labels, data.num_classes, len(data)) == (None, 3, 6)
    assert stream(path, "unseen").labels is None


def test_a_damaged_zip_gives_the_same_images_or_one_line(tmp_path):
    path, refusals = write(tmp_path / "set.zip", draw({"train": 1}, (2, 2, 3))), []
    wanted = load(path).fingerprint
    for fault, content in damaged(path.read_bytes(), most=200):
        path.write_bytes(content)
        try:
            assert load(path).fingerprint == wanted, fault
        except KdError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert "\n" not in "".join(refusals)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "gif"])
def test_a_damaged_image_is_an_image_or_one_line(ending):
    """Only PNG has checksums: what is read of a damaged one is what it was."""
    pixels, refusals = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8), []
    content = encoded(pixels, ending)
    whole = decoded(content, "x", "colour")
    for fault, bad in damaged(content):
        try:
            image = decoded(bad, "x", glance(bad, "x")[0])
        except KdError as error:
            refusals.append(str(error))
            continue
        assert image.ndim == 3
        assert ending != "png" or np.array_equal(image, whole), fault
    assert len(refusals) > 80
    assert "\n" not in "".join(refusals)


def test_more_than_memory_holds_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "set", draw({"train": 2}))
    monkeypatch.setattr("kd.system.memory.available_memory", lambda: 500)
    refused(path, r"holding 6 examples of uint8\[6, 5, 3\] takes .*set data\.stream=true")


def test_an_image_that_declares_more_than_memory_holds(tmp_path):
    """A header of a few bytes: nothing is allocated for it."""
    content = bytearray(encoded(np.zeros((6, 5), np.uint8)))
    content[16:24] = (12_000).to_bytes(4, "big") * 2
    path = write(tmp_path / "set", {"train/a/0.png": bytes(content)})
    refused(path, r"cannot read .*0\.png|0\.png takes")


# --- through the command line ---


def config(path, **keys):
    base = base_config()
    base.data.source, base.data.data_dir = f"folder:{path.name}", str(path.parent)
    base.objective, base.total_steps = {"hard": {"weight": 1.0}}, 1
    base.data.update(keys)
    return resolve(base)


def test_images_of_several_sizes_are_brought_to_one_in_memory_and_streamed(tmp_path):
    files = draw() | {"train/ant/long.png": encoded(np.zeros((9, 40, 3), np.uint8))}
    path = write(tmp_path / "set", files)
    held, _, _ = load_splits(config(path, image_size=4))
    read, _, _ = load_splits(config(path, image_size=4, stream=True))
    assert held.inputs.shape == (25, 4, 4, 3)
    assert np.array_equal(read.read(range(25))[0], held.inputs)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_student_learns_from_a_zip(tmp_path, streamed):
    write(tmp_path / "set.zip", draw({"train": 30, "test": 10}))
    keys = {
        "data__source": "folder:set.zip",
        "data__train": "train",
        "data__eval": "test",
        "data__batch_size": 30,
        "data__stream": streamed,
        "total_steps": 40,
    }
    assert runs.train(tmp_path / "run", f"--data_dir={tmp_path}", **keys) == 0
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["members"][0]["accuracy"] > 0.8


# --- real ones ---


def real(name):
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "images"
    for folder in (os.environ.get("KD_DATA_DIR"), beside):
        if folder and pathlib.Path(folder, name).is_file():
            return pathlib.Path(folder, name)
    return pytest.skip(f"no {name}: set KD_DATA_DIR to the folder that holds it")


@pytest.mark.parametrize(
    ("name", "split", "examples", "shape", "classes"),
    [
        ("cifar10_31k.zip", "test", 1000, (32, 32, 3), 10),
        ("tiny_imagenet_100.zip", "val[:5%]", 250, (64, 64, 3), 100),
    ],
)
def test_a_real_zip(name, split, examples, shape, classes):
    data = stream(real(name), split)
    assert (len(data), data.shape, data.num_classes) == (examples, shape, classes)
    assert len(np.unique(data.labels)) > 0.8 * classes
    images, labels = data.read(range(200))
    assert images.shape == (200, *shape)
    assert labels.tolist() == data.labels[:200].tolist()
    assert 60 < images.mean() < 180
