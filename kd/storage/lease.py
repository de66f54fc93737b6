"""A folder that one process at a time writes: a file lock on a disk, a lease in a bucket.

A lease is an object that its holder writes anew every few seconds, each time on the condition that
it is still the one that it wrote last. Whoever sees it unchanged for as long as it says may take
it, on the same condition: of two that try, one does. No clock of one machine is compared with
another's, but for leases that are older than any two clocks may differ.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from kd.errors import KdError
from kd.storage import parts, store
from kd.storage.bucket_path import BucketPath
from kd.storage.store import BucketError

LEASE = ".lease"
_BRIEF = 3.0  # seconds, for what mends itself
_OLD = 900.0  # seconds: no bucket answers one whose clock is so wrong


@contextlib.contextmanager
def claimed(folder: pathlib.Path, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Keep other processes from writing in `folder`, which is there.

    `say` hears of the wait for a lease whose holder may be gone.

    Raises:
      KdError: another process holds it; of a lease the line says who, and since when.
      OSError: it cannot be written.
    """
    if isinstance(folder, BucketPath):
        with _leased(folder, say):
            yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(folder, "") from None
        yield


def _taken(folder: pathlib.Path, who: str) -> KdError:
    return KdError(f"another process is training in {folder}{who}; wait for it, or stop it")


def seconds() -> float:
    """For how long a lease holds that is not renewed."""
    return store.seconds_of("KD_LEASE_SECONDS", 60.0)


@contextlib.contextmanager
def _leased(folder: BucketPath, say: Callable[[str], None]) -> Iterator[None]:
    lease = Lease(folder)
    lease.take(say)
    store.guards.append(lease.check)
    lease.keep()
    try:
        yield
    finally:
        with contextlib.suppress(BucketError):  # a checkpoint that needs it waits for it too
            parts.settle(str(folder))
        store.guards.remove(lease.check)
        lease.release()


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lease, as the object says it."""

    token: str
    machine: str
    host: str
    process: int
    born: int | None
    since: str
    renewed: float
    seconds: float

    @classmethod
    def read(cls, content: bytes | None) -> Holder | None:
        """None where nobody holds it: it was never taken, was given back, or is no lease."""
        try:
            told = json.loads(content or b"null")
            return cls(**told) if told["seconds"] > 0 else None
        except (ValueError, TypeError, KeyError):
            return None

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended: a process of this machine that is no more, or one that
        has not renewed its lease for longer than clocks may differ.
        """
        if self.machine == _machine() and self.born != _birth(self.process):
            return True
        return time.time() - self.renewed > max(_OLD, self.seconds)

    @property
    def words(self) -> str:
        return f": process {self.process} on {self.host}, since {self.since}"


class Lease:
    """This process's hold on a folder of a bucket."""

    def __init__(self, folder: BucketPath) -> None:
        self._folder, self._path = folder, folder / LEASE
        self._token, self._since = uuid.uuid4().hex, _now()
        self._version = store.NOTHING
        self._renewed = 0.0
        self._lost: Holder | None = None
        self._over, self._thread = threading.Event(), threading.Thread(target=self._renew_on)
        self._thread.daemon = True

    def take(self, say: Callable[[str], None]) -> None:
        """Hold it. Raises a `KdError` where another process does."""
        seen = self._look()
        holder = Holder.read(seen.content)
        if holder is not None and not holder.gone:
            say(f"waiting whether the run in {self._folder} is still alive{holder.words}")
            seen = self._watch(holder, seen)
        if not self._write(seen.version, seconds()):
            other = Holder.read(self._look().content)
            store.names(self._path.bucket, self._path.key)  # a bucket that is not there says so now
            raise _taken(self._folder, "" if other is None else other.words)

    def _watch(self, holder: Holder, seen: store.Object) -> store.Object:
        """The lease when it has run out, or was given back.

        Raises a `KdError` as soon as it is renewed.
        """
        begun, step = time.monotonic(), min(1.0, holder.seconds / 8)
        while time.monotonic() - begun < holder.seconds:
            time.sleep(step)
            now = self._look()
            holder_now = Holder.read(now.content)
            if now.version != seen.version and holder_now is not None:
                raise _taken(self._folder, holder_now.words)
            if holder_now is None:
                return now
        return seen

    def keep(self) -> None:
        """Renew it from now on, in the background."""
        self._thread.start()

    def release(self) -> None:
        """Give it back, for others to take at once."""
        self._over.set()
        self._thread.join()
        with contextlib.suppress(BucketError):  # it runs out by itself
            if self._lost is None:
                self._write(self._version, 0.0, _BRIEF)

    def check(self, place: str) -> None:
        """Raise a `BucketError` before `place` is changed where the folder is no longer ours."""
        if not place.startswith(f"{self._folder}/") or place == str(self._path):
            return
        if self._lost is not None:
            cause = f"another process has taken the work directory{self._lost.words}"
        elif time.monotonic() - self._renewed > seconds():
            cause = f"the lease could not be renewed for {seconds():.0f} s"
        else:
            return
        message = f"cannot write {place}: {cause}; look for that process, and start again"
        raise BucketError(message, 16, cause, place)

    def _renew_on(self) -> None:
        while not self._over.wait(seconds() / 4):
            with contextlib.suppress(BucketError):  # `check` says when it is too late
                self._renew()
            if self._lost is not None:
                return

    def _renew(self) -> None:
        if not self._write(self._version, seconds(), seconds() / 2):
            self._lost = Holder.read(self._look().content) or self._holder(0.0)

    def _write(self, version: bytes, length: float, tried: float = math.inf) -> bool:
        """Whether the lease is ours now. An answer that was lost on its way, or came too late,
        hides that it is already.
        """
        content = json.dumps(dataclasses.asdict(self._holder(length))).encode()
        for _ in range(3):
            begun = time.monotonic()
            written = store.put(self._path.bucket, self._path.key, content, version, tried)
            if written is None:
                there = self._look(tried)
                if self._token.encode() not in (there.content or b""):
                    return False
                version = there.version
                written = version if there.content == content else None
            if written is not None:
                self._version, self._renewed = written, begun
                return True
        return False

    def _look(self, tried: float = math.inf) -> store.Object:
        return store.get(self._path.bucket, self._path.key, tried)

    def _holder(self, length: float) -> Holder:
        host, machine = socket.gethostname(), _machine()
        mine = os.getpid()
        return Holder(
            self._token, machine, host, mine, _birth(mine), self._since, time.time(), length
        )


def _birth(process: int) -> int | None:
    """When a process of this machine began, in ticks of it; None where it is no more, or no system
    says.
    """
    try:
        told = pathlib.Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    fields = told.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def _machine() -> str:
    """Which machine this is, and which numbering of its processes: none but those that share it can
    tell whether one of them has ended.
    """
    told: list[Any] = [socket.gethostname()]
    with contextlib.suppress(OSError):
        told.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        told.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(told)
