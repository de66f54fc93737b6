"""What is kept on disk between commands: compiled programs, decoded data, a teacher's answers.

It lies in ``KD_CACHE_DIR``, by default ``~/.cache/kd``; ``KD_CACHE_DIR=off`` keeps nothing. An
entry is named by what made it, checked before use, and thrown away when damaged. The entries that
were unused longest go when a kind of them grows above its limit.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kd.system.paths import local

LIMITS = {"compiled": 2 * 2**30, "data": 8 * 2**30, "answers": 4 * 2**30, "copies": 64 * 2**30}
"""Bytes of each kind that stay."""

SETTLED = 1.0
"""Seconds for which a file must be unchanged before anything is kept of it: a clock that ticks
slowly does not tell a change that follows at once.
"""
_DAMAGED = re.compile(r"persistent compilation cache entry for '([^']+)'")


def folder(kind: str) -> pathlib.Path | None:
    """Where entries of this kind lie; None where nothing is kept.

    Raises:
      KdError: ``KD_CACHE_DIR`` names no folder of this machine.
    """
    chosen = os.environ.get("KD_CACHE_DIR", "")
    if chosen.lower() == "off":
        return None
    if chosen:
        return local(chosen, "KD_CACHE_DIR") / kind
    above = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if above.startswith("~") else pathlib.Path(above, "kd", kind)  # nobody's home


@functools.cache  # once for a process
def ready(place: pathlib.Path) -> bool:
    """Make the folder of compiled programs, and remove what is too much there. Whether that can be
    done.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home: nothing is kept, and nothing else changes
        return False
    trim(place, LIMITS["compiled"])
    return True


def throw_away_damaged(place: pathlib.Path) -> None:
    """JAX warns of an entry that it cannot read, compiles anew and leaves the entry as it is."""
    show = warnings.showwarning

    def instead(message: Warning | str, *more: Any, **options: Any) -> None:
        damaged = _DAMAGED.search(str(message))
        if damaged is None:
            show(message, *more, **options)
            return
        for entry in place.glob(f"{glob.escape(damaged[1])}-*"):
            entry.unlink(missing_ok=True)

    warnings.showwarning = instead


def trim(place: pathlib.Path, limit: int) -> None:
    """Remove what was unused longest until `place` holds at most `limit` bytes."""
    entries = []
    for entry in place.iterdir():
        with contextlib.suppress(OSError):  # another process may be trimming too
            entries.append((_used(entry), _size(entry), entry))
    total = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries, key=lambda e: e[0]):
        if total <= limit:
            return
        _remove(entry)
        total -= size


def read(kind: str, key: str) -> dict[str, Any] | None:
    """The arrays that `write` kept under `key`, each mapped into memory; None where there are none.

    An entry whose bytes are not those that were written is removed.
    """
    import numpy as np

    place = folder(kind)
    entry = None if place is None else place / key
    if entry is None or not entry.is_dir():
        return None
    try:
        sums = json.loads((entry / "sums.json").read_text("utf-8"))
        if any(_sum(entry / f"{name}.npy") != told for name, told in sums.items()):
            raise ValueError("its bytes have changed")
        os.utime(entry)  # used now
        return {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in sums}
    except (OSError, ValueError, AttributeError):
        _remove(entry)
        return None


def write(kind: str, key: str, arrays: Mapping[str, Any]) -> None:
    """Keep `arrays` under `key`, whole or not at all. Nothing is kept where there is no room."""
    import numpy as np

    place = folder(kind)
    if place is None or sum(np.asarray(a).nbytes for a in arrays.values()) > LIMITS[kind] // 2:
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix=".unfinished-", dir=place))
    except OSError:  # a read-only home
        return
    try:
        for name, array in arrays.items():
            np.save(unfinished / f"{name}.npy", np.asarray(array))
        sums = {name: _sum(unfinished / f"{name}.npy") for name in arrays}
        (unfinished / "sums.json").write_text(json.dumps(sums), "utf-8")
        _remove(place / key)
        unfinished.rename(place / key)
        trim(place, LIMITS[kind])
    except OSError:  # a full disk: it is computed again next time
        _remove(unfinished)


def remembered(
    kind: str, key: str | None, make: Callable[[], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """The arrays that are kept under `key`; where there are none, those of `make`, which are then
    kept. None as a key keeps nothing.
    """
    stored = None if key is None else read(kind, key)
    if stored is not None:
        return stored
    arrays = make()
    if key is not None:
        write(kind, key, arrays)
    return arrays


def key_of(*parts: Any) -> str:
    """A name for what these parts make: 24 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def key_of_files(files: Iterable[str | os.PathLike[str]], *parts: Any) -> str | None:
    """A name for what is made of these files and parts, another one as soon as a file is changed or
    is another file.

    None where nothing may be kept: there are no files, one cannot be looked at (in a bucket, say),
    or was changed a moment ago.
    """
    try:
        stats = [os.stat(file) for file in files]
    except OSError:
        return None
    newest = max((max(stat.st_mtime, stat.st_ctime) for stat in stats), default=math.inf)
    if newest > time.time() - SETTLED:
        return None
    stamps = [[s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in stats]
    return key_of(*parts, stamps)


def _sum(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _used(entry: pathlib.Path) -> float:
    """When an entry was used last: `read` touches a folder, and the system a file."""
    told = entry.stat()
    return told.st_mtime if entry.is_dir() else max(told.st_mtime, told.st_atime)


def _size(entry: pathlib.Path) -> int:
    if not entry.is_dir():
        return entry.stat().st_size
    return sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())


def _remove(entry: pathlib.Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
