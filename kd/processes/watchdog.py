"""Who of several processes still lives: everyone beats into a shared store, and a heart that stands
still is named.

The store is the coordinator's, or in tests a dictionary; nothing here knows JAX.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

EXIT_LOST = 75
"""Exit code of a process that lost another one: try again."""


@runtime_checkable
class Store(Protocol):
    """What the watchdog needs of the shared store: any call may raise or never return when the
    coordinator is gone.
    """

    def put(self, key: str, value: str) -> None: ...

    def folder(self, key: str) -> Mapping[str, str]: ...


@dataclasses.dataclass(frozen=True)
class Patience:
    """In seconds: how often a process beats, how long a heart may stand still, and how long before
    the first beat.
    """

    beat: float = 2.0
    lost: float = 30.0
    first: float = 120.0


PATIENCE = Patience()


def lost_line(processes: Sequence[int], hosts: Sequence[str], why: str = "") -> str:
    """What the last line of a process says that lost others."""
    named = " and ".join(f"process {i} of {len(hosts)} (host {hosts[i]})" for i in processes)
    verb = "is" if len(processes) == 1 else "are"
    return (
        f"{named} {why or f'{verb} lost'}; start all of them again with the same command: they "
        "continue from the last "
        "checkpoint"
    )


class Hearts:
    """What one process knows of the others' beats. Pure but for its memory; `now` is any clock in
    seconds.
    """

    def __init__(self, index: int, hosts: Sequence[str], patience: Patience, now: float) -> None:
        self._index, self._hosts, self._patience = index, hosts, patience
        self._seen: dict[int, tuple[str, float]] = dict.fromkeys(range(len(hosts)), ("", now))
        self._left: set[int] = set()
        self._answered = self._looked = now

    def heard(self, beats: Mapping[str, str], left: Mapping[str, str], now: float) -> None:
        """The store answered: the beat of every process, and those that left of their own will."""
        self._answered = now
        self._left = {int(i) for i in left}
        for name, beat in beats.items():
            if self._seen[int(name)][0] != beat:
                self._seen[int(name)] = beat, now

    def lost(self, now: float) -> list[int]:
        """Processes whose beat stands still; process 0 alone, the coordinator, if the store does
        not answer.
        """
        pause, self._looked = now - self._looked, now
        if (
            pause > self._patience.lost / 2
        ):  # it is this process that stood still: everyone starts anew
            self._seen = {i: (beat, now) for i, (beat, _) in self._seen.items()}
            self._answered = now
        if self._index and now - self._answered > self._patience.lost:
            return [0]
        return [
            i
            for i in self._seen
            if i != self._index and i not in self._left and self._stands(i, now)
        ]

    def _stands(self, i: int, now: float) -> bool:
        beat, since = self._seen[i]
        return now - since > (self._patience.lost if beat else self._patience.first)


class Watchdog:
    """Beats for this process, and ends it when another is lost or failed. Two threads: one may hang
    in the store.

    `broken` is set when the connection to the coordinator broke. `end` gets the last line and the
    exit code.
    """

    def __init__(
        self,
        store: Store,
        index: int,
        hosts: Sequence[str],
        *,
        patience: Patience = PATIENCE,
        broken: threading.Event | None = None,
        end: Callable[[str], None],
    ) -> None:
        self._store, self._index, self._hosts, self.patience = store, index, hosts, patience
        self._broken, self._end = broken or threading.Event(), end
        self._hearts = Hearts(index, hosts, patience, time.monotonic())
        self._stop, self._news = threading.Event(), ""
        self._threads = [
            threading.Thread(target=f, daemon=True, name="kd-watch")
            for f in (self._beat, self._judge)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * self.patience.beat)

    def leave(self, failure: str | None = None) -> None:
        """Tell the others that this process ends: of its own will, or with a failure that ends them
        too.
        """
        self._stop.set()
        with contextlib.suppress(Exception):
            if failure is not None:
                self._store.put("kd/news/failed", f"{self._index} {failure}")
            self._store.put(f"kd/left/{self._index}", "left")

    def wait_for_others(self, seconds: float) -> None:
        """Until all others have left, or so long: process 0 takes the store with it when it
        goes.
        """
        end = time.monotonic() + seconds
        with contextlib.suppress(Exception):
            while len(self._store.folder("kd/left")) < len(self._hosts) and time.monotonic() < end:
                time.sleep(0.1)

    def _beat(self) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            try:
                self._store.put(f"kd/beat/{self._index}", str(count))
                beats, left, news = (
                    self._store.folder(f"kd/{name}") for name in ("beat", "left", "news")
                )
            except Exception:  # the coordinator is gone or going: the judge sees how long
                time.sleep(min(1.0, self.patience.beat))
                continue
            self._news = next(iter(sorted(news.values())), "")
            self._hearts.heard(beats, left, time.monotonic())
            self._stop.wait(self.patience.beat)

    def _judge(self) -> None:
        while not self._stop.wait(min(0.5, self.patience.beat)):
            line = self._verdict()
            if line and not self._stop.is_set():
                self._tell_and_end(line)
                return

    def _verdict(self) -> str:
        if self._broken.is_set() and not self._news:
            # what process 0 said before it went may just have come
            time.sleep(min(1.0, self.patience.beat))
        if self._news:
            who, _, why = self._news.partition(" ")
            if why.startswith(
                "failed"
            ):  # this process may be about to fail in the same way, in words of its own
                self._stop.wait(2 * self.patience.beat)
            return lost_line([int(who)], self._hosts, why)
        lost = [0] if self._broken.is_set() else self._hearts.lost(time.monotonic())
        return lost_line(lost, self._hosts) if lost else ""

    def _tell_and_end(self, line: str) -> None:
        teller = threading.Thread(target=self._tell, daemon=True)
        teller.start()
        teller.join(2 * self.patience.beat + 1)
        self._end(line)

    def _tell(self) -> None:
        """So that nobody takes this process, which ends too, for the one that was lost first."""
        if not (self._news or self._broken.is_set()):
            with contextlib.suppress(Exception):
                lost = self._hearts.lost(time.monotonic())
                self._store.put("kd/news/lost", f"{lost[0]} is lost")
        self.leave()
        if self._index == 0:
            self.wait_for_others(2 * self.patience.beat)


def end_process(line: str, say: Callable[[str], None] | None = None) -> None:
    """One line on stderr, or to `say`, and the end: no handler of the interpreter or of a library
    gets to speak.
    """
    try:
        if say is None:
            os.write(2, f"kd: {' '.join(line.split())}\n".encode())
        else:
            say(line)
    finally:
        os._exit(EXIT_LOST)
