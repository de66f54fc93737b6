"""Which row of a table answers for which example: by its name, or where there is none by place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from kd.data.examples import Examples
from kd.errors import KdError

_WHOLE = re.compile(r"\d{1,18}(\.0)?")
_SEVERAL = -1


def rows_of(names: Sequence[str] | None, data: Examples, location: str) -> np.ndarray | None:
    """The row of a table for each example of `data`, ``[n]``; None: row i is of example i.

    `names` say of which example each row is. An image in a folder is named by its path, as much of
    it as tells it apart (``train/3/a.png``, ``3/a.png``, ``a.png``, ``a``), or by a longer one that
    ends with it; everything else by the number of its row in its split, from 0. Rows of other
    examples are left out.

    Raises:
      KdError: an example without a row or with two, or images of a folder and no names: nobody
        but kd knows their order.
    """
    called = data.names
    files = called.dtype.kind not in "iu"
    if names is None:
        if not files:
            return None
        raise KdError(
            f"{location} names no example, and images of a folder have no order of their own; add "
            f"a column 'file' that names each, as '{called[0]}' or a part that tells it apart"
        )
    rows = _by_file(called, names, location) if files else _by_number(called, names, location)
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        raise KdError(
            f"{location} has no row for {len(missing):,} of {len(data):,} examples, e.g. "
            f"'{called[missing[0]]}'; it names e.g. '{names[0]}'"
        )
    return rows


def _by_number(numbers: np.ndarray, names: Sequence[str], location: str) -> np.ndarray:
    for row, name in enumerate(names):
        if not _WHOLE.fullmatch(name):
            raise KdError(
                f"{location} calls the example of row {row} '{name}', and these examples have no "
                "files; number them by their row in the split, from 0"
            )
    places = {int(number): place for place, number in enumerate(numbers.tolist())}
    return _rows((places.get(int(float(name))) for name in names), names, len(numbers), location)


def _by_file(files: np.ndarray, names: Sequence[str], location: str) -> np.ndarray:
    whole, ends = _whole(files), _ends(files)

    def place(name: str) -> int | None:
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
        longer = ("/".join(parts[start:]) for start in range(len(parts)))
        known = [ends.get("/".join(parts)), *map(whole.get, longer)]
        chosen = next((number for number in known if number is not None), None)
        if chosen == _SEVERAL:
            raise KdError(
                f"{location} names '{name}', and several examples are called so; name them by more "
                f"of their path, as '{files[0]}'"
            )
        return chosen

    return _rows(map(place, names), names, len(files), location)


def _whole(files: Iterable[str]) -> Mapping[str, int]:
    """The place of each file by its whole path."""
    return {file: place for place, file in enumerate(files)}


def _ends(files: Iterable[str]) -> Mapping[str, int]:
    """The place of each file by every end of its path, with and without the file's ending."""
    places: dict[str, int] = {}
    for place, file in enumerate(files):
        parts = file.split("/")
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        for end in {*ends, *(end.rpartition(".")[0] for end in ends)}:
            places[end] = _SEVERAL if end in places else place
    return places


def _rows(
    places: Iterable[int | None], names: Sequence[str], examples: int, location: str
) -> np.ndarray:
    rows = np.full(examples, -1, np.int64)
    for row, place in enumerate(places):
        if place is None:
            continue
        if rows[place] >= 0:
            raise KdError(
                f"{location} has two rows for one example, '{names[rows[place]]}' and "
                f"'{names[row]}'; keep one of them"
            )
        rows[place] = row
    return rows
