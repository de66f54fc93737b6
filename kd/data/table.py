"""Tables of numbers with a column of labels: CSV files, plain or in a folder or archive."""

from __future__ import annotations

import csv as standard
import dataclasses
import io
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kd.core.types import Targets
from kd.data.archive import find_data, members
from kd.data.dataset import Dataset, arrays
from kd.data.targets import NO_LABEL
from kd.data.words import class_list, indices
from kd.errors import KdError, reading, unknown
from kd.system.kept import key_of_files, remembered
from kd.system.memory import check_fits

Files = dict[str, tuple[str, Callable[[], bytes]]]
"""Where the file of each split lies, and what reads it."""
_FORM = 1  # another one when kd parses the same cells to other numbers
_ENDINGS = (".csv", ".tsv", ".txt", ".data")
_LABELS = ("label", "class", "target", "y")
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf(inity)?)", re.I)
_MEMORY = 20  # times the size of a file that its cells take
_FIX = "mend it, or leave the column out: csv:FILE?drop=COLUMN"


def csv(name: str, argument: str, data_dir: str | None, targets: Targets | None = None) -> Dataset:
    """Rows of a CSV file, numbers and a label: ``csv:FILE``, or ``csv:FILE?label=COLUMN``.

    The label is the column named label, class, target or y, or the only one that holds words, or
    what ``label=`` says (a name, or a number from 0; ``label=a,b`` for several columns of numbers;
    ``label=none&classes=10`` for rows without). Labels are whole numbers or words, or numbers if
    `targets` or a decimal point says so; an empty cell, or -1 among classes, is no label. All other
    columns are numbers, those that ``drop=a,b`` names and an index that pandas wrote left out, and
    so is the column of weights that ``weight=COLUMN`` names. There may be a header or none; commas,
    semicolons or tabs. A folder or archive holds a file for each split, ``train.csv`` and
    ``test.csv``; the rows of a single file are the split ``train``, to be cut as ``train[:80%]``
    and ``train[80%:]``. `FILE` lies in `data_dir`, else in ``KD_DATA_DIR``, else here.

    Raises:
      KdError: no such file, split or column, or a cell that is no number (line and column are
        named).
    """
    file, options = _options(argument)
    path = find_data(file, data_dir)
    files = _files(path)
    if name not in files:
        raise unknown(f"split of {path}:", name, files)
    classes = _classes(options)
    on_disk = [location for location, _ in files.values()] if path.is_dir() else [path]
    key = key_of_files(on_disk, "csv", _FORM, name, options, targets)
    stored = remembered("data", key, lambda: _parsed(files, name, options, targets, path))
    names, elsewhere = stored.get("class_names"), stored.get("classes")
    if classes is None and elsewhere is not None:
        classes = int(elsewhere[0])
    return arrays(
        stored["inputs"],
        stored.get("labels"),
        num_classes=classes,
        class_names=None if names is None else tuple(names.tolist()),
        targets=targets,
        weights=stored.get("weights"),
    )


def _parsed(
    files: Files, name: str, options: Mapping[str, str], targets: Targets | None, path: pathlib.Path
) -> dict[str, np.ndarray]:
    """The arrays of a split: inputs, and labels, weights, words and number of classes where the
    file says them.
    """
    table = read_table(*files[name])
    places = _labels(table, options)
    weight = _column(table, options["weight"]) if options["weight"] else None
    dropped = [_column(table, column) for column in options["drop"].split(",") if column]
    left_out = {*places, *dropped, weight}
    parsed = {"inputs": numbers(table, [k for k in range(table.width) if k not in left_out])}
    if weight is not None:
        parsed["weights"] = numbers(table, [weight])[:, 0]
    if not places:
        return parsed
    if len(places) > 1:
        return {**parsed, "labels": numbers(table, places, gaps=True)}
    texts = {
        split: table.texts(places[0]) if split == name else _texts(read_table(*file), options)
        for split, file in files.items()
    }
    labels, names = read_labels(texts, name, targets, str(path))
    classes = _classes_elsewhere(texts, names) if labels is None else None
    told = {"labels": labels, "class_names": names}
    told["classes"] = None if classes is None else np.array([classes])
    return parsed | {key: np.asarray(value) for key, value in told.items() if value is not None}


