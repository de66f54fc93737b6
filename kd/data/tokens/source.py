"""Text as a data set of tokens: files, ``text:FILE``, and texts in memory."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.core.types import Targets
from kd.data.dataset import Dataset, arrays
from kd.data.table import read_labels
from kd.data.targets import NO_LABEL
from kd.data.tokens.encode import encode, pack
from kd.data.tokens.files import Cells, File, find_files, split_of
from kd.data.tokens.text import Text, check_text
from kd.data.tokens.tokenizer import Tokenizer, load_tokenizer
from kd.data.tokens.vocabulary import Tokens, Vocabulary
from kd.data.words import indices
from kd.errors import KdError
from kd.system import kept

_FORM = 1  # another one when kd makes other tokens of the same texts
_NO_TEXT = Text()


def text(
    name: str,
    argument: str,
    data_dir: str | None,
    targets: Targets | None = None,
    text: Text = _NO_TEXT,
) -> Dataset:
    """Texts of a file as tokens: ``text:FILE``, or a folder or archive that holds a file for each
    split, ``text:archive.zip/folder``.

    Files are ``.tsv`` (a quote is a quote), ``.csv``, ``.jsonl`` or ``.txt`` (a text a line). The
    columns, the label and the tokenizer are those of `text` (``config.data.text``). A column is
    named as the first row names it, or by its number from 0 where the file has no such row. Labels
    are whole numbers, words, or numbers; an empty cell is no label. What was tokenised once is kept
    on disk by what the file holds, the tokenizer and the length: see `kd.system.kept`.

    Raises:
      KdError: no such file, split or column (those that are there are named), an empty text, one
        that is too long where that is refused, a label that is not in the list, a tokenizer
        without the special words.
    """
    tokenizer = _tokenizer(text, data_dir)
    source, files = find_files(argument, data_dir)
    file = split_of(files, name, source)
    content = file.read()
    cells = file.cells(content, _wanted(text))
    key = kept.key_of(
        "tokens",
        _FORM,
        file.ending,
        hashlib.sha256(content).hexdigest(),
        tokenizer.vocabulary.fingerprint,
        [text.columns, text.length, text.too_long, text.packed],
    )
    stored = kept.remembered("data", key, lambda: _rows(*_columns(cells, text), text, tokenizer))
    told: dict[str, Any] = {}
    if text.label is not None:
        told = _labels(cells, name, files, text, targets)
    return _dataset(stored, tokenizer.vocabulary, text, targets=targets, **told)


def from_texts(
    texts: Sequence[str],
    labels: Any = None,
    *,
    text: Text,
    pairs: Sequence[str] | None = None,
    num_classes: int | None = None,
    targets: Targets | None = None,
    data_dir: str | None = None,
) -> Dataset:
    """Texts in memory as tokens, and beside each of them the second of a pair.

    `text` says how, as in a config; its columns and label are those of files. `labels` are as in
    `kd.arrays`, or words of ``text.names``.

    Raises:
      KdError: as `text`, and lists of different lengths.
    """
    tokenizer = _tokenizer(text, data_dir)
    texts = list(texts)
    for bad in (k for k, entry in enumerate(texts) if not entry.strip()):
        raise KdError(f"text {bad} is empty; leave that example out")
    if not texts or (pairs is not None and len(pairs) != len(texts)):
        raise KdError(f"there are {len(texts)} texts and {len(pairs or ())} pairs; give as many")
    if text.packed and pairs is not None:
        raise KdError("pairs are not packed into a row; leave text.packed out")
    told: dict[str, Any] = {"labels": labels, "num_classes": num_classes}
    if text.names and labels is not None:
        told["labels"] = _listed([str(label) for label in labels], text.names, "labels", None)
    stored = _rows(texts, None if pairs is None else list(pairs), text, tokenizer)
    return _dataset(stored, tokenizer.vocabulary, text, targets=targets, **told)


def _tokenizer(text: Text, data_dir: str | None) -> Tokenizer:
    if text.tokenizer is None:
        raise KdError(
            "text is read through a tokenizer; set config.data.text.tokenizer (in Python "
            "text=kd.Text(tokenizer=...)), a tokenizer.json or a vocab.txt"
        )
    check_text(text)
    return load_tokenizer(text.tokenizer, data_dir)


def _wanted(text: Text) -> list[str]:
    return [*text.columns, *filter(None, [text.label])]


def _columns(cells: Cells, text: Text) -> tuple[list[str], list[str] | None]:
    """The texts of a file, and the second ones of pairs."""
    if not text.columns and len(cells.columns) > 1:
        raise KdError(
            f"{cells.location} has the columns {', '.join(cells.columns)}; say which of them is "
            "the text: config.data.text.columns"
        )
    columns = text.columns or cells.columns
    parts = [cells.column(name, filled=True) for name in columns]
    return parts[0], parts[1] if len(parts) > 1 else None


def _rows(
    texts: list[str], pairs: list[str] | None, text: Text, tokenizer: Tokenizer
) -> dict[str, np.ndarray]:
    """The tokens, as they are kept."""
    if text.packed:
        return {"rows": pack(tokenizer, texts, length=text.length), "cut": np.zeros((), np.int64)}
    rows, cut = encode(tokenizer, texts, pairs, length=text.length, too_long=text.too_long)
    return {"rows": rows, "cut": np.asarray(cut)}


def _labels(
    cells: Cells, name: str, files: Mapping[str, File], text: Text, targets: Targets | None
) -> dict[str, Any]:
    """Labels of a split, and the words for the classes; those of ``train`` where nobody lists
    them.
    """
    assert text.label is not None
    words = {name: [cell.strip() for cell in cells.column(text.label)]}
    if text.names:
        labels = _listed(words[name], text.names, cells.location, cells.lines)
        return {"labels": labels, "class_names": text.names}
    if name != "train" and "train" in files:
        file = files["train"]
        training = file.cells(file.read(), _wanted(text))
        words["train"] = [cell.strip() for cell in training.column(text.label)]
    labels, names = read_labels(words, name, targets, cells.location)
    if labels is None:
        raise KdError(
            f"{cells.location}: no cell of column '{text.label}' holds a label; leave "
            "config.data.text.label out"
        )
    return {"labels": labels, "class_names": names}


def _listed(
    words: Sequence[str], names: Sequence[str], location: str, lines: Sequence[int] | None
) -> np.ndarray:
    """The place of each label in the list: of a word that it holds, or, where all labels are whole
    numbers and none of them is in it, that number.
    """
    told = set(words) - {""}
    if all(map(str.isdecimal, told)) and told.isdisjoint(names):
        places = [int(word) if word else NO_LABEL for word in words]
        bad = [k for k, place in enumerate(places) if place >= len(names)]
    else:
        bad = [k for k, word in enumerate(words) if word and word not in names]
        places = [] if bad else indices(words, tuple(names))
    if bad:
        place = f", line {lines[bad[0]]}" if lines is not None else f" of example {bad[0]}"
        raise KdError(
            f"{location}{place}: the label '{words[bad[0]]:.40}' is none of text.names, "
            f"{', '.join(names)}; add it there"
        )
    return np.asarray(places, np.int32)


def _dataset(
    stored: Mapping[str, np.ndarray],
    vocabulary: Vocabulary,
    text: Text,
    *,
    labels: Any = None,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    targets: Targets | None = None,
) -> Dataset:
    rows = stored["rows"]
    buckets = 1 if text.packed else text.buckets  # packed rows are full
    tokens = Tokens(vocabulary, buckets, text.packed, bool(text.masked), int(stored["cut"]))
    if text.masked:
        labels, targets, class_names = rows[..., 0].astype(np.int32), None, None
        num_classes = vocabulary.size
    if labels is None and num_classes is None:
        num_classes = len(text.names) or 1
    data = arrays(
        rows,
        labels,
        num_classes=num_classes,
        class_names=class_names,
        targets=targets,
        weights=_asked(rows, vocabulary) if text.masked else None,
        ids=True,
        positions=rows.shape[1:2] if text.masked else (),
    )
    return dataclasses.replace(data, tokens=tokens)


def _asked(rows: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """1 at every position that may be hidden, 0 at special words and padding: ``[n l]``."""
    special = np.isin(rows[..., 0], vocabulary.special)
    return ((rows[..., 1] > 0) & ~special).astype(np.float32)
