"""Safetensors files, read without trusting what they declare."""

from __future__ import annotations

import json
import math
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import jax.numpy as jnp
import numpy as np

from kd.errors import KdError, reading
from kd.system.paths import check_ordinary

TYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "BF16": np.dtype(jnp.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "C64": np.dtype(np.complex64),
}
"""The types of numbers by their names in a file."""
_LENGTH = 8  # bytes that say how long the header is
_MOST = 100_000_000  # bytes of a header
_METADATA = "__metadata__"
_ANEW = "get it anew"


def stored(path: pathlib.Path, fix: str = _ANEW) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name. They are read where they lie, when they are used.

    Raises:
      KdError: no such file, one that is not what its header declares (see `arrays`), or a name
        that no array should have.
    """
    check_ordinary(path)
    with reading(path, fix):
        size = path.stat().st_size
        content = np.memmap(path, np.uint8, "r") if size else np.zeros(0, np.uint8)
        held = arrays(content)
        check_names(held)
        return held


def arrays(content: Any) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, given as bytes, which they look into.

    Raises:
      ValueError: a header that is cut off, larger than the file, no JSON, or names an array twice;
        an array of an unknown type, or of other bytes than its shape has; arrays that overlap, or
        leave bytes between them.
    """
    header, start = _header(content)
    ends = start
    told = {name: entry for name, entry in header.items() if name != _METADATA}
    held: dict[str, np.ndarray] = {}
    for name, entry in sorted(told.items(), key=lambda item: _offsets(*item)):
        begin, end = _offsets(name, entry)
        if start + begin != ends:
            raise ValueError(f"its arrays overlap or leave bytes between them, at {name!r:.80}")
        ends = start + end
        if ends > len(content):
            raise ValueError(f"it holds {len(content):,} bytes and declares {ends:,} or more")
        dtype, shape = _form(name, entry, end - begin)
        held[name] = np.ndarray(shape, dtype, content, start + begin)
    if ends != len(content):
        raise ValueError(f"it holds {len(content):,} bytes and declares {ends:,}")
    return {name: held[name] for name in told}


def check_names(names: Iterable[str]) -> None:
    """Raise a `ValueError` for a name that would lead out of a folder, or cannot be shown."""
    for name in names:
        if not name or ".." in name or name.startswith("/") or not name.isprintable():
            raise ValueError(f"it holds a name that is no safe one, {name!r:.80}")


def _header(content: Any) -> tuple[dict[str, Any], int]:
    """What a file says of its arrays, and where these begin."""
    if len(content) < _LENGTH:
        raise ValueError(f"it holds {len(content)} bytes, too few for any safetensors file")
    length = int.from_bytes(bytes(content[:_LENGTH]), "little")
    if length > _MOST or _LENGTH + length > len(content):
        raise ValueError(
            f"it declares a header of {length:,} bytes and holds {len(content):,}; it is cut off, "
            "or no safetensors file"
        )
    text = bytes(content[_LENGTH : _LENGTH + length]).decode("utf-8")
    header = json.loads(text, object_pairs_hook=_each_once)
    if not isinstance(header, dict):
        raise ValueError("its header is no object of JSON")
    return header, _LENGTH + length


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it names {twice!r:.80} twice")
    return told


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    """Where an array begins and ends; an empty one comes before what begins there."""
    offsets = entry.get("data_offsets") if isinstance(entry, Mapping) else None
    if not (_are_whole(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]):
        raise ValueError(f"it does not say where {name!r:.80} lies")
    return offsets[0], offsets[1]


def _form(name: str, entry: Mapping[str, Any], size: int) -> tuple[np.dtype, tuple[int, ...]]:
    kind, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(f"{name!r:.80} is of the unknown type {kind!r:.40}")
    if not _are_whole(shape):
        raise ValueError(f"the shape of {name!r:.80} is {shape!r:.80}")
    dtype = TYPES[kind]
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{name!r:.80} is declared as {kind}{shape} in {size:,} bytes")
    return dtype, tuple(shape)


def _are_whole(numbers: Any) -> TypeGuard[list[int]]:
    return isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers)


def index(folder: pathlib.Path, name: str, fix: str = _ANEW) -> dict[str, np.ndarray]:
    """The arrays of the several files of a folder that its index, ``name``, lists.

    Raises:
      KdError: a damaged index, one that names a file outside of the folder, or a file whose arrays
        are not those that the index lists for it.
    """
    path = folder / name
    check_ordinary(path)
    with reading(path, fix):
        told = json.loads(path.read_text("utf-8"), object_pairs_hook=_each_once)
        parts = told.get("weight_map") if isinstance(told, Mapping) else None
        if not isinstance(parts, Mapping) or not parts:
            raise ValueError("it lists no arrays")
        check_names(parts)
        for file in parts.values():
            if not isinstance(file, str) or pathlib.PurePosixPath(file).name != file:
                raise ValueError(f"it names {file!r:.80}, which is no file of this folder")
            check_names([file])
    held: dict[str, np.ndarray] = {}
    for file in sorted(set(parts.values())):
        listed = {name for name, holder in parts.items() if holder == file}
        here = stored(folder / file, fix)
        if listed != here.keys():
            differs = min(listed ^ here.keys())
            raise KdError(
                f"{path} and {file} do not agree on {differs!r:.80}, which one of them lacks; {fix}"
            )
        held.update(here)
    return held
