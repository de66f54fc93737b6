"""A sink in a thread of its own: it neither holds up the run nor ends it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kd.errors import cause
from kd.training.sinks.about import About

SECONDS = 5.0
"""That the end of a run waits for a sink."""


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

    def close(self, seconds: float = SECONDS) -> None:
        """Wait so long, at most, for what is still to be written."""
        if not self._begun:
            return
        self._lines.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._over.set()
            self._say(f"the sink {self._name} has not ended in {seconds:g} s and is left behind")

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
