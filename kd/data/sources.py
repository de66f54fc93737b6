"""Where examples come from: scikit-learn's digits, generated shapes and sequences, any TFDS image
set, folders of images, CSV files, arrays in an .npz file, files of text.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kd.calling import call, parameters
from kd.core.types import Targets
from kd.data.dataset import Dataset, arrays
from kd.data.images.folder import folder
from kd.data.images.generated import shapes
from kd.data.images.tfds import load_tfds
from kd.data.npz import npz
from kd.data.sequences import sequences
from kd.data.slices import parse_split, take
from kd.data.table import csv
from kd.data.tokens.source import text
from kd.data.tokens.text import Text
from kd.errors import KdError, unknown
from kd.hints import checked
from kd.names import lookup
from kd.system.paths import anywhere

Source = Callable[..., Dataset]
"""``source(split name, argument, data_dir)``; it may take `scale`, `targets` and
`text` too, see `load`."""


def digits(name: str, argument: str, data_dir: str | None) -> Dataset:
    """1,797 real 8x8 scans of digits that ship inside scikit-learn: no download.

    Splits, in file order, so that train and test are different writers' pages: train (first 1,200),
    test (last 597).

    Source: E. Alpaydin & C. Kaynak (1998), UCI optical recognition of handwritten digits.
    """
    del argument, data_dir
    bounds = {"train": slice(0, 1200), "test": slice(1200, None)}
    if name not in bounds:
        raise unknown("split of digits:", name, bounds)
    rows = _digits()[bounds[name]]
    images = rows[:, :-1].reshape(-1, 8, 8).astype(np.uint8)
    return arrays(images, rows[:, -1].astype(np.int64), num_classes=10, scale=1 / 16)


def _digits() -> np.ndarray:
    """The rows of scikit-learn's file, ``[n 65]``: pixels and label.

    It is read without importing scikit-learn, which takes longer than all else before the first
    step.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise KdError("the digits are scikit-learn's, which is not there: pip install scikit-learn")
    file = pathlib.Path(spec.origin).with_name("datasets") / "data" / "digits.csv.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return np.loadtxt(lines, delimiter=",")


def tfds(name: str, argument: str, data_dir: str | None) -> Dataset:
    """Any TFDS image classification set, read without TensorFlow: ``tfds:mnist``,
    ``tfds:fashion_mnist``, ...
    """
    return load_tfds(argument, name, data_dir)


SOURCES: dict[str, Source] = {
    "csv": csv,
    "digits": digits,
    "folder": folder,
    "npz": npz,
    "sequences": sequences,
    "shapes": shapes,
    "text": text,
    "tfds": tfds,
}
_OF_FILES = ("csv", "folder", "npz", "text")
"""The user's own files may change between two calls; their names may have colons."""


def is_code(source: str) -> bool:
    """Whether a source is a function of the user's, ``package.module:name``."""
    kind, colon, argument = source.partition(":")
    return bool(colon) and (kind not in SOURCES or (":" in argument and kind not in _OF_FILES))


def _whole(
    source: str,
    name: str,
    data_dir: str | None,
    scale: float | None,
    targets: Targets | None,
    text: Text | None,
) -> Dataset:
    told = {"scale": scale, "targets": targets, "text": text}
    data = _read(source, name, data_dir, {k: v for k, v in told.items() if v is not None})
    if not isinstance(data, Dataset):
        raise KdError(
            f"data source '{source}' answered with {type(data).__name__}; return a data set, e.g. "
            "kd.arrays(inputs, labels)"
        )
    if targets not in (None, data.targets):
        raise KdError(
            f"the labels of '{source}' are {data.targets} and data.targets says {targets}; leave "
            "it out"
        )
    return data.scaled(scale)


def _read(source: str, name: str, data_dir: str | None, told: Mapping[str, Any]) -> Any:
    """What the function of a source answers; of `told` it hears what it takes."""
    kind, colon, argument = source.partition(":")
    if colon and not is_code(source):
        read = SOURCES[kind]
    else:
        read, argument = lookup("data source", source, SOURCES), ""
    takes = parameters(read)
    if "text" in told and "text" not in takes:
        raise KdError(f"data.text is about text:FILE, and the source is '{source}'; leave it out")
    options = {key: value for key, value in told.items() if key in takes}
    if not is_code(source):
        return read(name, argument, data_dir, **options)
    words = "(split, argument, data_dir)"
    return call(f"data source '{source}'", read, words, name, argument, data_dir, **options)


_remembered = functools.lru_cache(maxsize=8)(_whole)


@checked
def load(
    source: str,
    split: str,
    data_dir: str | os.PathLike[str] | None = None,
    scale: float | None = None,
    targets: Targets | None = None,
    text: Text | None = None,
) -> Dataset:
    """The examples of `split` (``train``, ``train[50000:]``, ``train[:3%]``) of `source`.

    The model sees the stored numbers times `scale`, or at the source's own scale if that is None.
    `targets` says what the labels of a CSV or .npz file are, as in `kd.data.arrays`, and `text`
    what is read of a file of text and how.

    Sources: a name of `SOURCES`, with an argument after a colon (``tfds:mnist``), or
      ``package.module:function``
    that is called with (split name, "", data_dir), and with `scale`, `targets` and `text` where it
    takes those.

    Raises:
      KdError: an unknown source or split, a data set that is not there, an empty slice; a function
        that takes something else, and what it raises.
    """
    name, folder = parse_split(split)[0], str(anywhere(data_dir, "data_dir")) if data_dir else None
    if source.partition(":")[0] not in _OF_FILES:
        return take(_remembered(source, name, folder, scale, targets, text), split)
    whole = _whole(source, name, folder, scale, targets, text)
    part = take(whole, split)
    _check_classes(whole, part, split)
    return part


def _check_classes(whole: Dataset, part: Dataset, split: str) -> None:
    """A slice of what is sorted by class must not lose classes without a word."""
    if whole.labels is None or part.labels is None or whole.targets != "classes":
        return
    labels, kept_labels = whole.labels[whole.has_label], part.labels[part.has_label]
    if np.any(np.diff(labels) < 0):
        return
    present, kept = len(np.unique(labels)), len(np.unique(kept_labels))
    if kept < present:
        raise KdError(
            f"the examples are sorted by class and '{split}' has {kept} of the {present} classes; "
            "shuffle the rows of the file"
        )
