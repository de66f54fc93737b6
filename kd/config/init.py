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
from kd.models.repeated import check_layers

NORMALISED = ("mean", "deviation")
"""Keys of a student that say what its inputs are normalised by: see `kd.models.normalised`."""
RESERVED = ("name", "init", "layers", *NORMALISED)
"""Keys of a student that are no options of its model."""
TEACHER = "teacher"
"""What ``init`` is where it is the teacher."""
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
            f"{_KEY} must be run:DIR, a finished run, or hf:DIR or weights:FILE, or teacher, got "
            f"{text!r}"
        )
    return Init(parse(spelled["source"], _KEY), member)


def parse_layers(student: Mapping[str, Any]) -> tuple[int, ...] | None:
    """``layers``: which block of `init` each block of the student begins with, from 0; None: the
    one of its own number.

    Raises:
      KdError: as `kd.models.repeated.check_layers`.
    """
    return check_layers(student.get("layers"), student.get("init"), "config.student.")


def of_teacher(student: Mapping[str, Any], teacher: Source | None) -> dict[str, Any]:
    """The same student; where its ``init`` is ``teacher``, spelled as the teacher is.

    Raises:
      KdError: no teacher, several, or one that is no run and no folder of Hugging Face.
    """
    if student.get("init") != TEACHER:
        return dict(student)
    if teacher is None or teacher.scheme not in ("run", "hf"):
        what = "there is no single teacher" if teacher is None else f"it is {teacher.text}"
        raise KdError(
            f"{_KEY}={TEACHER} takes the teacher's weights and {what}; set config.teacher.source "
            "to run:DIR or hf:DIR"
        )
    return {**student, "init": teacher.text}


def with_place(student: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The same student, whose first weights are in `place`."""
    named = parse_init(student)
    assert named is not None
    source = dataclasses.replace(named.source, place=place)
    return {**student, "init": dataclasses.replace(named, source=source).text}
