"""Errors that a user caused and a user can fix: one line, cause and fix, exit code 2."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator

_LONGEST_WORD, _LONGEST_LINE = 240, 1600  # characters


class KdError(Exception):
    """Something outside the program is wrong.

    The message names the cause and the fix, in one line that a terminal can show, whatever the
    user's values hold.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(message: str) -> str:
    """`message` in one line: what cannot be printed is spelled out, and the middle of what is too
    long left out.
    """
    words = [_shortened(_printable(word), _LONGEST_WORD) for word in message.split()]
    return _shortened(" ".join(words), _LONGEST_LINE)


def _printable(word: str) -> str:
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in word)


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[-most // 4 :]} ({len(text):,} characters)"


def unknown(what: str, name: object, known: Iterable[str]) -> KdError:
    """An error for a name that does not exist, with the nearest name that does."""
    names, name = sorted(known), str(name)
    near = difflib.get_close_matches(name[:_LONGEST_WORD], names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names) or 'none'}"
    return KdError(f"unknown {what} '{name}'; {hint}")


@contextlib.contextmanager
def reading(what: object, fix: str = "get it anew") -> Iterator[None]:
    """Whatever a library raises over bytes that are damaged becomes one line that names `what`.

    Raises:
      KdError: anything was raised inside.
    """
    try:
        yield
    except KdError:
        raise
    except Exception as error:  # damaged bytes fail in the words of whoever decodes them
        raise KdError(f"cannot read {what}: {cause(error)}; {fix}") from error


def cause(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[0].rstrip(".")[:200]
