"""A stream by the name of its source."""

from __future__ import annotations

from kd.data.held import as_stream
from kd.data.images.crops import Crop
from kd.data.images.folder import stream_folder
from kd.data.images.tfds import stream_tfds
from kd.data.sources import load
from kd.data.stream import Stream


def open_stream(
    source: str,
    split: str,
    data_dir: str | None = None,
    *,
    size: int | None = None,
    crop: Crop = "none",
    flip: bool = False,
    scale: float | None = None,
) -> Stream:
    """The examples of `split` of `source`, names as `kd.data.load` knows them, read one by one.

    ``tfds:NAME`` and ``folder:PATH`` are read from disk; what every other source makes lies in
    memory, and is read from there. `scale` is as in `kd.data.load`.

    Raises:
      KdError: as `kd.data.load` and `as_stream` do.
    """
    kind, _, name = source.partition(":")
    if kind == "tfds" and name.count(":") == 0 and name:
        stream = stream_tfds(name, split, data_dir, size=size, crop=crop, flip=flip)
        return stream.scaled(scale)
    if kind == "folder":
        stream = stream_folder(name, split, data_dir, size=size, crop=crop, flip=flip)
        return stream.scaled(scale)
    return as_stream(load(source, split, data_dir, scale), size=size, crop=crop, flip=flip)
