"""Files of buckets for whoever reads files of this machine alone: copied here, and asked about
again whenever they are used.
"""

from __future__ import annotations

import json
import os
import pathlib
import tempfile

from kd.storage import BucketPath, store
from kd.system import kept


def brought(path: pathlib.Path) -> pathlib.Path:
    """A file, or a folder with all that is below it, as this machine has it: itself, or of a bucket
    a copy of the same name, in which what has changed there since is copied anew.

    What is not there in the bucket is the path itself.

    Raises:
      BucketError: it cannot be read there.
    """
    if not isinstance(path, BucketPath):
        return path
    keys = store.names(path.bucket, f"{path.key}/") or store.names(
        path.bucket, path.key, exactly=True
    )
    if not keys:
        return path
    copies = kept.place("copies")
    place = copies / kept.key_of(str(path))
    place.mkdir(parents=True, exist_ok=True)
    os.utime(place)  # used now
    copy, noted = place / path.name, place / "versions.json"
    had = _versions(noted)
    start = len(path.key) + 1
    inside = {key[start:]: key for key in keys}
    versions = store.each(lambda name: _copy(path, name, copy, had), list(inside))
    has = dict(zip(inside, versions, strict=True))
    for name in had.keys() - has.keys():
        _file(copy, name).unlink(missing_ok=True)
    _put(noted, json.dumps(has).encode())
    kept.trim(copies, kept.LIMITS["copies"])
    return copy


def _copy(path: BucketPath, name: str, copy: pathlib.Path, had: dict[str, str]) -> str:
    """Copy an object unless that version of it is here. Its version."""
    file, key = _file(copy, name), f"{path.key}/{name}" if name else path.key
    known = bytes.fromhex(had[name]) if name in had and file.is_file() else None
    if known is None:
        changed = store.get(path.bucket, key)
    else:
        changed = store.get_changed(path.bucket, key, known)
    if changed is None:
        return had[name]
    file.parent.mkdir(parents=True, exist_ok=True)
    _put(file, changed.content or b"")
    return changed.version.hex()


def _file(copy: pathlib.Path, name: str) -> pathlib.Path:
    return copy / name if name else copy


def _versions(noted: pathlib.Path) -> dict[str, str]:
    try:
        told = json.loads(noted.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _put(file: pathlib.Path, content: bytes) -> None:
    """Several processes may copy the same."""
    number, unfinished = tempfile.mkstemp(prefix=".unfinished-", dir=file.parent)
    with open(number, "wb") as opened:
        opened.write(content)
    os.replace(unfinished, file)
