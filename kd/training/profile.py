"""A trace of some steps of a run, which changes no byte of it."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax

from kd.errors import KdError, cause

_EXAMPLE = "e.g. --profile=100:110 for the ten steps after step 100"


@dataclasses.dataclass(frozen=True)
class Window:
    """The steps [first, end)."""

    first: int
    end: int

    def __str__(self) -> str:
        return f"{self.first}:{self.end}"

    def check(self, total_steps: int) -> None:
        """Raise a `KdError` where the run has no such steps."""
        if self.end > total_steps:
            raise KdError(
                f"--profile={self} is outside the run, which is {total_steps:,} steps long; choose "
                f"steps between 0 and {total_steps}"
            )

    def parts(self, step: int, until: int) -> list[int]:
        """Where the parts of the dispatch [step, until) end: none has an edge of the window within
        it.
        """
        edges = sorted({edge for edge in (self.first, self.end) if step < edge < until})
        return [*edges, until]


def window(text: str) -> Window:
    """``100:110`` are the ten steps after step 100.

    Raises:
      KdError: it is something else, or has no step.
    """
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text, re.ASCII)
    if match is None:
        raise KdError(f"--profile must be FIRST:END, two whole numbers, got '{text}'; {_EXAMPLE}")
    steps = Window(*map(int, match.groups()))
    if steps.first >= steps.end:
        raise KdError(f"--profile={text} has no step: END must be larger than FIRST; {_EXAMPLE}")
    return steps


@dataclasses.dataclass(frozen=True)
class Profile:
    """Steps to trace, and what is done with the trace: ``show(file, steps)``."""

    window: Window
    show: Callable[[pathlib.Path, Window], None] = lambda _file, _steps: None


class Parts:
    """How the dispatches of a run are cut at the edges of a window, which is nowhere if None.

    All processes of a run cut them in the same places, and the first of them traces.
    """

    def __init__(self, window: Window | None = None) -> None:
        self._window = window

    def of(self, step: int, until: int) -> list[int]:
        """Where the parts of a dispatch end."""
        return [until] if self._window is None else self._window.parts(step, until)

    def at(self, step: int, state: Any) -> None:
        """The run has arrived at `step`; `state` is what is computed until then."""
        del step, state

    def close(self) -> None:
        """The run has ended, wherever that is."""


class Tracer(Parts):
    """Traces the steps of a window into `folder`, and shows them.

    Before the first step and after the last one the device is waited for, so that a trace has
    these steps alone. What goes wrong with the trace is said, and the run goes on.
    """

    def __init__(
        self, profile: Profile, folder: pathlib.Path, say: Callable[[str], None], doing: Any
    ) -> None:
        super().__init__(profile.window)
        self._profile, self._folder, self._say, self._doing = profile, folder, say, doing
        self._first: int | None = None
        self._step, self._over = 0, False

    def at(self, step: int, state: Any) -> None:
        """Begin, or end, where that is due."""
        self._step, window = step, self._profile.window
        if self._first is None and window.first <= step < window.end and not self._over:
            self._guarded(lambda: self._begin(step, state))
        elif self._first is not None and step >= window.end:
            self._guarded(lambda: self._end(state))

    def close(self) -> None:
        """End what is under way; of a window of which no step was taken, say so."""
        if self._first is not None:
            self._guarded(lambda: self._end(()))
        elif not self._over:
            self._say(
                f"no profile: this start took no step of {self._profile.window}; it ended at step "
                f"{self._step:,}"
            )

    def _begin(self, step: int, state: Any) -> None:
        with self._doing("profile"):
            self._folder.mkdir(parents=True, exist_ok=True)
            jax.block_until_ready(state)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # calls of Python would be most of the trace
            jax.profiler.start_trace(self._folder, profiler_options=options)
        self._first = step
        self._span = jax.profiler.TraceAnnotation(SPAN)
        self._span.__enter__()

    def _end(self, state: Any) -> None:
        steps = Window(self._first or 0, self._step)
        self._first, self._over = None, True
        jax.block_until_ready(state)
        self._span.__exit__(None, None, None)
        with self._doing("profile"):
            jax.profiler.stop_trace()
            file = newest(self._folder)
            self._say(f"the trace of steps {steps} is {file}")
            if steps.first < steps.end:
                self._profile.show(file, steps)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # a trace is no part of the run: a full disk, another session
            self._first, self._over = None, True
            with contextlib.suppress(Exception):  # none is under way
                jax.profiler.stop_trace()
            self._say(f"no profile of {self._profile.window}: {cause(error)}; the run goes on")


SPAN = "kd traced"
"""What a trace calls the time from its first step to its last one."""


def newest(folder: pathlib.Path) -> pathlib.Path:
    """The trace that was written last, of those that `jax.profiler` has left in `folder`."""
    return max(folder.glob("plugins/profile/*/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
