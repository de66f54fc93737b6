"""The files of a tokenizer, which go with a model of texts and are no part of its network."""

from __future__ import annotations

import pathlib

from kd.lineage import Lineage

TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt"),
)
_FOLDER = "hf:"


def tokenizer_files(folder: pathlib.Path) -> dict[str, bytes]:
    """The tokenizer's files of a Hugging Face folder, by name, byte for byte; none where it has
    none.
    """
    return {name: (folder / name).read_bytes() for name in TOKENIZER if (folder / name).is_file()}


def recorded_folder(lineage: Lineage | None) -> pathlib.Path | None:
    """The Hugging Face folder that a run's first weights, or else its teacher, came from; None of a
    run that has none, or whose folder is no longer there.
    """
    if lineage is None:
        return None
    for weights in (lineage.init, *lineage.taught_by):
        if weights is None or not weights.source.startswith(_FOLDER):
            continue
        folder = pathlib.Path(weights.source.removeprefix(_FOLDER))
        if tokenizer_files(folder):
            return folder
    return None