def read_labels(
    texts: Mapping[str, list[str]], name: str, targets: Targets | None, location: str
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Labels of a split from the words of all, and class names where they are no numbers; None
    where the split has none.
    """
    words = [text for part in texts.values() for text in part if text]
    whole, empty = all(map(_WHOLE.fullmatch, words)), not any(texts[name])
    if whole and targets in (None, "classes"):
        labels = [int(float(text)) if text else NO_LABEL for text in texts[name]]
        return (None if empty else np.array(labels)), None
    if targets != "classes" and all(map(_NUMBER.fullmatch, words)):
        labels = [float(text) if text else np.nan for text in texts[name]]
        return (None if empty else np.array(labels)), None
    names = class_list(texts, location)
    return (None if empty else indices(texts[name], names)), names


def _classes_elsewhere(texts: Mapping[str, list[str]], names: tuple[str, ...] | None) -> int | None:
    """How many classes a split without labels has, by the other splits."""
    if names is not None:
        return len(names)
    whole = [text for part in texts.values() for text in part if _WHOLE.fullmatch(text)]
    return max((int(float(text)) + 1 for text in whole), default=None)


@dataclasses.dataclass(frozen=True)
class Table:
    """The cells of a file as text; `lines` are the numbers of the rows' lines, `header` None where
    the file has none.
    """

    location: str
    header: list[str] | None
    rows: list[list[str]]
    lines: list[int]

    @property
    def width(self) -> int:
        return len(self.rows[0])

    def texts(self, place: int) -> list[str]:
        return [row[place].strip() for row in self.rows]

    def called(self, place: int) -> str:
        return f"column {place}" if self.header is None else f"column '{self.header[place]}'"


def _options(argument: str) -> tuple[str, dict[str, str]]:
    file, mark, query = argument.rpartition("?")
    options = {"label": "", "drop": "", "classes": "", "weight": ""}
    if not mark or "=" not in query:
        return argument, options
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key not in options:
            raise unknown("option of csv:", key, options)
        options[key] = value
    return file, options


def _classes(options: Mapping[str, str]) -> int | None:
    text = options["classes"]
    if text and not (text.isdecimal() and len(text) < 10):
        raise KdError(f"csv: classes must be a whole number, got '{text}'; e.g. classes=10")
    return int(text) if text else None


def _files(path: pathlib.Path) -> Files:
    """What reads the file of each split."""
    if path.is_file() and path.suffix.lower() in _ENDINGS:
        check_fits(_MEMORY * path.stat().st_size, f"reading {path}", "split it up")
        return {"train": (str(path), path.read_bytes)}
    files: Files = {}
    for member in members(path, lambda parts: parts[-1].lower().endswith(_ENDINGS)):
        split = member.parts[-1].rpartition(".")[0]
        if split in files:
            raise KdError(f"{path} holds two files for {split}; keep one of them")
        check_fits(_MEMORY * member.size, f"reading {member.location}", "split it up")
        files[split] = (member.location, member.read)
    if not files:
        raise KdError(f"{path} holds no .csv file; it needs one for each split, e.g. train.csv")
    return files if len(files) > 1 else {"train": next(iter(files.values()))}


def is_header(cells: Sequence[str]) -> bool:
    """Whether no cell of a first row is a number."""
    return not any(_NUMBER.fullmatch(cell.strip()) for cell in cells)


def read_file(path: pathlib.Path, headed: Callable[[Sequence[str]], bool] = is_header) -> Table:
    """The cells of a file of its own. Raises a `KdError` as `csv` does, or where it is too large
    for memory.
    """
    check_fits(_MEMORY * path.stat().st_size, f"reading {path}", "split it up")
    return read_table(str(path), path.read_bytes, headed)


def read_table(
    location: str,
    read: Callable[[], bytes],
    headed: Callable[[Sequence[str]], bool] = is_header,
) -> Table:
    """The cells of a file; `headed` says whether its first row is a header.

    Raises:
      KdError: it cannot be read, is empty, or has rows of several lengths.
    """
    with reading(location, "write it anew, as UTF-8"):
        text = read().decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        reader = standard.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        numbered = [(reader.line_num, row) for row in reader if row]
    if not numbered:
        raise KdError(f"{location} is empty; write a row for each example")
    header = None
    if headed(numbered[0][1]):
        header = [cell.strip() for cell in numbered.pop(0)[1]]
        if len(set(header)) < len(header):
            raise KdError(f"{location} has two columns of one name; rename one of them")
    if not numbered:
        raise KdError(f"{location} has a header and no rows; write a row for each example")
    width = len(numbered[0][1] if header is None else header)
    for line, row in numbered:
        if len(row) != width:
            raise KdError(f"{location}, line {line}: {len(row)} cells and {width} columns; mend it")
    return _without_index(
        Table(location, header, [row for _, row in numbered], [line for line, _ in numbered])
    )


def _without_index(table: Table) -> Table:
    """Without the nameless first column that pandas writes: the number of each row."""
    if table.header is None or table.header[0] != "":
        return table
    return Table(table.location, table.header[1:], [row[1:] for row in table.rows], table.lines)


def _column(table: Table, name: str) -> int:
    """A column by its name, or by its number from 0, or from the end as -1."""
    if table.header is not None and name in table.header:
        return table.header.index(name)
    if re.fullmatch(r"-?\d{1,6}", name) and -table.width <= int(name) < table.width:
        return int(name) % table.width
    known = map(str, range(table.width)) if table.header is None else table.header
    raise unknown(f"column of {table.location}:", name, known)


def _labels(table: Table, options: Mapping[str, str]) -> list[int]:
    """The columns of the label: one, several of numbers, or none."""
    text = options["label"]
    if not text:
        return [_guess(table)]
    if text == "none":
        return []
    if "," in text and text not in (table.header or ()):
        return [_column(table, column) for column in text.split(",")]
    return [_column(table, text)]


def _guess(table: Table) -> int:
    header = [] if table.header is None else [name.lower() for name in table.header]
    named = [header.index(name) for name in _LABELS if name in header]
    words = [k for k in range(table.width) if not _NUMBER.fullmatch(table.rows[0][k].strip())]
    guess = named or words
    if len(guess) == 1:
        return guess[0]
    columns = table.header or f"0 to {table.width - 1}"
    raise KdError(
        f"{table.location} does not say which of its columns is the label, {columns!s:.200}; "
        "say so: csv:FILE?label=COLUMN"
    )


def _texts(table: Table, options: Mapping[str, str]) -> list[str]:
    places = _labels(table, options)
    return table.texts(places[0]) if places else []


def numbers(
    table: Table, columns: Sequence[int], fix: str = _FIX, *, gaps: bool = False
) -> np.ndarray:
    """``[n columns]`` float32; an empty cell is NaN where there may be `gaps`.

    Raises a `KdError` for a cell that is no finite number; `fix` says what to do about it.
    """
    if not columns:
        raise KdError(f"{table.location} has no column of numbers beside its label; add one")
    inputs = np.empty((len(table.rows), len(columns)), np.float32)
    for k, row in enumerate(table.rows):
        cells = [row[place].strip() for place in columns]
        missing = np.array([gaps and not cell for cell in cells])
        try:
            with np.errstate(over="ignore"):  # seen below
                inputs[k] = [
                    np.nan if gap else float(cell) for cell, gap in zip(cells, missing, strict=True)
                ]
        except (ValueError, OverflowError):
            raise _no_number(table, k, columns, fix) from None
        if not (np.isfinite(inputs[k]) | missing).all():
            raise _no_number(table, k, columns, fix)
    return inputs


def _no_number(table: Table, k: int, columns: Sequence[int], fix: str) -> KdError:
    def is_number(text: str) -> bool:
        with np.errstate(over="ignore"):
            return bool(_NUMBER.fullmatch(text.strip())) and bool(np.isfinite(np.float32(text)))

    bad = [place for place in columns if not is_number(table.rows[k][place])]
    place = bad[0] if bad else columns[0]
    return KdError(
        f"{table.location}, line {table.lines[k]}, {table.called(place)} holds "
        f"'{table.rows[k][place]:.40}', which is no finite number; {fix}"
    )
