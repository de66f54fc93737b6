"""A trained model as a folder of Hugging Face: its names, its config, its preprocessing."""

from __future__ import annotations

import pathlib

import safetensors.numpy

from kd.core.types import Model, PyTree
from kd.data.seen import Seen
from kd.errors import KdError
from kd.exporting.files import in_the_way
from kd.models.weights import Pretrained, to_folder


def write_hugging_face(
    folder: pathlib.Path,
    model: Model,
    params: PyTree,
    extra: PyTree,
    seen: Seen,
    class_names: tuple[str, ...] | None,
    *,
    overwrite: bool = False,
) -> None:
    """Write what `kd.models.weights.from_folder` and transformers read.

    Raises:
      KdError: a network that Hugging Face does not have, inputs that are no images of bytes, files
        of these names in the folder while `overwrite` is off, a folder that cannot be written.
    """
    if len(seen.shape) != 3 or seen.dtype != "uint8":
        raise KdError(
            f"Hugging Face's networks are shown images of bytes [h w c], and this one saw "
            f"{seen.dtype}{list(seen.shape)}; leave out format=hf"
        )
    height, width, channels = seen.shape
    inputs = (height, width, channels)
    told = to_folder(Pretrained(model, params, extra, inputs, seen.scale, class_names))
    in_the_way(folder, told, overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in told.items():
            if isinstance(content, str):
                (folder / name).write_text(content, "utf-8")
            else:
                packed = safetensors.numpy.save(content, {"format": "pt"})
                (folder / name).write_bytes(packed)
    except OSError as error:
        raise KdError(f"cannot write {folder}: {error.strerror}; choose another folder") from error
