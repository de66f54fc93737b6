"""From a folder of images to arrays: decoded once, of one size, their classes called by words."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.data import find_data, in_memory, members, open_stream
from kd.errors import KdError, reading
from kd.runs import Done

_WORDS = "words.txt"
_LINES = "each line of it is a class's folder, a tab, and what the class is called"


def features(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    source: str,
    splits: Sequence[str],
    size: int,
    checksum: str,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Stage: images into ``images.npz``, `size` pixels a side as `data.image_size` makes them.

    Raises:
      KdError: no such images, one that cannot be read, or a split without classes.
    """
    del done, checksum
    arrays: dict[str, Any] = {}
    called: list[str] = []
    for split in splits:
        images = in_memory(open_stream(source, split, data_dir, size=size))
        if images.labels is None:
            raise KdError(f"the images of {split} in {source} lie in no folders of their classes")
        folders = images.class_names or tuple(map(str, range(images.num_classes)))
        called = names(folders, words(source, data_dir))
        arrays[f"{split}_inputs"] = images.inputs
        arrays[f"{split}_labels"] = np.array(called)[images.labels]
    np.savez(folder / "images.npz", **arrays)
    return {
        "class_names": sorted(called),
        "groups": None,
        "splits": {split: len(arrays[f"{split}_labels"]) for split in splits},
    }


def checksum(source: str, splits: Sequence[str], size: int, data_dir: str | None) -> str:
    """Which images these are, and what their classes are called: part of the identity of what is
    made of them. No image is decoded for it.
    """
    from kd.config import fingerprint_of

    images = [open_stream(source, split, data_dir, size=size).fingerprint for split in splits]
    return fingerprint_of([images, words(source, data_dir)])


def words(source: str, data_dir: str | None) -> dict[str, str]:
    """What ``words.txt`` beside the splits calls the class of each folder, the first of its
    synonyms; nothing where there is no such file.

    Raises:
      KdError: one that is not well-formed.
    """
    kind, _, place = source.partition(":")
    if kind != "folder":
        return {}
    path = find_data(place, data_dir)
    called: dict[str, str] = {}
    for file in members(path, lambda parts: parts[-1] == _WORDS):
        with reading(file.location, _LINES):
            for line in file.read().decode("utf-8").splitlines():
                folder, synonyms = line.split("\t")
                called[folder] = synonyms.partition(",")[0].strip()
    return called


def names(folders: Sequence[str], words: Mapping[str, str]) -> list[str]:
    """What the class of each folder is called, each by a name of its own: that of its folder where
    there is no other, and beside a word that several have.
    """
    called = [words.get(folder) or folder for folder in folders]
    count = Counter(called)
    return [
        name if count[name] == 1 else f"{name} ({folder})"
        for name, folder in zip(called, folders, strict=True)
    ]
