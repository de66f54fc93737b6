"""From sentences to numbers: hashed words and pairs of words, weighed by how rare they are."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd.data import find_data, members
from kd.errors import KdError, reading
from kd.runs import Done

SPLITS = ("train", "val", "test")
_TEXTS, _GROUPS = "data_full.json", "domains.json"
_WHERE = (
    "it is CLINC150 (Larson et al., 2019, CC BY 3.0): data_full.json and domains.json of "
    "https://github.com/clinc/oos-eval, in a folder or a .zip"
)


def features(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    source: str,
    width: int,
    words: int,
    checksum: str,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Stage: sentences into ``text.npz``, `width` features of up to `words` words in a row, the
    examples of each split in a fixed random order; and which domain each class is of.

    Raises:
      KdError: no such file, or one that is not well-formed.
    """
    del done, checksum
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    texts, groups = read(source, data_dir)
    options: dict[str, Any] = {"ngram_range": (1, words), "alternate_sign": False, "norm": None}
    hashed = HashingVectorizer(n_features=width, **options)
    counts = {split: hashed.transform(text for text, _ in texts[split]) for split in SPLITS}
    weigh: Any = TfidfTransformer(sublinear_tf=True).fit(counts["train"])
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        order = np.random.Generator(np.random.Philox(0)).permutation(len(texts[split]))
        dense = weigh.transform(counts[split]).toarray().astype(np.float32)
        arrays[f"{split}_inputs"] = dense[order]
        arrays[f"{split}_labels"] = np.array([label for _, label in texts[split]])[order]
    np.savez(folder / "text.npz", **arrays)
    names = sorted({label for _, label in texts["train"]})
    return {
        "class_names": names,
        "groups": [groups[name] for name in names],
        "splits": {split: len(texts[split]) for split in SPLITS},
    }


def read(
    source: str, data_dir: str | None
) -> tuple[dict[str, list[tuple[str, str]]], dict[str, str]]:
    """Sentences with their intents by split, and the domain of every intent.

    Raises:
      KdError: no such file, or one that is not well-formed.
    """
    files = _files(source, data_dir)
    with reading(source, _WHERE):
        stored, domains = (json.loads(files[name].read()) for name in (_TEXTS, _GROUPS))
        texts = {split: [(str(t), str(label)) for t, label in stored[split]] for split in SPLITS}
        groups = {str(name): str(group) for group, names in domains.items() for name in names}
        unknown = {label for split in texts.values() for _, label in split} - set(groups)
        if unknown:
            raise ValueError(f"{_GROUPS} has no domain of {min(unknown)!r}")
    return texts, groups


def checksum(source: str, data_dir: str | None) -> str:
    """Which sentences these are: part of the identity of what is made of them."""
    from kd.config import fingerprint_of

    return fingerprint_of(read(source, data_dir))


def _files(source: str, data_dir: str | None) -> dict[str, Any]:
    path = find_data(source, data_dir)
    wanted = {_TEXTS, _GROUPS}
    files = {
        member.parts[-1]: member for member in members(path, lambda parts: parts[-1] in wanted)
    }
    if set(files) != wanted:
        raise KdError(f"{path} has no {', '.join(sorted(wanted - set(files)))}; {_WHERE}")
    return files
