"""Slices: devices with a fast network among them, and a slower one from slice to slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kd.errors import KdError


def in_slices(devices: Sequence[Any], slices: int | None) -> list[list[Any]]:
    """The devices of every slice, all of one number.

    TPU chips know which slice they are in, and `slices` can only repeat how many there are. Other
    devices do not: then a slice is so many of them in a row, and without a number there is one.

    Raises:
      KdError: not so many slices, slices of several sizes, devices that do not divide over them,
        or a process whose devices would lie in two.
    """
    by_index = _by_index(devices)
    if by_index:
        return _told(by_index, slices)
    count = 1 if slices is None else slices
    if not 1 <= count <= len(devices) or len(devices) % count:
        raise KdError(
            f"mesh.slices is {count} and {len(devices)} devices do not divide over that; use a "
            f"divisor of {len(devices)}"
        )
    size = len(devices) // count
    groups = [list(devices[start : start + size]) for start in range(0, len(devices), size)]
    _check_processes(groups)
    return groups


def _by_index(devices: Sequence[Any]) -> dict[int, list[Any]]:
    """The chips of each slice, in its order; empty where devices do not know theirs."""
    if not all(device.platform == "tpu" for device in devices):
        return {}
    groups: dict[int, list[Any]] = {}
    for device in devices:
        groups.setdefault(getattr(device, "slice_index", 0), []).append(device)
    return dict(sorted(groups.items()))


def _told(by_index: dict[int, list[Any]], slices: int | None) -> list[list[Any]]:
    groups = list(by_index.values())
    if slices not in (None, len(groups)):
        raise KdError(
            f"mesh.slices is {slices} and these chips are {_number(len(groups))}; leave it out: "
            "TPU chips know their slice"
        )
    sizes = sorted({len(group) for group in groups})
    if len(sizes) > 1:
        raise KdError(
            f"the slices have {' and '.join(map(str, sizes))} chips, and a mesh needs slices of "
            "one size; use slices of one topology, and all chips (mesh.devices=none)"
        )
    return groups


def _check_processes(groups: Sequence[Sequence[Any]]) -> None:
    """A process that lies in two slices would make them one network; alone it plays all of them."""
    owners = [{getattr(device, "process_index", 0) for device in group} for group in groups]
    processes = set().union(*owners)
    if len(processes) > 1 and sum(map(len, owners)) > len(processes):
        raise KdError(
            f"mesh.slices is {len(groups)} and {len(processes)} processes do not divide over that; "
            "start a multiple of mesh.slices"
        )


def _number(slices: int) -> str:
    return "1 slice" if slices == 1 else f"{slices} slices"
