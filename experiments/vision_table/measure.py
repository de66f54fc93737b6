"""Stages that measure: what the teacher and every student of an arm get wrong."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import kd
from kd.data import load
from kd.runs import Done
from kd.teachers import member_evaluation


def teacher(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    fingerprint: str,
    model: Mapping[str, Any],
    data: str,
    splits: Mapping[str, str],
    file: str,
    data_dir: str | None,
) -> dict[str, Any]:
    """Stage: what the teacher gets wrong of each split. `fingerprint` says who it is."""
    del folder, done, fingerprint
    trained = kd.load(file, model=model)
    read = {name: load(data, split, data_dir) for name, split in splits.items()}
    return {name: measured(trained.logits(held_out), held_out) for name, held_out in read.items()}


def students(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    run: str,
    data: str,
    splits: Mapping[str, str],
    data_dir: str | None,
) -> dict[str, Any]:
    """Stage: what each member of `run` gets wrong of each split."""
    del folder
    trained = done[run].trained()
    read = {name: load(data, split, data_dir) for name, split in splits.items()}
    return {
        name: [measured(logits, held_out) for logits in trained.each(held_out)]
        for name, held_out in read.items()
    }


def measured(logits: np.ndarray, data: kd.Dataset) -> dict[str, Any]:
    """Metrics of one model, and which examples it gets wrong, see `packed`."""
    result = member_evaluation(logits, np.asarray(data.labels))
    return {**result, "wrong": packed(result["wrong"], len(data)), "examples": len(data)}


def packed(rows: Sequence[int], examples: int) -> str:
    """Which of so many examples are wrong, a bit each, in hexadecimal: rows one by one would be
    lines by the hundred thousand.
    """
    flags = np.zeros(examples, bool)
    flags[list(rows)] = True
    return np.packbits(flags).tobytes().hex()


def unpacked(text: str, examples: int) -> np.ndarray:
    """What `packed` was made of, as 0 and 1. Shapes: ``[n]``."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:examples]
