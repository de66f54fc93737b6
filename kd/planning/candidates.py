"""What to change, and in which order, when a step does not fit into memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

Change = Mapping[str, Any]
"""Keys of the config, with dots, and their new values."""


def candidates(spec: Mapping[str, Any], devices: int) -> Iterator[Change]:
    """Changes to a resolved config (as nested mappings), the least first: alone, and then together;
    `devices` are those of a slice.

    More ``fsdp``: a few devices, then all. ``remat``. Two, four and eight times the parts of
    ``accumulate``. Then all of ``fsdp`` and ``remat``, with those parts. What the config has
    already is left out.
    """
    wider = [_fsdp(spec, size) for size in _sizes(spec, devices)]
    again: Change = {"remat": True}
    parts: list[Change] = [{"accumulate": n * (spec.get("accumulate") or 1)} for n in (2, 4, 8)]
    both = {**(wider[-1] if wider else {}), **again}
    seen = []
    for change in (*wider, again, *parts, both, *({**both, **part} for part in parts)):
        new = {key: value for key, value in change.items() if _get(spec, key) != value}
        if new and new not in seen:
            seen.append(new)
            yield new


def _sizes(spec: Mapping[str, Any], devices: int) -> list[int]:
    """Sizes of the axis ``fsdp`` to try: eight devices or four times as many as now, and all of
    them.
    """
    mesh = spec.get("mesh") or {}
    room = (mesh.get("devices") or devices) // math.prod(
        mesh.get(axis) or 1 for axis in ("tensor", "member")
    )
    now = mesh.get("fsdp") or 1
    few = max(8, 4 * now)
    sizes = [size for size in (few, room) if 1 < size <= room and size >= now and room % size == 0]
    return sorted(set(sizes))


def _fsdp(spec: Mapping[str, Any], size: int) -> Change:
    change: dict[str, Any] = {"mesh.fsdp": size}
    if (spec.get("mesh") or {}).get("data") is not None:
        change["mesh.data"] = None
    change["sharding.student.rule"] = "fsdp"
    teacher = spec.get("teacher") or {}
    live = (teacher.get("source") or "run:").startswith("run:")
    if live and (teacher.get("workdir") or teacher.get("source") or teacher.get("model")):
        change["sharding.teacher.rule"] = "fsdp"
    return change


def changed(spec: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """`spec` with the change made."""
    result = json.loads(json.dumps(spec))
    for key, value in change.items():
        *parents, leaf = key.split(".")
        here = result
        for parent in parents:
            here = here.setdefault(parent, {})
        here[leaf] = value
    return result


def overrides(change: Change) -> str:
    """The change as it is typed behind a command."""
    return " ".join(f"--config.{key}={str(value).lower()}" for key, value in change.items())


def _get(spec: Mapping[str, Any], key: str) -> Any:
    here: Any = spec
    for part in key.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here
