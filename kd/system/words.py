"""What a command says on a terminal while it has nothing to show yet.

The library says nothing: a command speaks between `begin` and `end`, and to a terminal alone.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

SECONDS = 10.0
"""Between two lines about the same work."""

_command = ""
_said: set[str] = set()


def watched() -> bool:
    """Whether somebody sees what is written now."""
    return sys.stderr.isatty()


def begin(command: str) -> None:
    """The first word of a command, at once: what it needs takes seconds to import."""
    global _command
    end()
    _command = command if watched() else ""
    say("starting")


def end() -> None:
    """The command has come to its end."""
    global _command
    _command = ""
    _said.clear()


def say(what: str) -> None:
    """A line about what the command does now, once for each thing."""
    if _command and what not in _said:
        _said.add(what)
        print(f"kd {_command}: {what}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Say what is done inside, such as compiling, and as it goes on for how long it was done."""
    if not _command or what in _said:
        yield
        return
    say(what)
    over = threading.Event()
    thread = threading.Thread(target=_go_on, args=(what, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _go_on(what: str, over: threading.Event) -> None:
    begun = time.monotonic()
    while not over.wait(SECONDS):
        say(f"{what}, {time.monotonic() - begun:.0f} s")
