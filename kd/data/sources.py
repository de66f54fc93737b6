"""Where examples come from: scikit-learn's digits, generated shapes, any TFDS image set, arrays in
an .npz file.
"""

from __future__ import annotations

import functools
import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from kd.data.dataset import Dataset, arrays, parse_split, take
from kd.data.generated import shapes
from kd.data.tfds import load_tfds
from kd.errors import KdError, unknown
from kd.hints import checked
from kd.paths import local
from kd.registry import lookup

Source = Callable[[str, str, str | None], Dataset]


def digits(name: str, argument: str, data_dir: str | None) -> Dataset:
    """1,797 real 8x8 scans of digits that ship inside scikit-learn: no download.

    Splits, in file order, so that train and test are different writers' pages: train (first 1,200),
    test (last 597).

    Source: E. Alpaydin & C. Kaynak (1998), UCI optical recognition of handwritten digits.
    """
    from sklearn.datasets import load_digits

    del argument, data_dir
    bunch: Any = load_digits()
    bounds = {"train": slice(0, 1200), "test": slice(1200, None)}
    if name not in bounds:
        raise unknown("split of digits:", name, bounds)
    images, labels = bunch["images"][bounds[name]], bunch["target"][bounds[name]]
    return arrays(images.astype(np.uint8), labels, num_classes=10, scale=1 / 16)


def npz(name: str, argument: str, data_dir: str | None) -> Dataset:
    """Arrays in a NumPy file: ``npz:FILE`` holding ``<split>_inputs`` and, unless unlabelled,
    ``<split>_labels``.

    ``num_classes`` may be stored too; otherwise it is the largest label of the split plus one.
    ``<split>_starts`` and ``window`` make the split a windowed one: see `Dataset`.
    """
    path = pathlib.Path(data_dir or ".", argument)
    try:
        with path.open("rb") as file, np.load(file) as stored:
            found = {key: stored[key] for key in stored.files}
    except (
        EOFError,
        OSError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:  # TypeError: a single .npy array
        raise KdError(
            f"cannot read {path}: {error}; write it with numpy.savez(file, train_inputs=..., ...)"
        ) from error
    splits = [key.removesuffix("_inputs") for key in found if key.endswith("_inputs")]
    if name not in splits:
        raise unknown(f"split of {path}:", name, splits)
    classes, starts = _whole_number(found, "num_classes", path), found.get(f"{name}_starts")
    window = 0 if starts is None else _whole_number(found, "window", path) or 0
    return arrays(
        found[f"{name}_inputs"],
        found.get(f"{name}_labels"),
        num_classes=classes,
        starts=starts,
        window=window,
    )


def _whole_number(found: dict[str, np.ndarray], key: str, path: pathlib.Path) -> int | None:
    if key not in found:
        return None
    if found[key].size != 1 or found[key].dtype.kind not in "ui":
        raise KdError(f"{key} in {path} must be one whole number; store e.g. {key}=10")
    return int(found[key].item())


def tfds(name: str, argument: str, data_dir: str | None) -> Dataset:
    """Any TFDS image classification set, read without TensorFlow: ``tfds:mnist``,
    ``tfds:fashion_mnist``, ...
    """
    return load_tfds(argument, name, data_dir)


SOURCES: dict[str, Source] = {"digits": digits, "npz": npz, "shapes": shapes, "tfds": tfds}


def _whole(source: str, name: str, data_dir: str | None) -> Dataset:
    if source.count(":") == 1 and source.partition(":")[0] in SOURCES:
        kind, _, argument = source.partition(":")
        return SOURCES[kind](name, argument, data_dir)
    return lookup("data source", source, SOURCES)(name, "", data_dir)


_remembered = functools.lru_cache(maxsize=8)(_whole)


@checked
def load(source: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The examples of `split` (``train``, ``train[50000:]``, ``train[:3%]``) of `source`.

    Sources: a name of `SOURCES`, with an argument after a colon (``tfds:mnist``), or
      ``package.module:function``
    that is called with (split name, "", data_dir).

    Raises:
      KdError: an unknown source or split, a data set that is not there, an empty slice.
    """
    # a file of the user's may change between two calls
    read = _whole if source.startswith("npz:") else _remembered
    where = str(local(data_dir, "data_dir")) if data_dir else None
    return take(read(source, parse_split(split)[0], where), split)
