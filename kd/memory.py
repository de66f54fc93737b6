"""How much memory this process may still have, and what does not fit into it."""

from __future__ import annotations

import os
import pathlib

from kd.errors import KdError

_CONTROL_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
_ENDLESS = 2**62


def available_memory() -> int:
    """Bytes that can be allocated now: of the machine, or of the container where that is less."""
    limits = [_of_machine()]
    for limit, usage in _CONTROL_GROUPS:
        most, used = _number(limit), _number(usage)
        if most is not None and used is not None:
            limits.append(max(0, most - used))
    return min(limits)


def check_fits(size: int, what: str, fix: str) -> None:
    """Raise a `KdError` unless `size` bytes for `what` can be allocated now."""
    there = available_memory()
    if size > there:
        raise KdError(
            f"{what} takes {size / 2**30:,.1f} GiB and {there / 2**30:,.1f} GiB of memory are "
            f"free; {fix}"
        )


def _of_machine() -> int:
    try:
        text = pathlib.Path("/proc/meminfo").read_text("ascii")
    except OSError:  # no Linux
        return _physical()
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _physical()


def _physical() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # this system does not say
        return _ENDLESS


def _number(path: str) -> int | None:
    """None where the file is not there, or says ``max``."""
    try:
        return int(pathlib.Path(path).read_text("ascii"))
    except (OSError, ValueError):
        return None
