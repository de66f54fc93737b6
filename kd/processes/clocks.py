"""How far the clocks of several machines are apart."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

_ROUNDS = 8


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
