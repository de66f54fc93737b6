"""NumPy archives, damaged, and what training makes of them."""

import io
import pathlib
import struct
import zipfile

import numpy as np

import runs
from fuzz.oracle import Case, trained
from fuzz.values import choice

KEYS = {"total_steps": 20, "log_steps": 10, "data__batch_size": 20, "optim__learning_rate": 0.1}


def of_loss(loss):
    """The keys of a run that has this loss in the place of `hard`."""
    return {"objective__hard": "none", f"objective__{loss}__weight": 1.0}


LABELS = {
    "classes": {},
    "weighted": {},
    "partly labelled": {},
    "yes or no": of_loss("bce"),
    "numbers": of_loss("mse"),
}
"""The keys of a run that learns such labels."""


def npz(random):
    """An archive with one or two damages, or none."""
    kind = choice(random, ["classes", "classes", *LABELS])
    damages = [choice(random, NPZ_DAMAGES) for _ in range(int(choice(random, [0, 1, 1, 1, 2])))]
    seeds = [int(random.integers(2**31)) for _ in damages]
    stream = bool(random.random() < 0.2)

    def call():
        from kd.cli.main import main

        arrays, content = _arrays(kind), None
        for damage, seed in zip(damages, seeds, strict=True):
            draw = np.random.default_rng(seed)
            if damage in OF_ARRAYS:
                damage(draw, arrays)
        content = _zipped(arrays)
        for damage, seed in zip(damages, seeds, strict=True):
            if damage in OF_BYTES:
                content = damage(np.random.default_rng(seed), content)
        pathlib.Path("a.npz").write_bytes(content)
        keys = {**KEYS, **LABELS[kind], "data__source": "npz:a.npz", "data__stream": stream}
        keys |= {"data__train": "train", "data__eval": "test"}
        return main(runs.kd("train", "--workdir=run", "--data_dir=.", **keys))

    words = f"npz, {kind}{', streamed' * stream}: {names(damages) or 'whole'}"
    learns = not damages
    return Case(words, call, lambda *_: trained(pathlib.Path("run"), learns))


def names(damages):
    """In words."""
    return ", ".join(damage.__name__.removeprefix("_") for damage in damages)


def _arrays(kind):
    random, arrays = np.random.default_rng(0), {}
    centres = random.normal(size=(3, 4, 4))
    for split, count in (("train", 60), ("test", 300)):
        labels = np.arange(count) % 3
        arrays[f"{split}_inputs"] = (
            centres[labels] + random.normal(size=(count, 4, 4)) / 2
        ).astype(np.float32)
        arrays[f"{split}_labels"] = labels
    return {**arrays, **_other_labels(kind, arrays)}


def _other_labels(kind, arrays):
    labels = arrays["train_labels"], arrays["test_labels"]
    if kind == "weighted":
        return {"train_weights": 1.0 + labels[0]}
    if kind == "partly labelled":
        return {"train_labels": np.where(np.arange(60) % 4, labels[0], -1)}
    if kind == "classes":
        return {}
    told = [np.eye(3)[k] if kind == "yes or no" else k + 0.5 for k in labels]
    return {"train_labels": told[0], "test_labels": told[1]}


def _zipped(arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


TYPES = [*("?", "u1", "i1", "u2", ">u2", "i4", ">i4", "u8", "i8", "f2", "f4", ">f4", "f8", ">f8")]
TYPES += [*("g", "c8", "U3", "S3", "O", "M8[s]", "m8[s]", "V4")]
SHAPES = [(), (0,), (60,), (60, 0), (60, 16), (1, 4, 4), (60, 2, 2, 2, 2), (300, 4, 4)]


def _another_type(random, arrays):
    name, kind = choice(random, sorted(arrays)), choice(random, TYPES)
    try:
        arrays[name] = arrays[name].astype(kind)
    except (TypeError, ValueError):
        arrays[name] = np.zeros(arrays[name].shape, kind)


def _another_shape(random, arrays):
    name = choice(random, sorted(arrays))
    arrays[name] = np.resize(arrays[name], choice(random, SHAPES))


def _odd_numbers(random, arrays):
    name = choice(random, sorted(arrays))
    array = arrays[name].copy()
    odd = [np.nan, np.inf, -1, 1e38, 2**31] if array.dtype.kind == "f" else [-1, 3, 2**40]
    if array.size and array.dtype.kind in "fi":
        with np.errstate(all="ignore"):
            array.flat[random.integers(array.size)] = np.array(choice(random, odd)).astype(
                array.dtype
            )
    arrays[name] = array


def _all_the_same(random, arrays):
    name = choice(random, sorted(arrays))
    arrays[name] = np.full_like(arrays[name], choice(random, [0, 1]))


def _an_array_gone(random, arrays):
    del arrays[choice(random, sorted(arrays))]


def _an_array_too_many(random, arrays):
    values = [np.arange(3), np.array(5), np.array("x"), np.array(2**40), np.array([]), np.array(-1)]
    name = choice(random, ["num_classes", "window", "train_starts", "x", "scale", "train_weight"])
    arrays[name] = choice(random, values)


def cut(random, content):
    return content[: random.integers(len(content))]


def a_bit(random, content):
    content = bytearray(content)
    content[random.integers(len(content))] ^= 1 << random.integers(8)
    return bytes(content)


def bytes_between(random, content):
    place = random.integers(len(content))
    return content[:place] + random.bytes(16) + content[place:]


def _another_file(random, content):
    array = io.BytesIO()
    np.save(array, np.zeros((3, 3)))
    return choice(
        random, [b"", b"PK", b"x" * 99, array.getvalue(), b"\x93NUMPY\x01\x00", b"\0" * 9]
    )


def _a_bad_member(random, content):
    """A member that is no array, or is compressed, encrypted or sized as none can be."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content
    names = ["train_inputs.npy", "train_labels.npy", "x", "../x.npy", "/x.npy", "x/y.npy", "é.npy"]
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        bad = choice(random, names)
        for name in old.namelist():
            if name != bad:
                new.writestr(name, old.read(name))
        new.writestr(
            bad,
            choice(
                random,
                [
                    b"",
                    b"x" * 30,
                    _header("(9999999999, 9999999)"),
                    _header("(-1,)"),
                    _header("(3,"),
                ],
            ),
        )
    content = bytearray(file.getvalue())
    place = content.rfind(b"PK\x01\x02")  # of the bad member, in the table of contents
    if random.random() < 0.3:
        content[place + 8] |= 1  # encrypted
    elif random.random() < 0.3:
        struct.pack_into("<H", content, place + 10, int(choice(random, [1, 8, 12, 14, 93, 99])))
    elif random.random() < 0.3:
        struct.pack_into("<I", content, place + 24, 2**32 - 2)
    return bytes(content)


def _header(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"


OF_ARRAYS = [_another_type, _another_shape, _odd_numbers, _all_the_same]
OF_ARRAYS += [_an_array_gone, _an_array_too_many]
OF_BYTES = [cut, a_bit, a_bit, bytes_between, _another_file, _a_bad_member, _a_bad_member]
NPZ_DAMAGES = [*OF_ARRAYS, *OF_ARRAYS, *OF_BYTES]
