"""Lines that grow in a bucket, where nothing can be appended to: numbered parts, read as one.

The file ``x`` is the objects ``x/EDITION.NUMBER``. Its text is that of the parts of the newest
edition in order; writing it anew begins an edition with one object, so that it is there whole or
not at all, and the parts of before are then removed.
"""

from __future__ import annotations

import concurrent.futures
import functools
import re
import threading

from kd.storage import store

_PART = re.compile(r"(\d{6})\.(\d{8})")
_next: dict[str, tuple[int, int]] = {}  # where this process appends, by the file's address
_waiting: dict[tuple[str, str], list[bytes]] = {}
_writing: dict[str, list[concurrent.futures.Future[None]]] = {}  # until it is known to be there
_lock = threading.Lock()


def read(bucket: str, key: str) -> bytes | None:
    """The text of all parts; None where there are none."""
    listed_parts = listed(bucket, key)
    if not listed_parts:
        return None
    contents = store.each(
        lambda part: store.get(bucket, _name(key, *part)).content or b"", listed_parts
    )
    return b"".join(contents)


def append(bucket: str, key: str, content: bytes) -> None:
    """Add a part soon, in the background, with what else is appended until then.

    Raises what kept an earlier one from being written.
    """
    writing = _writing.setdefault(f"{bucket}/{key}", [])
    while writing and writing[0].done():
        writing[0].result()
        writing.pop(0)
    with _lock:
        _waiting.setdefault((bucket, key), []).append(content)
    writing.append(_pool().submit(_drain, bucket, key))


def settle(folder: str = "") -> None:
    """Block until all is there that was appended to files whose addresses begin so.

    Raises what kept it from being written, until the file is written anew.
    """
    for address, writing in list(_writing.items()):
        if address.startswith(folder):
            for future in list(writing):
                future.result()


def _forget(bucket: str, key: str) -> None:
    """What is still to be appended counts no more."""
    writing = _writing.pop(f"{bucket}/{key}", [])
    concurrent.futures.wait(writing)


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    """A single thread, so that lines keep their order."""
    return concurrent.futures.ThreadPoolExecutor(1, "kd-lines")


def _drain(bucket: str, key: str) -> None:
    with _lock:
        contents = _waiting.pop((bucket, key), [])
    if contents:
        add(bucket, key, b"".join(contents))


def add(bucket: str, key: str, content: bytes) -> None:
    """Add a part now. Two that append at once have one each, in some order."""
    address = f"{bucket}/{key}"
    edition, number = _next.get(address) or _after(bucket, key)
    while not _added(bucket, _name(key, edition, number), content):
        edition, number = _after(bucket, key)
    _next[address] = edition, number + 1


def rewrite(bucket: str, key: str, content: bytes) -> None:
    """Put `content` in the place of all that is there."""
    _forget(bucket, key)
    before = _all(bucket, key)
    edition = max((edition for edition, _ in before), default=-1) + 1
    store.put(bucket, _name(key, edition, 0), content)
    _next[f"{bucket}/{key}"] = edition, 1
    store.remove_all(bucket, [_name(key, *part) for part in before])


def remove(bucket: str, key: str) -> None:
    """Remove all parts."""
    _forget(bucket, key)
    _next.pop(f"{bucket}/{key}", None)
    store.remove_all(bucket, [_name(key, *part) for part in _all(bucket, key)])


def listed(bucket: str, key: str) -> list[tuple[int, int]]:
    """Edition and number of the parts that count, in order."""
    settle(f"{bucket}/{key}")
    return _newest(bucket, key)


def _newest(bucket: str, key: str) -> list[tuple[int, int]]:
    every = _all(bucket, key)
    newest = max((edition for edition, number in every if number == 0), default=None)
    return sorted(part for part in every if part[0] == newest)


def _all(bucket: str, key: str) -> list[tuple[int, int]]:
    start = len(key) + 1
    matches = [_PART.fullmatch(name[start:]) for name in store.names(bucket, f"{key}/")]
    return [(int(match[1]), int(match[2])) for match in matches if match]


def _after(bucket: str, key: str) -> tuple[int, int]:
    there = _newest(bucket, key)
    return (there[-1][0], there[-1][1] + 1) if there else (0, 0)


def _added(bucket: str, name: str, content: bytes) -> bool:
    """Whether the part is there now. An answer that was lost on its way hides that it was
    written.
    """
    if store.put(bucket, name, content, store.NOTHING) is not None:
        return True
    return store.get(bucket, name).content == content


def _name(key: str, edition: int, number: int) -> str:
    return f"{key}/{edition:06d}.{number:08d}"
