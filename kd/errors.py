"""Errors that a user caused and a user can fix: one line, cause and fix, exit code 2."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class KdError(Exception):
    """Something outside the program is wrong.

    The message names the cause and the fix, in one line.
    """


def unknown(what: str, name: object, known: Iterable[str]) -> KdError:
    """An error for a name that does not exist, with the nearest name that does."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
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
