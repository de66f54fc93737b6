"""Rules about terms, as dated data: what the terms of weights, services and data say of a student.

No legal advice.
"""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import os
import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any, Literal, get_args

from kd.errors import KdError, unknown
from kd.system.paths import anywhere

Verdict = Literal["allow", "notice", "name", "derivative", "ask", "refuse"]
Route = Literal["weights", "service", "data"]
NO_ADVICE = "This is no legal advice."
_SHIPPED = pathlib.Path(__file__).with_name("licences.toml")
_TEXTS = ("obligation", "source", "basis")
_FIX = "mend that row"


@dataclasses.dataclass(frozen=True)
class Terms:
    """A row: which licences or services `patterns` match, how their answers were got, what follows.

    `licence` is what goes with a derivative. `read` is the day on which the terms, or by `basis` a
    summary of them, were read at `source`.
    """

    patterns: tuple[str, ...]
    route: Route
    verdict: Verdict
    obligation: str
    source: str
    read: datetime.date
    basis: str
    licence: str = ""

    def matches(self, name: str, routes: tuple[Route, ...]) -> bool:
        """Whether the row is about a licence, service or data set of that name."""
        known = any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in self.patterns)
        return known and self.route in routes


@dataclasses.dataclass(frozen=True)
class Rules:
    """All rows, and for how many days after it was read a row counts."""

    terms: tuple[Terms, ...]
    fresh_days: int

    def of(self, name: str, *routes: Route) -> Terms | None:
        """The first row about a name; None where there is none: unknown."""
        return next((row for row in self.terms if row.matches(name, routes)), None)

    def stale(self, row: Terms, today: datetime.date) -> bool:
        """Whether the row was read too long ago to let anything pass."""
        return today > row.read + datetime.timedelta(days=self.fresh_days)


def load_rules(path: str | os.PathLike[str] | None = None) -> Rules:
    """The rows of a file: `path`, or what ``KD_LICENCES`` names, or those that ship with kd.

    Raises:
      KdError: no such file, one that is no TOML, or a row with an unknown verdict or route, a date
        that is none, or without a source.
    """
    file = anywhere(path or os.environ.get("KD_LICENCES") or _SHIPPED, "a file of licences")
    try:
        told = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise KdError(f"cannot read {file}: {error.strerror}; name another file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KdError(f"{file} is no TOML: {error}; mend it") from error
    rows, days = told.get("terms"), told.get("fresh_days")
    if not isinstance(rows, list) or not rows:
        raise KdError(f"{file} holds no rows of terms; write [[terms]] for each")
    if type(days) is not int or days < 1:
        raise KdError(f"{file}: fresh_days must be a whole number of days, got {days!r}")
    return Rules(tuple(_row(row, f"{file}, row {i + 1}") for i, row in enumerate(rows)), days)


def _row(row: Any, place: str) -> Terms:
    if not isinstance(row, Mapping):
        raise KdError(f"{place} is no table of keys; {_FIX}")
    known = {field.name for field in dataclasses.fields(Terms)} - {"patterns"} | {"pattern"}
    for key in row:
        if key not in known:
            raise unknown(f"key in {place}:", key, known)
    patterns = row.get("pattern")
    if not isinstance(patterns, list) or not all(isinstance(p, str) and p for p in patterns or [0]):
        raise KdError(f"{place}: pattern must be a list of words, got {patterns!r}; {_FIX}")
    for key, choices in (("verdict", get_args(Verdict)), ("route", get_args(Route))):
        if row.get(key) not in choices:
            raise unknown(f"{key} in {place}:", row.get(key), choices)
    if type(row.get("read")) is not datetime.date:
        raise KdError(
            f"{place}: read must be a date such as 2026-11-27, got {row.get('read')!r}; {_FIX}"
        )
    for key in _TEXTS:
        if not isinstance(row.get(key), str) or (key != "obligation" and not row[key]):
            raise KdError(f"{place}: {key} must be a text, got {row.get(key)!r}; {_FIX}")
    rest = {key: value for key, value in row.items() if key != "pattern"}
    return Terms(tuple(pattern.lower() for pattern in patterns), **rest)
