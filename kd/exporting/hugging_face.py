"""A trained model as a folder of Hugging Face: its names, its config, its preprocessing or the
tokenizer that it was trained with.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from kd.core.types import Model, PyTree
from kd.data.seen import Seen
from kd.errors import KdError
from kd.exporting.files import in_the_way
from kd.exporting.shards import LARGEST, write_shards
from kd.exporting.tokenizer import TOKENIZER, recorded_folder, tokenizer_files
from kd.lineage import Lineage
from kd.models.weights import Pretrained, to_folder
from kd.models.weights.files import INDEX, WEIGHTS


def write_hugging_face(
    folder: pathlib.Path,
    model: Model,
    params: PyTree,
    extra: PyTree,
    seen: Seen,
    class_names: tuple[str, ...] | None,
    *,
    overwrite: bool = False,
    lineage: Lineage | None = None,
    tokenizer: pathlib.Path | None = None,
    largest: int = LARGEST,
) -> None:
    """Write what `kd.models.weights.from_folder` and transformers read, in files of at most
    `largest` bytes. Of a model of texts also the tokenizer's files, those of the folder
    `tokenizer`, else those of the folder that by its `lineage` its first weights or its teacher
    came from, where there are some.

    Raises:
      KdError: a network that Hugging Face does not have, inputs that are neither images of bytes
        nor tokens, files of these names in the folder while `overwrite` is off, a folder that
        cannot be written.
    """
    told = to_folder(_pretrained(model, params, extra, seen, class_names))
    arrays = told.pop(WEIGHTS)
    source = tokenizer or recorded_folder(lineage)
    if seen.ids and source is not None:
        told |= tokenizer_files(source)
    there = in_the_way(folder, (*told, *TOKENIZER, WEIGHTS, INDEX), overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in there:
            (folder / name).unlink()
        write_shards(folder, arrays, largest)
        _write(folder, told)
    except OSError as error:
        raise KdError(f"cannot write {folder}: {error.strerror}; choose another folder") from error


def _write(folder: pathlib.Path, told: Mapping[str, Any]) -> None:
    for name, content in told.items():
        if isinstance(content, str):
            (folder / name).write_text(content, "utf-8")
        else:
            (folder / name).write_bytes(content)


def _pretrained(
    model: Model, params: PyTree, extra: PyTree, seen: Seen, class_names: tuple[str, ...] | None
) -> Pretrained:
    if seen.ids:
        return Pretrained(model, params, extra, seen.shape, 1.0, class_names, ids=True)
    if len(seen.shape) != 3 or seen.dtype != "uint8":
        raise KdError(
            "Hugging Face's networks are shown images of bytes [h w c] or tokens, and this one saw "
            f"{seen.dtype}{list(seen.shape)}; leave out format=hf"
        )
    return Pretrained(model, params, extra, seen.shape, seen.scale, class_names)
