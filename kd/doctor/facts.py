"""What a doctor says about a machine, a line at a time."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable

from kd.errors import KdError, one_line


@dataclasses.dataclass(frozen=True)
class Fact:
    """What was looked at and what it is; `wrong` is empty, or says what is wrong with it and how
    to mend it.
    """

    name: str
    value: str
    wrong: str = ""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the doctor is asked about besides the machine: where runs will be written."""

    folder: pathlib.Path


Check = Callable[[Asked], Iterable[Fact]]
"""One examination. What it raises as a `KdError` is what is wrong."""


def examined(name: str, check: Check, asked: Asked) -> list[Fact]:
    """The facts of a check; where it is broken off, those until then and one that says so."""
    facts = []
    try:
        for fact in check(asked):
            facts.append(fact)
    except KdError as error:
        facts.append(Fact(name, "—", str(error)))
    except Exception as error:  # an examination that breaks down is no reason to skip the others
        said = one_line(f"{type(error).__name__}: {error}")
        facts.append(Fact(name, "—", f"looking at it broke down ({said}); please report that"))
    return facts
