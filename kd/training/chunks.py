"""Arrays as objects of a bucket: each in pieces of one shape, so that every process writes its own
and reads those that it needs.

A piece is its numbers in C order, little-endian, and is checked by its CRC-32 as it is read.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.core.leaves import name_of
from kd.core.types import PyTree
from kd.processes import group
from kd.storage import store
from kd.training.saving import ends_of

_LARGEST = 1 << 26  # bytes of a piece; S3 takes no object above 5 GB in one request
Place = tuple[int, ...]
Index = tuple[slice, ...]


class Damaged(Exception):
    """A piece is not there, or is not what was written."""


@dataclasses.dataclass(frozen=True)
class Form:
    """An array as it lies in a bucket: its `path` in the tree, a key of a mapping or an index of a
    sequence each, its shape and type, and the shape of its pieces.
    """

    path: tuple[str | int, ...]
    shape: tuple[int, ...]
    dtype: str
    piece: tuple[int, ...]

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Form:
        """What ``dataclasses.asdict`` and JSON made of one."""
        path, shape, piece = (tuple(told[name]) for name in ("path", "shape", "piece"))
        return cls(path, shape, told["dtype"], piece)

    @property
    def name(self) -> str:
        """The folder of its pieces."""
        return "/".join(urllib.parse.quote(str(part), safe="") for part in self.path)

    def key(self, place: Place) -> str:
        """The name of a piece by its place in the grid of all."""
        return f"{self.name}/{'.'.join(map(str, place)) or '0'}"

    def places(self, index: Index) -> Iterator[Place]:
        """The pieces that hold a part of the array."""
        ends = [
            range(start // size, -(-stop // size))
            for (start, stop), size in zip(ends_of(index, self.shape), self.piece, strict=True)
        ]
        return itertools.product(*ends)


def form_of(path: tuple[Any, ...], leaf: Any) -> Form:
    """How a leaf will lie there: a piece is what one device holds, or so many rows of it."""
    shape = tuple(leaf.shape)
    shard = leaf.sharding.shard_shape(shape) if isinstance(leaf, jax.Array) else shape
    parts = tuple(_part(key) for key in path)
    return Form(parts, shape, str(leaf.dtype), _piece(tuple(shard), shape, leaf.dtype.itemsize))


def owned(form: Form, leaf: Any) -> dict[str, np.ndarray]:
    """The pieces that this process writes, copied off its devices, by their names."""
    if not isinstance(leaf, jax.Array):
        whole = tuple(slice(0, size) for size in form.shape)
        return dict(_cut(form, whole, np.array(leaf))) if group.is_first() else {}
    shards = [shard for shard in leaf.addressable_shards if shard.replica_id == 0]
    pieces: dict[str, np.ndarray] = {}
    for shard in shards:
        # a copy: the next step writes into this memory
        pieces |= _cut(form, shard.index, np.array(shard.data))
    return pieces


def written(folder: pathlib.Path, pieces: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Write pieces into a folder, several at once: the CRC-32 of each by its name."""

    def put(name: str) -> int:
        content = np.ascontiguousarray(pieces[name]).tobytes()
        (folder / name).write_bytes(content)
        return zlib.crc32(content)

    return dict(zip(pieces, store.each(put, list(pieces)), strict=True))


