"""``student.init``: whose weights a student begins with; and what of a student's mapping is no
option of its model.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from kd.config.source import Source, parse
from kd.errors import KdError

NORMALISED = ("mean", "deviation")
"""Keys of a student that say what its inputs are normalised by: see `kd.models.normalised`."""
RESERVED = ("name", "init", *NORMALISED)
"""Keys of a student that are no options of its model."""
_KEY = "config.student.init"
_SPELLED = re.compile(r"(?P<source>.+?)(\?member=(?P<member>\d{1,9}))?", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Init:
    """Whose weights: of a run, of its `member` where it is of a population, or from outside."""

    source: Source
    member: int | None

    @property
    def text(self) -> str:
        """As it is typed."""
        return self.source.text + ("" if self.member is None else f"?member={self.member}")


def options_of(student: Mapping[str, Any]) -> dict[str, Any]:
    """What a student's mapping says to its model."""
    return {key: value for key, value in student.items() if key not in RESERVED}


def parse_init(student: Mapping[str, Any]) -> Init | None:
    """What ``init`` names; None without one.

    Spelled ``run:DIR``, ``run:DIR?member=2``, ``hf:DIR`` or ``weights:FILE``.

    Raises:
      KdError: any other spelling.
    """
    text = student.get("init")
    if text is None:
        return None
    spelled = _SPELLED.fullmatch(text) if isinstance(text, str) else None
    scheme = "" if spelled is None else spelled["source"].partition(":")[0]
    member = None if spelled is None or spelled["member"] is None else int(spelled["member"])
    known = scheme in ("run", "hf", "weights") and (member is None or scheme == "run")
    if spelled is None or not known or spelled["source"] == f"{scheme}:":
        raise KdError(
            f"{_KEY} must be run:DIR, a finished run, or hf:DIR or weights:FILE, got {text!r}"
        )
    return Init(parse(spelled["source"], _KEY), member)


def with_place(student: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The same student, whose first weights are in `place`."""
    named = parse_init(student)
    assert named is not None
    source = dataclasses.replace(named.source, place=place)
    return {**student, "init": dataclasses.replace(named, source=source).text}
