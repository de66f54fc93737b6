"""A sink in a thread of its own: it neither holds up the run nor ends it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kd.errors import cause
from kd.training.sinks.about import About

SECONDS = 20.0
"""That the end of a run waits for its sinks, all together."""


class Apart:
    """What is written to it is written by ``make(about)``, later.

    A sink that fails is said once, and is written to no more in this start.
    """

    def __init__(
        self, name: str, make: Callable[[About], Any], about: About, say: Callable[[str], None]
    ) -> None:
        self._name, self._make, self._about, self._say = name, make, about, say
        self._lines: queue.SimpleQueue[tuple[int, Mapping[str, Any]] | None] = queue.SimpleQueue()
        self._over, self._begun = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name=f"kd-sink-{name}", daemon=True)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """At once; the first line opens the sink."""
        if self._over.is_set():
            return
        if not self._begun:
            self._begun = True
            self._thread.start()
        self._lines.put((step, values))

    def end(self) -> None:
        """Nothing more will be written to it."""
        self._lines.put(None)

    def wait(self, until: float) -> None:
        """Until it has ended, or ``time.monotonic()`` is `until`."""
        if not self._begun:
            return
        self._thread.join(max(until - time.monotonic(), 0.0))
        if self._thread.is_alive():
            self._over.set()
            self._say(f"the sink {self._name} does not end and is left behind")

    def _run(self) -> None:
        try:
            sink = self._make(self._about)
            while (line := self._lines.get()) is not None:
                sink.write(line[0], flat(line[1]))
            sink.close()
        except BaseException as error:  # a library may even ask to exit
            self._say(f"the sink {self._name} failed ({cause(error)}); the run goes on without it")
        finally:
            self._over.set()


def close(sinks: Sequence[Apart], seconds: float = SECONDS) -> None:
    """Wait so long, at most, for what they have still to write."""
    until = time.monotonic() + seconds
    for sink in sinks:
        sink.end()
    for sink in sinks:
        sink.wait(until)


def flat(values: Mapping[str, Any]) -> dict[str, float]:
    """A number a name; a population's members become ``name/member``."""
    numbers = {}
    for name, value in values.items():
        if np.ndim(value) == 0:
            numbers[name] = float(value)
        else:
            each = enumerate(np.ravel(value).tolist())
            numbers |= {f"{name}/{member}": float(number) for member, number in each}
    return numbers
