"""Where the wall time of a start goes: every second of it belongs to one activity."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

STEPS, WAIT = "steps", "wait"
ACTIVITIES = (STEPS, WAIT, "start", "compile", "restore", "evaluate", "save", "profile")


class Clock:
    """Seconds by activity, from the moment that it is made, or `begun`; the first is ``start``.

    The seconds of all activities add up to the wall time: what goes on within another activity is
    taken from it. A trace shows each of them on the host, as ``kd ACTIVITY``.
    """

    def __init__(
        self, begun: float | None = None, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._now, self._doing = now, "start"
        self._since = now() if begun is None else begun
        self._seconds: dict[str, float] = dict.fromkeys(ACTIVITIES, 0.0)
        self._marks: dict[int, Mapping[str, float]] = {}

    @property
    def seconds(self) -> Mapping[str, float]:
        """So far, by activity."""
        self._turn(self._doing)
        return dict(self._seconds)

    @contextlib.contextmanager
    def doing(self, activity: str) -> Iterator[None]:
        """What is inside is `activity`, one of `ACTIVITIES`."""
        before = self._turn(activity)
        try:
            with jax.profiler.TraceAnnotation(f"kd {activity}"):
                yield
        finally:
            self._turn(before)

    @contextlib.contextmanager
    def waiting(self, work: Sequence[Any]) -> Iterator[None]:
        """What is inside gets the input of the next step.

        It is ``wait`` only if the device has done all that it was given before (`work`, arrays)
        when the input is there: else the device waits for nothing.
        """
        begun = self._now()
        with jax.profiler.TraceAnnotation(f"kd {WAIT}"):
            yield
        if all(array.is_ready() for array in work):
            self._turn(self._doing)
            seconds = self._since - begun
            self._seconds[self._doing] -= seconds
            self._seconds[WAIT] += seconds

    def mark(self, step: int, work: Sequence[Any]) -> None:
        """The steps until `step` were given to the device; `work` is what it makes of them.

        A CPU may have done them when it has been given them, and a line of metrics is written
        later.
        """
        if all(array.is_ready() for array in work):
            self._marks[step] = self.seconds

    def at(self, step: int) -> Mapping[str, float]:
        """The seconds when the steps until `step` were done, as far as that is known: else so far.

        Marks before are forgotten.
        """
        seconds = self._marks.get(step) or self.seconds
        self._marks = {other: mark for other, mark in self._marks.items() if other > step}
        return seconds

    def _turn(self, activity: str) -> str:
        """Go over to an activity; the one before."""
        now, before = self._now(), self._doing
        self._seconds[before] += now - self._since
        self._since, self._doing = now, activity
        return before


def goodput(seconds: Mapping[str, float]) -> float:
    """The share of the wall time in which steps were taken, 0 to 1.

    Formula: ``steps / sum of all activities``.
    """
    total = sum(seconds.values())
    return seconds.get(STEPS, 0.0) / total if total else 0.0
