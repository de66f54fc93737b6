"""``student.init``: which finished run a student's first weights are of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kd.errors import KdError, unknown

SCHEMES = ("run",)
RESERVED = ("name", "init")
"""Keys of a student that are no options of its model."""


def options_of(student: Mapping[str, Any]) -> dict[str, Any]:
    """What a student's mapping says to its model."""
    return {key: value for key, value in student.items() if key not in RESERVED}


def parse_init(student: Mapping[str, Any]) -> tuple[str, int | None] | None:
    """The work directory that ``init`` names, and the member of its population; None without one.

    Spelled ``run:DIR``, or ``run:DIR?member=2``; without a scheme it is a run.

    Raises:
      KdError: any other spelling.
    """
    text = student.get("init")
    if text is None:
        return None
    if not isinstance(text, str):
        raise KdError(f"config.student.init must be run:DIR, a finished run, got {text!r}")
    scheme, colon, rest = text.partition(":")
    if colon and scheme not in SCHEMES:
        raise unknown("scheme of config.student.init:", scheme, SCHEMES)
    spelled = re.fullmatch(r"(?P<folder>.+?)(\?member=(?P<member>\d{1,9}))?", rest or scheme)
    if spelled is None or (colon and not rest):
        raise KdError(f"config.student.init must be run:DIR, a finished run, got {text!r}")
    return spelled["folder"], None if spelled["member"] is None else int(spelled["member"])


def with_folder(student: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The same student, whose first weights are in `folder`."""
    named = parse_init(student)
    member = "" if named is None or named[1] is None else f"?member={named[1]}"
    return {**student, "init": f"run:{folder}{member}"}
