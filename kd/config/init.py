"""``student.init``: which finished run a student's first weights are of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kd.config.source import parse
from kd.errors import KdError

RESERVED = ("name", "init")
"""Keys of a student that are no options of its model."""
_KEY = "config.student.init"
_SPELLED = re.compile(r"(?P<run>run:.+?)(\?member=(?P<member>\d{1,9}))?", re.DOTALL)


def options_of(student: Mapping[str, Any]) -> dict[str, Any]:
    """What a student's mapping says to its model."""
    return {key: value for key, value in student.items() if key not in RESERVED}


def parse_init(student: Mapping[str, Any]) -> tuple[str, int | None] | None:
    """The work directory that ``init`` names, and the member of its population; None without one.

    Spelled ``run:DIR``, or ``run:DIR?member=2``.

    Raises:
      KdError: any other spelling.
    """
    text = student.get("init")
    if text is None:
        return None
    spelled = _SPELLED.fullmatch(text) if isinstance(text, str) else None
    if spelled is None:
        raise KdError(f"{_KEY} must be run:DIR, a finished run, got {text!r}")
    folder = parse(spelled["run"], _KEY).place
    return folder, None if spelled["member"] is None else int(spelled["member"])


def with_folder(student: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The same student, whose first weights are in `folder`."""
    named = parse_init(student)
    member = "" if named is None or named[1] is None else f"?member={named[1]}"
    return {**student, "init": f"run:{folder}{member}"}
