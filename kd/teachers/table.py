"""Soft labels in a file, a table of logits or probabilities: .npz, .npy or CSV."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.core.manifest import Kind
from kd.core.types import Teacher
from kd.data import table as csv
from kd.data.archive import Member
from kd.data.examples import Examples
from kd.data.npz import read_array, stored_arrays, words
from kd.errors import KdError, unknown
from kd.system.memory import check_fits
from kd.teachers.classes import choose
from kd.teachers.rows import rows_of
from kd.teachers.soft_labels import soft_labels

_NAMES = ("file", "files", "path", "paths", "filename", "filenames", "id", "ids")
_FILES = (*_NAMES, "index")  # what names an example that is a file, the first that is there,
_NUMBERS = ("index", *_NAMES)  # and one that has a number
_KINDS: dict[str, Kind] = {
    "logit": "logits",
    "logits": "logits",
    "prob": "probabilities",
    "probability": "probabilities",
    "probabilities": "probabilities",
}
_CLASS = re.compile(rf"({'|'.join(_KINDS)})_(.+)", re.IGNORECASE)
_WHOLE = re.compile(r"\d{1,9}")


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What a file holds: `values` ``[r ...]``, what they are, of which example each row is, which
    class each column is, as far as it says.
    """

    values: np.ndarray
    kind: Kind | None = None
    names: Sequence[str] | None = None
    classes: tuple[str, ...] | None = None
    temperature: float | None = None


def table_teacher(
    path: pathlib.Path,
    data: Examples,
    *,
    kind: Kind | None = None,
    temperature: float | None = None,
    classes: Sequence[int] | Sequence[str] | None = None,
) -> Teacher:
    """The teacher that answers what a file says of each example of `data`.

    A .npz file holds ``logits`` or ``probabilities`` ``[n v]`` (or ``[n *p v]``), and may hold
    ``files``, ``paths``, ``ids`` or ``index`` that name the examples, ``class_names`` of the
    columns, and the ``temperature`` of probabilities. A .npy file is the array alone. A CSV file
    has a column for each class, ``logit_NAME``, ``probability_NAME``, ``prob_NAME`` or the name
    alone, and may have one that names the examples. Columns whose classes are named are brought
    into the order of the data's classes, rows whose examples are named into that of its examples
    (see `kd.teachers.rows`); all else has that order already. `kind` says what the file does not.
    `classes` are the columns to take, by number or name, in the order of the data's classes; their
    probabilities are renormalised.

    Raises:
      KdError: no such file, a kind that nobody said or that the file contradicts, rows or classes
        that do not fit, and all that `kd.soft_labels` refuses.
    """
    if not path.is_file():
        raise KdError(f"no table of soft labels {path}; give an .npz, .npy or CSV file")
    of_files = data.names.dtype.kind not in "iu"
    read = {".npz": _npz, ".npy": _npy}.get(path.suffix.lower(), _csv)
    answers = read(path, _FILES if of_files else _NUMBERS, kind)
    if kind not in (None, answers.kind) and answers.kind is not None:
        raise KdError(f"{path} says that it holds {answers.kind}, and teacher.kind is {kind}")
    kind = kind or answers.kind
    if kind is None:
        raise KdError(
            f"{path} does not say what it holds; set teacher.kind, to logits or probabilities"
        )
    softened = _softened(
        answers.temperature if kind == "probabilities" else None, temperature, path
    )
    rows = rows_of(answers.names, data, str(path))
    values = answers.values if rows is None else answers.values[rows]
    if classes is not None:
        values = choose(values, _chosen(classes, answers.classes, str(path)), kind)
    elif answers.classes is not None:
        values = values[..., _columns(answers.classes, data, str(path))]
    labels: dict[str, Any] = {kind: values, "temperature": softened}
    return soft_labels(data=data, **labels)


def _softened(stored: float | None, told: float | None, path: pathlib.Path) -> float:
    if stored is not None and told not in (None, stored):
        raise KdError(f"{path} was softened at {stored:g}, and teacher.temperature is {told}")
    return stored or told or 1.0


def _npz(path: pathlib.Path, naming: Sequence[str], kind: Kind | None) -> _Answers:
    stored = stored_arrays(path)
    kinds = [key for key in ("logits", "probabilities") if key in stored]
    chosen = kind if kind in kinds else (kinds or [None])[0]
    if chosen is None or (len(kinds) > 1 and kind is None):
        raise KdError(
            f"{path} must hold logits or probabilities, one of them or teacher.kind says which; it "
            f"holds {', '.join(map(repr, stored)) or 'nothing'}"
        )
    values = _rows_of_numbers(read_array(stored[chosen]), stored[chosen].location)
    names = next((_texts(stored[key], len(values)) for key in naming if key in stored), None)
    columns = next((stored[key] for key in ("class_names", "classes") if key in stored), None)
    return _Answers(
        values,
        _KINDS[chosen],
        names,
        None if columns is None else tuple(_texts(columns, values.shape[-1])),
        _number(stored),
    )


