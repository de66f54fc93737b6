"""Which devices a collective is among, and what of it goes from slice to slice."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np

from kd.planning.hlo import Instruction

_IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\]([^{]*)\{([^}]*)\}")
_ORDER = re.compile(r"device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)")
_PAIRS = re.compile(r"source_target_pairs=\{(\{.*?\})\}")
_LISTED = re.compile(r"replica_groups=\{(\{.*?\})\}")


@dataclasses.dataclass(frozen=True)
class Groups:
    """The groups of a collective, ``[groups, size]`` numbers of devices; of a permutation the pairs
    of source and target.
    """

    members: np.ndarray

    @property
    def size(self) -> int:
        """How many devices one group has."""
        return self.members.shape[1]

    def over(self, kind: str, slices: int, partitions: int) -> float:
        """The part of the bytes sent that goes from slice to slice, 0 to 1; devices are numbered
        slice by slice.

        A group of ``g`` devices in ``s`` slices, ``m = g / s`` in each, sums within each slice and
        then each part of it with its likes in the others. Of the ``(g - 1) / g`` that an
        all-gather, and twice an all-reduce, sends, that is ``(s - 1) / g``. An all-to-all sends
        ``(g - m) / g`` to other slices; a permutation what its pairs do.
        """
        if slices == 1 or self.size == 1:
            return 0.0
        of_each = self.members // (partitions // slices)
        touched = np.asarray([len(set(row)) for row in of_each.tolist()])
        if kind == "collective-permute":
            return float(np.mean(touched > 1))
        s, g = float(touched.mean()), self.size
        crossing = g - g / s if kind == "all-to-all" else s - 1
        return crossing / (g - 1)


def groups_of(instruction: Instruction, partitions: int) -> Groups:
    """The groups that a collective's text names, in any of its notations; without one all devices
    are one group.
    """
    text = instruction.attributes
    if pairs := _PAIRS.search(text) or _LISTED.search(text):
        return Groups(_rows(pairs.group(1)))
    if iota := _IOTA.search(text):
        return Groups(_iota(*iota.groups()))
    if mesh := _MESH.search(text):
        return Groups(_of_mesh(*mesh.groups()))
    return Groups(np.arange(partitions)[None])


def _rows(text: str) -> np.ndarray:
    """``{0,1},{2,3}``; of groups of several sizes those of the first one's."""
    rows = [
        [int(number) for number in row.split(",")] for row in re.findall(r"\{([\d,\s]+)\}", text)
    ]
    return np.asarray([row for row in rows if len(row) == len(rows[0])])


def _iota(count: str, size: str, shape: str, order: str | None) -> np.ndarray:
    """``[count,size]<=[shape]T(order)``: all numbers in a row, laid out, transposed, cut."""
    return _laid_out(shape, order).reshape(int(count), int(size))


def _laid_out(shape: str, order: str | None) -> np.ndarray:
    numbers = np.arange(math.prod(_numbers(shape))).reshape(_numbers(shape))
    return numbers if order is None else numbers.transpose(_numbers(order))


def _of_mesh(axes: str, devices: str, along: str) -> np.ndarray:
    """``['a'=8,'b'=2] {'a':(2)4}``: the groups are along axes, or along a part of one (of size 4,
    with 2 before it); ``device_ids=([2,8]T(1,0))`` says which devices stand in the mesh.
    """
    sizes = {name: int(size) for name, size in re.findall(r"['\"]([^'\"]+)['\"]=(\d+)", axes)}
    named = re.findall(r"['\"]([^'\"]+)['\"](?::\((\d+)\)(\d+))?", along)
    cut = {
        name: (int(before or 1), int(part or sizes.get(name, 1))) for name, before, part in named
    }
    shape, chosen = [], []
    for name, size in sizes.items():
        before, part = cut.get(name, (size, 1))
        chosen += [len(shape) + 1] if name in cut else []
        shape += [before, part, size // (before * part)]
    told = _ORDER.search(devices)
    ids = np.arange(math.prod(shape)) if told is None else _laid_out(*told.groups())
    numbers = ids.reshape(shape)
    rest = [axis for axis in range(len(shape)) if axis not in chosen]
    size = math.prod(shape[axis] for axis in chosen)
    return numbers.transpose([*rest, *chosen]).reshape(-1, size)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
