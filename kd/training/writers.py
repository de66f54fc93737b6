"""Where metrics go: a line of JSON each (the truth), and a progress bar."""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from kd.errors import KdError
from kd.storage import BucketError, write_whole

Write = Callable[[int, Mapping[str, Any]], None]


def jsonl(
    path: pathlib.Path, resumed_at: int, say: Callable[[str], None] = print, unwritten: int = 0
) -> Write:
    """Append one object per line, ``{"step": ..., name: value or list over members}``.

    On resume, lines after the step `resumed_at` are dropped first: a resumed file equals an
    uninterrupted one. Lines that are damaged are set aside in a file of their own, and `say` hears
    of it, as it does of lines that are not there. Up to `unwritten` steps before `resumed_at` may
    have none yet.

    Raises:
      KdError: it cannot be written, for example because the disk is full.
    """
    with _writing(path):
        lines, damaged = _lines(path) if resumed_at else ([], [])
        kept = [line for line in lines if line["step"] <= resumed_at]
        if damaged:
            aside = path.with_suffix(".damaged")
            with aside.open("ab") as file:
                file.writelines(text + b"\n" for text in damaged)
            say(
                f"{path}: {len(damaged)} damaged lines are set aside in {aside}, {len(kept)} whole "
                "ones are kept"
            )
        last = kept[-1]["step"] if kept else 0
        if last < resumed_at - unwritten:
            say(f"{path}: its lines end at step {last}; those up to step {resumed_at} are lost")
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(step: int, values: Mapping[str, Any]) -> None:
        line = json.dumps(
            {"step": step, **{name: _number(value) for name, value in values.items()}}
        )
        with _writing(path), path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    return write


class Progress:
    """A progress bar with stage, step, time left and examples per second; plain lines where there
    is no terminal.
    """

    _QUIET_SECONDS = 10.0

    def __init__(self, title: str, total_steps: int, examples_per_step: int) -> None:
        self._title, self._total, self._examples = title, total_steps, examples_per_step
        self._done = self._first = 0
        self._start = self._spoke = time.monotonic()
        self._bar = _terminal_bar() if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(
                self._title, total=self._total, rate="", note="compiling"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and self._done > self._first:
            self._say()

    def resume(self, step: int) -> None:
        """Start counting at `step`; the clock starts now, so compiling is not in the rate."""
        if step:
            self.say(
                f"{self._title}: "
                f"{'finished before' if step >= self._total else f'continuing after step {step:,}'}"
            )
        self._done = self._first = step
        self._start = self._spoke = time.monotonic()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Move to `step`; the mean loss over members is shown beside the bar."""
        self._done = step
        note = f"loss {np.mean(values['loss']):.4f}" if "loss" in values else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, rate=self._rate(), note=note)
        elif time.monotonic() - self._spoke > self._QUIET_SECONDS:
            self._spoke = time.monotonic()
            self._say(note)

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def _rate(self) -> str:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        return f"{(self._done - self._first) * self._examples / elapsed:,.0f} examples/s"

    def _say(self, note: str = "") -> None:
        elapsed = time.monotonic() - self._start
        left = elapsed / max(self._done - self._first, 1) * (self._total - self._done)
        words = [
            f"{self._title}: step {self._done:,}/{self._total:,}",
            f"ETA {left:.0f} s",
            self._rate(),
            note,
        ]
        self.say(", ".join(word for word in words if word))


class Silence(Progress):
    """No progress at all: of several processes one speaks."""

    def __init__(self, title: str, total_steps: int, examples_per_step: int) -> None:
        super().__init__(title, total_steps, examples_per_step)
        self._bar = None

    def say(self, text: str) -> None:
        """Nothing."""
        del text


def _terminal_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]} {task.fields[note]}"),
    )
    return Bar(*columns, console=Console(stderr=True))


def _lines(path: pathlib.Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """The whole lines of a file of metrics, and those that are damaged."""
    if not path.exists():
        return [], []
    lines, damaged = [], []
    *texts, unfinished = path.read_bytes().split(b"\n")
    for text in texts:
        line = _line(text)
        if line is None:
            damaged.append(text)
        else:
            lines.append(line)
    last = _line(unfinished)  # a run that was killed was writing it
    return ([*lines, last] if last is not None else lines), damaged


def _line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(line, dict) and type(line.get("step")) is int and line["step"] > 0
    return line if whole else None


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        mend = "" if isinstance(error, BucketError) else "free some space and "
        raise KdError(
            f"cannot write {path}: {error.strerror}; what was saved stays: {mend}start again"
        ) from error


def _number(value: Any) -> Any:
    plain = np.asarray(value).tolist()
    finite = [v if v is None or math.isfinite(v) else str(v) for v in np.ravel(plain).tolist()]
    return finite if isinstance(plain, list) else finite[0]