def _number(stored: Mapping[str, Member]) -> float | None:
    if "temperature" not in stored:
        return None
    value = read_array(stored["temperature"])
    if value.size != 1 or value.dtype.kind not in "uif" or not 0 < value.item() < np.inf:
        raise KdError(f"{stored['temperature'].location} must be one number above 0")
    return float(value.item())


def _texts(member: Member, wanted: int) -> list[str]:
    """An array of words or whole numbers, as text."""
    array = read_array(member)
    if array.shape != (wanted,) or array.dtype.kind not in "USiu":
        raise KdError(
            f"{member.location} is {array.dtype}{list(array.shape)}; store {wanted} words or whole "
            "numbers"
        )
    return words(array, member.location)


def _rows_of_numbers(values: np.ndarray, location: str) -> np.ndarray:
    if values.ndim < 2:
        raise KdError(f"{location} has shape {list(values.shape)}; store a row per example, [n v]")
    return values


def _npy(path: pathlib.Path, naming: Sequence[str], kind: Kind | None) -> _Answers:
    del naming, kind
    size = path.stat().st_size
    check_fits(2 * size, f"reading {path}", "split it up")
    values = read_array(Member(path.name, size, "", str(path), path.read_bytes))
    return _Answers(_rows_of_numbers(values, str(path)))


def _csv(path: pathlib.Path, naming: Sequence[str], kind: Kind | None) -> _Answers:
    table = csv.read_file(path, _is_header)
    fix = "mend it, or name what the column is in a header"
    if table.header is None:
        return _Answers(csv.numbers(table, range(table.width), fix))
    lower = [name.lower() for name in table.header]
    place = next((lower.index(name) for name in naming if name in lower), None)
    marked = {k: match for k, name in enumerate(table.header) if (match := _CLASS.fullmatch(name))}
    kinds: set[Kind] = {_KINDS[match[1].lower()] for match in marked.values()}
    if len(kinds) > 1 and kind is None:
        raise KdError(f"{path} holds logits and probabilities; set teacher.kind to say which")
    said: Kind | None = kind if kind in kinds else next(iter(kinds), None)
    columns = {k: match[2] for k, match in marked.items() if _KINDS[match[1].lower()] == said}
    if not columns:
        columns = {k: name for k, name in enumerate(table.header) if lower[k] not in naming}
    return _Answers(
        csv.numbers(table, list(columns), fix),
        said,
        None if place is None else table.texts(place),
        tuple(columns.values()),
    )


def _is_header(cells: Sequence[str]) -> bool:
    """Names of classes may be numbers; then what names the examples tells a header."""
    known = [cell.strip().lower() for cell in cells]
    named = any(cell in _FILES or _CLASS.fullmatch(cell) for cell in known)
    return named or csv.is_header(cells)


def _chosen(
    classes: Sequence[int] | Sequence[str], known: Sequence[str] | None, location: str
) -> list[int]:
    """The numbers of the columns that are called or numbered so."""
    numbers = [name for name in classes if isinstance(name, int)]
    if len(numbers) == len(classes):
        return numbers
    missing = [str(name) for name in classes if known is None or name not in known]
    if known is None or missing:
        raise unknown(f"class of {location}:", missing[0], known or ())
    return [list(known).index(str(name)) for name in classes]


def _columns(classes: Sequence[str], data: Examples, location: str) -> list[int]:
    """Where in a table each class of the data is, by its name, or else by its number."""
    known = data.class_names or tuple(map(str, range(data.num_classes)))
    if sorted(classes) == sorted(known):
        return [list(classes).index(name) for name in known]
    numbered = all(_WHOLE.fullmatch(name) for name in classes)
    if numbered and sorted(map(int, classes)) == list(range(data.num_classes)):
        return np.argsort([int(name) for name in classes]).tolist()
    missing = [name for name in known if name not in classes]
    extra = [name for name in classes if name not in known]
    told = [f"has no '{name}'" for name in missing[:1]] + [f"has '{name}'" for name in extra[:1]]
    raise KdError(
        f"{location} {' and '.join(told) or 'names a class twice'}; its columns must be the data's "
        f"{data.num_classes} classes, {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}"
    )
