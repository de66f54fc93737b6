"""Files of text: tab-separated, comma-separated, JSON lines and plain text, by split."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from kd.data.archive import Member, find_data, members
from kd.errors import KdError, reading, unknown
from kd.system.memory import check_fits

_MEMORY = 20  # times the size of a file that its cells take
_NUMBER = re.compile(r"-?\d{1,6}")


@dataclasses.dataclass(frozen=True)
class Cells:
    """A file's cells as text: `columns` are their names, of a file without a header ``0``, ``1``,
    ...; `lines` are the numbers of the rows' lines.
    """

    location: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]

    def column(self, name: str, *, filled: bool = False) -> list[str]:
        """The cells of a column, by its name, or its number from 0, or from the end as -1.

        Raises:
          KdError: no such column, or an empty cell where all must be `filled`.
        """
        place = self._place(name)
        cells = [row[place] for row in self.rows]
        for bad in (k for k, cell in enumerate(cells) if filled and not cell.strip()):
            raise KdError(
                f"{self.location}, line {self.lines[bad]}: the text in column '{name}' is empty; "
                "leave that example out"
            )
        return cells

    def _place(self, name: str) -> int:
        if name in self.columns:
            return self.columns.index(name)
        if _NUMBER.fullmatch(name) and -len(self.columns) <= int(name) < len(self.columns):
            return int(name) % len(self.columns)
        raise KdError(
            f"{self.location} has no column '{name}'; its columns are "
            f"{', '.join(f'{column:.40}' for column in self.columns)}"
        )


@dataclasses.dataclass(frozen=True)
class File:
    """The file of a split, unread."""

    location: str
    ending: str
    size: int
    read: Callable[[], bytes] = dataclasses.field(repr=False, compare=False)

    def cells(self, content: bytes, wanted: Sequence[str]) -> Cells:
        """Its `content` as cells. The first row of a table names its columns where a column that
        is `wanted` is a name and no number.

        Raises:
          KdError: it is not UTF-8, is empty, or is not what its ending says.
        """
        with reading(self.location, "write it anew, as UTF-8"):
            text = content.decode("utf-8-sig")
            headed = not all(map(_NUMBER.fullmatch, wanted))
            cells = _PARSERS[self.ending](self.location, text, headed)
        if not cells.rows:
            raise KdError(f"{self.location} holds no text; write an example a line")
        return cells


def find_files(source: str, data_dir: str | None) -> tuple[str, dict[str, File]]:
    """Where a source of text lies, and the file of each split.

    `source` is a file (whose split is ``train``), a folder or archive that holds a file for each
    split, or a folder or file inside of an archive, ``archive.zip/folder``. What is no letter,
    digit or underscore in a file's name is an underscore in the split's.

    Raises:
      KdError: nothing there, two files for a split, or none.
    """
    path, inside = _outside(source, data_dir)
    if path.is_file() and path.suffix.lower() in _PARSERS and not inside:
        check_fits(_MEMORY * path.stat().st_size, f"reading {path}", "split it up")
        alone = File(str(path), path.suffix.lower(), path.stat().st_size, path.read_bytes)
        return str(path), {"train": alone}
    held = [m for m in members(path, _is_text) if m.parts[: len(inside)] == inside]
    if not held:
        kinds = ", ".join(_PARSERS)
        raise KdError(f"{source} holds no text; it needs a file for each split: {kinds}")
    if len(held) == 1 and held[0].parts == inside:
        return source, {"train": _file(held[0])}
    files: dict[str, File] = {}
    for member in (m for m in held if len(m.parts) == len(inside) + 1):
        split = re.sub(r"\W", "_", member.parts[-1].rpartition(".")[0])
        if split in files:
            raise KdError(f"{source} holds two files for {split}; keep one of them")
        files[split] = _file(member)
    if not files:
        folders = sorted({m.parts[len(inside)] for m in held})
        raise KdError(
            f"{source} holds text in folders; name one of them: {source}/{folders[0]} (of "
            f"{', '.join(folders)})"
        )
    return source, files


def _outside(source: str, data_dir: str | None) -> tuple[pathlib.Path, tuple[str, ...]]:
    """The file or folder of a source, and what of it lies inside of an archive."""
    parts = source.split("/")
    for count in range(len(parts), 0, -1):
        try:
            path = find_data("/".join(parts[:count]), data_dir)
        except KdError:
            continue
        if count == len(parts) or path.is_file():
            return path, tuple(part for part in parts[count:] if part)
    find_data(source, data_dir)
    raise KdError(f"no {source}; name a file, a folder or an archive")


def _is_text(parts: tuple[str, ...]) -> bool:
    return parts[-1].lower().endswith(tuple(_PARSERS))


def _file(member: Member) -> File:
    check_fits(_MEMORY * member.size, f"reading {member.location}", "split it up")
    ending = pathlib.PurePosixPath(member.name).suffix.lower()
    return File(member.location, ending, member.size, member.read)


def split_of(files: dict[str, File], name: str, source: str) -> File:
    """The file of a split. Raises a `KdError` where there is none."""
    if name not in files:
        raise unknown(f"split of {source}:", name, files)
    return files[name]


def _tabs(location: str, text: str, headed: bool) -> Cells:
    """Cells between tabs, as they stand: a quote is a quote."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line]
    return _table(location, rows, headed)


def _commas(location: str, text: str, headed: bool) -> Cells:
    first = text.partition("\n")[0]
    delimiter = max(",;", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return _table(location, [(reader.line_num, row) for row in reader if row], headed)


def _table(location: str, rows: list[tuple[int, list[str]]], headed: bool) -> Cells:
    if not rows:
        return Cells(location, (), (), ())
    columns = tuple(map(str, range(len(rows[0][1]))))
    if headed:
        columns = tuple(cell.strip() for cell in rows.pop(0)[1])
        if len(set(columns)) < len(columns):
            raise KdError(f"{location} has two columns of one name; rename one of them")
    for line, row in rows:
        if len(row) != len(columns):
            raise KdError(
                f"{location}, line {line}: {len(row)} cells and {len(columns)} columns; mend it"
            )
    return Cells(location, columns, [row for _, row in rows], [line for line, _ in rows])


def _json_lines(location: str, text: str, headed: bool) -> Cells:
    del headed
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    rows = [(number, _object(location, number, line)) for number, line in numbered]
    columns = tuple(rows[0][1]) if rows else ()
    table = []
    for line, row in rows:
        missing = [name for name in columns if name not in row]
        if missing:
            raise KdError(
                f"{location}, line {line} has no '{missing[0]}', which line {rows[0][0]} has; "
                "write the same keys in every line"
            )
        table.append([_cell(row[name]) for name in columns])
    return Cells(location, columns, table, [line for line, _ in rows])


def _object(location: str, line: int, text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise KdError(f"{location}, line {line} is no JSON: {error}; mend it") from None
    if not isinstance(told, dict):
        raise KdError(f"{location}, line {line} is no object, {text!r:.40}; write {{...}} a line")
    return told


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _plain(location: str, text: str, headed: bool) -> Cells:
    """A text for every line that is not empty."""
    del headed
    rows = [(k, [line.strip()]) for k, line in enumerate(text.split("\n"), 1) if line.strip()]
    return Cells(location, ("text",), [row for _, row in rows], [line for line, _ in rows])


_PARSERS: dict[str, Callable[[str, str, bool], Cells]] = {
    ".tsv": _tabs,
    ".csv": _commas,
    ".jsonl": _json_lines,
    ".txt": _plain,
}
