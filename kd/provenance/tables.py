"""Answers in files: a table of what a model said of the probe set."""

from __future__ import annotations

import pathlib

import numpy as np

from kd.data import table as csv
from kd.data.archive import Member
from kd.data.examples import Examples
from kd.data.npz import read_array, stored_arrays
from kd.errors import KdError
from kd.provenance.answers import Answers, answers_of
from kd.system.memory import check_fits
from kd.teachers.answers import answers
from kd.teachers.table import table_teacher

_LABEL = "label"
_LABELS = "labels"


def table_answers(path: pathlib.Path, data: Examples) -> Answers:
    """The answers of a table to the examples of `data`.

    Logits and probabilities are spelled as a table of soft labels is, see
    `kd.teachers.table.table_teacher`. Labels alone are a CSV file with the one column ``label``, an
    .npz file with ``labels`` ``[n]``, or a .npy file of whole numbers ``[n]``; row i is of example
    i.

    Raises:
      KdError: no such file, one of another form, or not a row for each example.
    """
    if not path.is_file():
        raise KdError(f"no table of answers {path}; give an .npz, .npy or CSV file")
    labels = _labels(path)
    if labels is None:
        taught = answers(table_teacher(path, data), data)
        logits = of_classes(np.asarray(taught.log_probs()), data, str(path))
        return answers_of(logits, str(path))
    if labels.shape != (len(data),):
        raise KdError(
            f"{path} holds {labels.shape[0]:,} labels and the probe set has {len(data):,} "
            "examples; give a label for each, in order"
        )
    _check_range(labels, data, path)
    return answers_of(labels.astype(np.int64), str(path))


def table_of_controls(path: pathlib.Path, data: Examples) -> list[Answers]:
    """Those of several models: an .npz file with ``logits`` ``[m n v]`` or ``labels`` ``[m n]``.

    Raises a `KdError` of any other.
    """
    stored = stored_arrays(path)
    key = next((key for key in ("logits", _LABELS) if key in stored), None)
    if key is None:
        raise KdError(
            f"{path} must hold logits [m n v] or labels [m n] of the controls; it holds "
            f"{', '.join(map(repr, stored)) or 'nothing'}"
        )
    values = read_array(stored[key])
    axes = 3 if key == "logits" else 2
    if values.ndim != axes or values.shape[1] != len(data):
        raise KdError(
            f"{stored[key].location} has shape {list(values.shape)}; the controls' answers to "
            f"{len(data):,} examples are [m {len(data)}{' v' if axes == 3 else ''}]"
        )
    if key == _LABELS:
        _check_range(values, data, path)
    values = values.astype(np.int64) if key == _LABELS else values
    return [answers_of(answered, f"control {i} of {path}") for i, answered in enumerate(values)]


def of_classes(logits: np.ndarray, data: Examples, who: str) -> np.ndarray:
    """`logits`, as wide as the probe set's classes. Raises a `KdError` of any others."""
    if logits.shape[-1] != data.num_classes:
        raise KdError(
            f"{who} answers with {logits.shape[-1]} classes and the probe set has "
            f"{data.num_classes}; only models of the same classes can be compared"
        )
    return logits


def _labels(path: pathlib.Path) -> np.ndarray | None:
    """The labels of a table that holds nothing else, or None."""
    ending = path.suffix.lower()
    if ending == ".npz":
        stored = stored_arrays(path)
        only = _LABELS in stored and not {"logits", "probabilities"} & set(stored)
        return read_array(stored[_LABELS]) if only else None
    if ending == ".npy":
        size = path.stat().st_size
        check_fits(2 * size, f"reading {path}", "split it up")
        values = read_array(Member(path.name, size, "", str(path), path.read_bytes))
        return values if values.ndim == 1 else None
    table = csv.read_file(path, lambda cells: [c.strip().lower() for c in cells] == [_LABEL])
    if table.header is None or table.width != 1:
        return None
    return csv.numbers(table, [0], "write whole numbers").reshape(-1)


def _check_range(labels: np.ndarray, data: Examples, path: pathlib.Path) -> None:
    whole = labels.dtype.kind in "iu" or bool((labels == np.floor(labels)).all())
    if not whole or labels.min() < 0 or labels.max() >= data.num_classes:
        raise KdError(
            f"{path} holds labels that are no classes of the probe set, whole numbers of 0 to "
            f"{data.num_classes - 1}"
        )
