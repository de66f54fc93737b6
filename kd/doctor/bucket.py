"""A bucket in which runs will be written: whether it can be read and written, and how fast."""

from __future__ import annotations

import contextlib
import secrets
import statistics
import time
from collections.abc import Callable, Iterator

from kd.doctor.facts import Asked, Fact
from kd.storage import BucketError, BucketPath, store
from kd.system import words
from kd.system.memory import size

_SMALL, _LARGE = 64, 2**23  # bytes of an object
_REPEATS = 5
_PATIENCE = 20.0  # seconds for one question


def bucket(asked: Asked) -> Iterator[Fact]:
    """Whether the bucket of the runs is there, is read, and is written on a condition, as a lease
    is; how soon it answers, and bytes a second of an object of 8 MiB.
    """
    if not isinstance(asked.folder, BucketPath):
        return
    place = asked.folder / f".kd-doctor-{secrets.token_hex(8)}"
    with words.doing(f"timing {place.bucket}"):
        begun = time.perf_counter()
        store.names(place.bucket, place.key, seconds=_PATIENCE)
        yield Fact(f"{place.bucket} is listed", _ms(time.perf_counter() - begun))
        try:
            yield _condition(place)
            yield from _speed(place)
        finally:
            with contextlib.suppress(BucketError):  # it was said where it could not be written
                store.put(place.bucket, place.key, None, seconds=_PATIENCE)


def _condition(place: BucketPath) -> Fact:
    """Of two that write where nothing is, the second must be refused."""
    put = [
        store.put(place.bucket, place.key, content, store.NOTHING, _PATIENCE)
        for content in (b"first", b"second")
    ]
    heeded = put[0] is not None and put[1] is None
    wrong = (
        f"{place.bucket} heeds no condition of a write (If-None-Match), so two runs could write "
        "one work directory; choose a store that does"
    )
    said = "the second of two is refused" if heeded else "—"
    return Fact("written on condition", said, "" if heeded else wrong)


def _speed(place: BucketPath) -> Iterator[Fact]:
    def write(content: bytes) -> None:
        store.put(place.bucket, place.key, content, seconds=_PATIENCE)

    def read() -> None:
        store.get(place.bucket, place.key, _PATIENCE)

    small, large = secrets.token_bytes(_SMALL), secrets.token_bytes(_LARGE)
    slow = _seconds(lambda: write(small)), _seconds(read)
    yield Fact(f"an object of {_SMALL} B", f"written in {_ms(slow[0])}, read in {_ms(slow[1])}")
    fast = _LARGE / _seconds(lambda: write(large)), _LARGE / _seconds(read)
    said = f"written at {size(fast[0])}/s, read at {size(fast[1])}/s"
    yield Fact(f"an object of {_LARGE / 2**20:g} MiB", said)


def _seconds(action: Callable[[], None]) -> float:
    times = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms"
