"""Which CPU this is, as Linux describes it."""

from __future__ import annotations

import pathlib
from typing import Any

CPUINFO = pathlib.Path("/proc/cpuinfo")
LEVELS = {
    "amx": "amx_tile",
    "avx512": "avx512f",
    "avx2": "avx2",
    "avx": "avx",
    "sse4.2": "sse4_2",
    "sve": "sve",
    "neon": "asimd",
}
"""The widest vectors come first; each level has the flag that shows it."""


def described(cpuinfo: str) -> dict[str, Any]:
    """Family, model and widest vectors of the first processor; what the text lacks is left out."""
    first = cpuinfo.strip().split("\n\n")[0]
    pairs = [line.partition(":") for line in first.splitlines()]
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    level = next((level for level, flag in LEVELS.items() if flag in flags), None)
    numbers = {"family": fields.get("cpu family"), "model": fields.get("model"), "vectors": level}
    return {name: value for name, value in numbers.items() if value is not None}


def here() -> dict[str, Any]:
    """`described` of this machine; nothing where the system does not say."""
    return described(CPUINFO.read_text("utf-8")) if CPUINFO.exists() else {}


def name(machine: dict[str, Any]) -> str:
    """The key of a machine among the results: two machines with the same are one."""
    about = [
        *(f"{what} {machine[what]}" for what in ("family", "model") if what in machine),
        *([machine["vectors"]] if "vectors" in machine else []),
        f"{machine['cores']} cores",
    ]
    return ", ".join([machine["cpu"], *about])
