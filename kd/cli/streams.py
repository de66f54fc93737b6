"""The three streams of a command: whatever becomes of them, a run goes on."""

from __future__ import annotations

import os
import sys
from typing import Any

_STANDARD = (0, 1, 2)


def steady() -> None:
    """Closed streams lead nowhere, and nobody has to hear what is said on stderr.

    Else the next file that is opened, a checkpoint, would be taken for a closed stream by whatever
    library complains there, and a terminal that is gone would end a run of days.
    """
    number = os.open(os.devnull, os.O_RDWR)
    while number in _STANDARD:
        os.set_inheritable(number, True)
        number = os.dup(number)
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = Unheard(sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False))


class Unheard:
    """A stream of text; what cannot be written to it is lost without an error."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As a stream does."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # no reader, no space, no terminal any more; closed
            return len(text)

    def flush(self) -> None:
        """As a stream does."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