class Reader:
    """The arrays of a checkpoint, of which each piece is read once."""

    def __init__(self, folder: pathlib.Path, sums: Mapping[str, int]) -> None:
        self._folder, self._sums = folder, sums
        self._pieces: dict[str, np.ndarray] = {}

    def arrays(self, forms: Sequence[Form], like: Sequence[Any]) -> list[Any]:
        """The arrays of these forms, placed as those of `like` are; NumPy's where it has None.

        Raises:
          Damaged: a piece is not what was written; its name and what is wrong.
        """
        self._fetch(forms, like)
        return [self._array(form, leaf) for form, leaf in zip(forms, like, strict=True)]

    def _fetch(self, forms: Sequence[Form], like: Sequence[Any]) -> None:
        wanted: dict[str, tuple[Form, Place]] = {}
        for form, leaf in zip(forms, like, strict=True):
            for index in _indices(form, leaf):
                wanted |= {form.key(place): (form, place) for place in form.places(index)}
        read = store.each(lambda name: self._piece(name, *wanted[name]), list(wanted))
        self._pieces = dict(zip(wanted, read, strict=True))

    def _piece(self, name: str, form: Form, place: Place) -> np.ndarray:
        try:
            content = (self._folder / name).read_bytes()
        except FileNotFoundError:
            raise Damaged(f"{name} is missing") from None
        if zlib.crc32(content) != self._sums.get(name):
            raise Damaged(f"{name} is not what was written")
        sizes = zip(place, form.piece, form.shape, strict=True) if form.shape else ()
        shape = [min(size, whole - number * size) for number, size, whole in sizes]
        return np.frombuffer(content, jnp.dtype(form.dtype)).reshape(shape)

    def _array(self, form: Form, leaf: Any) -> Any:
        if leaf is None:
            return self._part(form, tuple(slice(0, size) for size in form.shape)).copy()
        return jax.make_array_from_callback(
            form.shape, leaf.sharding, lambda index: self._part(form, index or ())
        )

    def _part(self, form: Form, index: Index) -> np.ndarray:
        places, bounds = list(form.places(index)), ends_of(index, form.shape)
        shape = [stop - start for start, stop in bounds]
        if len(places) == 1 and list(self._pieces[form.key(places[0])].shape) == shape:
            return self._pieces[form.key(places[0])]
        part = np.empty(shape, jnp.dtype(form.dtype))
        for place in places:
            piece = self._pieces[form.key(place)]
            there, here = [], []
            for number, size, (start, stop) in zip(place, form.piece, bounds, strict=True):
                low, high = max(start, number * size), min(stop, (number + 1) * size)
                there.append(slice(low - number * size, high - number * size))
                here.append(slice(low - start, high - start))
            part[tuple(here)] = piece[tuple(there)]
        return part


def nested(forms: Sequence[Form], arrays: Sequence[Any]) -> Any:
    """The tree of arrays: mappings, and lists where paths have indices."""
    if len(forms) == 1 and not forms[0].path:
        return arrays[0]
    top: dict[str | int, Any] = {}
    for form, array in zip(forms, arrays, strict=True):
        node = top
        for part in form.path[:-1]:
            node = node.setdefault(part, {})
        node[form.path[-1]] = array
    return _listed(top)


def leaves_of(tree: PyTree) -> tuple[list[Form], list[Any]]:
    """Every leaf of a tree and its form."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [form_of(path, leaf) for path, leaf in leaves], [leaf for _, leaf in leaves]


def _listed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    below = {key: _listed(value) for key, value in node.items()}
    if all(isinstance(key, int) for key in below):
        return [below[key] for key in sorted(below)]
    return below


def _part(key: Any) -> str | int:
    if isinstance(key, jax.tree_util.SequenceKey):
        return key.idx
    return name_of((key,))


def _indices(form: Form, leaf: Any) -> list[Index]:
    """The parts of an array that the devices of this process hold."""
    if leaf is None:
        return [tuple(slice(0, size) for size in form.shape)]
    return list(leaf.sharding.addressable_devices_indices_map(form.shape).values())


def _piece(shard: tuple[int, ...], shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """A piece of a shard: all of it, or as many of its rows as are not too large; of a row that is
    itself too large, as much again. No piece lies in two shards.
    """
    piece = [max(length, 1) for length in shard]
    for axis, length in enumerate(shard):
        most = _LARGEST // max(size * math.prod(shard[axis + 1 :]), 1)
        if most >= length:
            break
        whole = length == shape[axis]  # else the rows of a piece divide those of a shard
        counts = range(max(most, 1), 0, -1)
        piece[axis] = next(count for count in counts if whole or length % count == 0)
    return tuple(piece)


def _cut(form: Form, index: Index, shard: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The pieces of a shard, by their names."""
    starts = [start for start, _ in ends_of(index, form.shape)]
    for place in form.places(index):
        at = [
            slice(number * size - start, (number + 1) * size - start)
            for number, size, start in zip(place, form.piece, starts, strict=True)
        ]
        yield form.key(place), np.asarray(shard[tuple(at)])
