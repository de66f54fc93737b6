"""How much memory this process may still have, and what does not fit into it."""

from __future__ import annotations

import math
import os
import pathlib
import resource
from collections.abc import Sequence
from typing import Any

from kd.errors import KdError


def size(count: float) -> str:
    """Bytes for people: ``32.8 kB``, ``1.2 GB``; powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def check_fits(needed: int, what: str, fix: str) -> None:
    """Raise a `KdError` unless `needed` bytes for `what` can be allocated now."""
    there = available_memory()
    if needed > there:
        raise KdError(
            f"{what} takes {needed / 2**30:,.1f} GiB and {there / 2**30:,.1f} GiB of memory are "
            f"free; {fix}"
        )


def available_memory(root: pathlib.Path = pathlib.Path("/")) -> float:
    """Bytes that this process can still have, of the machine, its control groups, its limits."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    address_space = math.inf
    if limit != resource.RLIM_INFINITY:
        address_space = limit - _numbers(root / "proc/self/status").get("VmSize", 0)
    return max(0, min(_machine(root), _groups(root), address_space))


def devices_free(devices: Sequence[Any]) -> float:
    """Bytes that the fullest of these accelerators still has."""
    free = math.inf
    for device in devices:
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            free = min(free, stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return free


def _machine(root: pathlib.Path) -> float:
    numbers = _numbers(root / "proc/meminfo")
    if "MemAvailable" in numbers:
        return numbers["MemAvailable"]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # a system that does not say
        return math.inf


def _groups(root: pathlib.Path) -> float:
    """The tightest of the control groups that this process is in, of either version."""
    free = math.inf
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, inside = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
        here = top / inside.lstrip("/")
        for folder in [here, *here.parents]:
            free = min(free, _group(folder, *names))
            if folder == top:
                break
    return free


def _group(folder: pathlib.Path, limit: str, used: str, cache: str) -> float:
    most, now = _text(folder / limit).strip(), _text(folder / used).strip()
    if not (most.isdigit() and now.isdigit()):  # "max", or no such group
        return math.inf
    stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
    return int(most) - int(now) + int(stat.get(cache, 0))


def _numbers(path: pathlib.Path) -> dict[str, int]:
    """Lines such as ``MemAvailable:  123 kB``, in bytes."""
    pairs = [line.split(":", 1) for line in _text(path).splitlines() if line.endswith(" kB")]
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:  # a system without it
        return ""
