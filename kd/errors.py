"""Errors that a user caused and a user can fix: one line, cause and fix, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
