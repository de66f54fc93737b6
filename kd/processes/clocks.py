"""How far the clocks of several machines are apart.

Nothing that kd computes or keeps rests on them; lines of different machines are compared by them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from kd.processes import group

_ROUNDS = 8
_APART = 1.0  # seconds


@runtime_checkable
class Words(Protocol):
    """How two machines speak: `wait` returns the value of `key` as soon as there is one."""

    def put(self, key: str, value: str) -> None: ...

    def wait(self, key: str) -> str: ...


@dataclasses.dataclass(frozen=True)
class Offset:
    """Seconds by which a clock is ahead of the one of process 0, and how far that may be off."""

    seconds: float = 0.0
    error: float = 0.0

    @property
    def least(self) -> float:
        """Seconds that the clocks are apart at least."""
        return max(0.0, abs(self.seconds) - self.error)

    @property
    def wrong(self) -> str:
        """What is wrong with the clock, and how to mend it; empty where nothing is."""
        if self.least <= _APART:
            return ""
        early = "ahead of" if self.seconds > 0 else "behind"
        return (
            f"this clock is {abs(self.seconds):.1f} s {early} that of process 0; let NTP set both "
            "('timedatectl set-ntp true', or 'chronyc makestep')"
        )


def compare(say: Callable[[str], None]) -> None:
    """Process 0 says a line for each process whose clock is not its own; all call it together."""
    peers = group.peers()
    if peers is None:
        return
    mine = offset(peers, group.index(), group.count()).wrong

    def named(of_each: list[str]) -> list[str]:
        lines = enumerate(zip(of_each, peers.hosts, strict=True))
        return [f"process {i} ({host}): {line}" for i, (line, host) in lines if line]

    lines = group.first_judges("clocks", mine, named)
    for line in lines if group.is_first() else ():
        say(line)


def offset(words: Words, index: int, count: int, clock: Callable[[], float] = time.time) -> Offset:
    """The offset of this process's clock; all `count` processes call it together.

    Each process in turn asks process 0 for its time, some times: ``(t0 + t1) / 2 - t`` of a
    question sent at t0 and answered with t at t1, plus or minus ``(t1 - t0) / 2``. The quickest
    answer counts.

    Source: Cristian (1989), "Probabilistic clock synchronization".
    """
    if index == 0:
        for other in range(1, count):
            _answer(words, other, clock)
        return Offset()
    words.wait(f"kd/clock/{index}/turn")
    asked = [_ask(words, index, number, clock) for number in range(_ROUNDS)]
    return min(asked, key=lambda one_answer: one_answer.error)


def _answer(words: Words, other: int, clock: Callable[[], float]) -> None:
    words.put(f"kd/clock/{other}/turn", "yours")
    for number in range(_ROUNDS):
        words.wait(f"kd/clock/{other}/ask/{number}")
        words.put(f"kd/clock/{other}/answer/{number}", repr(clock()))


def _ask(words: Words, index: int, number: int, clock: Callable[[], float]) -> Offset:
    sent = clock()
    words.put(f"kd/clock/{index}/ask/{number}", "?")
    theirs = float(words.wait(f"kd/clock/{index}/answer/{number}"))
    heard = clock()
    return Offset((sent + heard) / 2 - theirs, (heard - sent) / 2)
