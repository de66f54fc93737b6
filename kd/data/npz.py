"""Arrays in an .npz file, read without trusting what the file declares."""

from __future__ import annotations

import io
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd.core.types import Targets
from kd.data.archive import Member, find_data, members
from kd.data.dataset import Dataset, arrays
from kd.data.words import class_list, indices
from kd.errors import KdError, reading, unknown

_INPUTS = ("inputs", "x", "images", "data", "features")
_LABELS = ("labels", "y", "targets")
_WEIGHTS = ("weights", "sample_weights")
_WRITE = "write it with numpy.savez(file, train_inputs=..., train_labels=..., ...)"


def npz(
    name: str,
    argument: str,
    data_dir: str | None,
    scale: float | None = None,
    targets: Targets | None = None,
) -> Dataset:
    """Arrays in a NumPy file: ``npz:FILE`` holding ``<split>_inputs`` and, unless unlabelled,
    ``<split>_labels``.

    The keys may be spelled otherwise: ``x_train``, ``X_train``, ``train_images``, ``train_x``, ...
    with ``y_train``, ``train_targets``, ... Labels may be words, of which an empty one is no label,
    or all that `kd.data.arrays` takes. ``<split>_weights`` are weights of the examples.
    ``num_classes`` may be stored too; otherwise it is the largest label of the split plus one. So
    may ``scale``, which the inputs are multiplied by; otherwise it is that of `kd.data.arrays`.
    ``<split>_starts`` and ``window`` make the split a windowed one: see `Windows`. With ``ids`` = 1
    inputs are identities, and ``positions`` are the shape of an example's answers: see
    `kd.data.arrays`. The file lies in `data_dir`, else in ``KD_DATA_DIR``, else here.

    Raises:
      KdError: no such file or split, a file or array that is damaged, holds Python objects, or
        declares more than is there or than memory holds.
    """
    path = find_data(argument, data_dir)
    stored = stored_arrays(path)
    splits = _splits(stored, _INPUTS, path)
    if name not in splits:
        raise _no_split(name, splits, stored, path)
    labels = _splits(stored, _LABELS, path)
    classes, starts = _whole_number(stored, "num_classes"), stored.get(f"{name}_starts")
    window = 0 if starts is None else _whole_number(stored, "window") or 0
    inputs, split_labels, names = read_array(stored[splits[name]]), None, None
    if name in labels:
        split_labels, names = _labels(
            {split: stored[key] for split, key in labels.items()}, name, path
        )
    weights = _splits(stored, _WEIGHTS, path)
    return arrays(
        inputs,
        split_labels,
        num_classes=classes,
        scale=_scale(stored) if scale is None else scale,
        starts=None if starts is None else read_array(starts),
        window=window,
        class_names=names,
        targets=targets,
        weights=_column(stored[weights[name]]) if name in weights else None,
        ids=bool(_whole_number(stored, "ids")),
        positions=_shape(stored, "positions"),
    )


def stored_arrays(path: pathlib.Path) -> dict[str, Member]:
    """The arrays of an .npz file by their keys, unread. Raises a `KdError` of any other file."""
    with reading(path, _WRITE), path.open("rb") as file:
        if file.read(2) != b"PK":
            raise ValueError("it is no .npz file")
    return {member.name.removesuffix(".npy"): member for member in members(path, fix=_WRITE)}


def _splits(
    stored: Mapping[str, Member], kinds: tuple[str, ...], path: pathlib.Path
) -> dict[str, str]:
    """The key of each split's inputs, or labels: ``train_images`` and ``X_train`` are train's."""
    any_of = "|".join(kinds)
    pattern = re.compile(rf"(?:(?P<first>\w+?)_(?:{any_of})|(?:{any_of})_(?P<last>\w+))", re.I)
    keys: dict[str, str] = {}
    for key in stored:
        match = pattern.fullmatch(key)
        if match is None:
            continue
        split = match["first"] or match["last"]
        if split in keys:
            raise KdError(f"{path} holds {keys[split]} and {key} for {split}; keep one of them")
        keys[split] = key
    return keys


def _no_split(
    name: str, splits: Mapping[str, str], stored: Mapping[str, Member], path: pathlib.Path
) -> KdError:
    if splits:
        return unknown(f"split of {path}:", name, splits)
    looked_for = f"{name}_inputs, x_{name} or {name}_images"
    return KdError(
        f"{path} has no {looked_for}; it holds {', '.join(map(repr, stored)) or 'nothing'}"
    )


def _labels(
    stored: Mapping[str, Member], name: str, path: pathlib.Path
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Labels of a split, and the class names where they are words."""
    labels = _column(stored[name])
    if labels.dtype.kind not in "US":
        return labels, None
    texts = {split: words(_column(member), member.location) for split, member in stored.items()}
    names = class_list(texts, str(path))
    return indices(texts[name], names), names


def _column(member: Member) -> np.ndarray:
    """``[n 1]`` is taken for ``[n]``: so some write labels and weights."""
    labels = read_array(member)
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def words(labels: np.ndarray, location: str) -> list[str]:
    """An array of words as text, ``[n]``. Raises a `KdError` for one of another shape."""
    if labels.ndim != 1:
        raise KdError(f"{location} has shape {labels.shape}; store one label for each example")
    if labels.dtype.kind == "S":
        return [word.decode("utf-8", "replace") for word in labels.tolist()]
    return [str(word) for word in labels.tolist()]


def _whole_number(stored: Mapping[str, Member], key: str) -> int | None:
    if key not in stored:
        return None
    value = read_array(stored[key])
    if value.size != 1 or value.dtype.kind not in "ui":
        raise KdError(f"{stored[key].location} must be one whole number; store e.g. {key}=10")
    return int(value.item())


def _shape(stored: Mapping[str, Member], key: str) -> tuple[int, ...]:
    if key not in stored:
        return ()
    value = read_array(stored[key])
    if value.dtype.kind not in "ui" or value.ndim > 1:
        raise KdError(f"{stored[key].location} must be whole numbers; store e.g. {key}=[length]")
    return tuple(value.reshape(-1).tolist())


def _scale(stored: Mapping[str, Member]) -> float | None:
    if "scale" not in stored:
        return None
    value = read_array(stored["scale"])
    if value.size != 1 or value.dtype.kind not in "uif":
        raise KdError(f"{stored['scale'].location} must be one number; store e.g. scale=1/255")
    return float(value.item())


def read_array(member: Member) -> np.ndarray:
    """The array of a member ``KEY.npy``.

    Raises:
      KdError: no array, one of Python objects, or one whose declared size is not that of its bytes.
    """
    content = member.read()
    with reading(member.location, _WRITE):
        dtype, shape, fortran, start = _header(content)
        if dtype.hasobject:
            raise KdError(
                f"{member.location} holds Python objects; store an array of numbers, or of words: "
                "labels.astype(str)"
            )
        if math.prod(shape) * dtype.itemsize != len(content) - start:
            raise ValueError(
                f"it declares {dtype}{list(shape)} and holds {len(content) - start} bytes"
            )
        flat = np.frombuffer(content, dtype, math.prod(shape), start) if dtype.itemsize else None
        if flat is None:  # words of no letters
            return np.zeros(shape, dtype)
        return flat.reshape(shape, order="F" if fortran else "C")


def _header(content: bytes) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Type, shape, whether in Fortran's order, and where the numbers begin."""
    file: Any = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"version {version} of its format is not known")
    shape, fortran, dtype = read[version](file)
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    return dtype, shape, fortran, file.tell()
