"""What a disk and a bucket do in different ways, with files of both."""

from __future__ import annotations

import os
import pathlib

from kd.storage import store
from kd.storage.bucket_path import BucketPath
from kd.storage.lease import LEASE


def write_whole(path: pathlib.Path, text: str) -> None:
    """Write a file whole or not at all: beside it and renamed, or in one piece into a bucket."""
    if isinstance(path, BucketPath):
        path.write_text(text, "utf-8")
        return
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)


def is_there(path: pathlib.Path) -> bool:
    """Whether something has that name, a link to nothing too."""
    return path.exists() if isinstance(path, BucketPath) else os.path.lexists(path)


def may_write(folder: pathlib.Path) -> bool:
    """Whether files can be written into a folder, as far as that is known before one is: of a
    bucket it is not.
    """
    return isinstance(folder, BucketPath) or os.access(folder, os.W_OK)


def send(folder: pathlib.Path, place: BucketPath, last: str) -> None:
    """Put the files of a folder into a bucket in the place of what is there; `last`, by which the
    whole is known to be there, at the end.
    """
    (place / last).unlink(missing_ok=True)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    stays = {place / name for name in (*names, LEASE)}
    old = [path for path in place.rglob("*") if path not in stays]
    store.each(lambda path: path.unlink(missing_ok=True), old)
    others = [name for name in names if str(name) != last]
    store.each(lambda name: (place / name).write_bytes((folder / name).read_bytes()), others)
    (place / last).write_bytes((folder / last).read_bytes())
