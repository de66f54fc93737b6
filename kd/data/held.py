"""A stream and a data set in memory are each other; what was decoded once is kept on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import math
import os
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from kd.data.dataset import Dataset, arrays
from kd.data.images.crops import Crop
from kd.data.stream import Stream
from kd.data.windows import Windows
from kd.errors import KdError
from kd.system import kept
from kd.system.memory import check_fits

_FORM = 1  # another one when kd decodes or resizes the same images to other bytes
_BLOCK = 256  # examples that are read together, at most
_LITTLE = 2**30  # bytes of decoded examples: a minute or two of decoding, once


def in_memory(stream: Stream) -> Dataset:
    """The examples of a stream as arrays, seen as evaluation sees them.

    Where its source names its files, what was decoded once is kept on disk and taken from there as
    long as they are the same: see `kd.system.kept`.

    Raises:
      KdError: as `Stream.read` does, or they are more than memory holds.
    """
    stored = kept.remembered("data", _key(stream), lambda: _decoded(stream))
    data = arrays(
        stored["images"],
        stored.get("labels"),
        num_classes=stream.num_classes,
        scale=stream.scale,
        class_names=stream.class_names,
        ids=stream.ids,
        positions=stream.positions,
        weights=stream.weights,
    )
    return dataclasses.replace(data, named=stream.names, tokens=stream.tokens)


def decoded(stream: Stream) -> Stream:
    """The same stream, all of a source, read from what was decoded once and is kept on disk: see
    `kd.system.kept`.

    What was not decoded before is decoded now where it is little and of one size, and kept. Where
    nothing is kept, or an example cannot be read, the stream stays as it is, and says so when that
    example's turn comes.
    """
    plain = dataclasses.replace(stream, size=None, crop="none", flip=False)
    key = _key(plain)
    stored = None if key is None else kept.read("data", key)
    if stored is None and key is not None and _one_size(stream):
        with contextlib.suppress(KdError):
            stored = _kept_if_little(plain, key)
    if stored is None:
        return stream
    held = Dataset(stored["images"], stored.get("labels"), stream.num_classes, stream.scale)
    held = dataclasses.replace(held, named=plain.names)
    return dataclasses.replace(stream, source=Held(held, _files(stream)))


def _one_size(stream: Stream) -> bool:
    """Whether all images have one size, or are refused."""
    known = stream.record_shape is not None and None not in stream.record_shape
    return known or stream.size is None


def _kept_if_little(stream: Stream, key: str) -> Mapping[str, np.ndarray] | None:
    bytes_decoded = len(stream) * math.prod(stream.shape) * stream.dtype.itemsize
    if bytes_decoded > _LITTLE or kept.folder("data") is None:
        return None
    kept.write("data", key, _decoded(stream))
    return kept.read("data", key)


def _key(stream: Stream) -> str | None:
    """Who the decoded examples are; None where nobody can say."""
    how = [_FORM, importlib.metadata.version("pillow")]
    return kept.key_of_files(_files(stream), stream.fingerprint, how)


def _files(stream: Stream) -> Sequence[str | os.PathLike[str]]:
    return getattr(stream.source, "files", ())


def _decoded(stream: Stream) -> dict[str, np.ndarray]:
    n, shape = len(stream), stream.shape
    check_fits(
        n * math.prod(shape) * stream.dtype.itemsize,
        f"holding {n:,} examples of {stream.dtype}{list(shape)}",
        "set data.stream=true to read them as they are needed",
    )
    images = np.empty((n, *shape), stream.dtype)
    labels = np.empty((n, *stream.positions), np.int32) if stream.labelled else None

    workers = os.cpu_count() or 1
    size = min(_BLOCK, max(1, n // (4 * workers)))

    def read(start: int) -> None:
        block = slice(start, min(start + size, n))
        part = None if labels is None else labels[block]
        stream.read_into(images[block], part, range(n)[block])

    pool = futures.ThreadPoolExecutor(workers)
    try:
        for done in [pool.submit(read, start) for start in range(0, n, size)]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return {"images": images} if labels is None else {"images": images, "labels": labels}


def as_stream(
    data: Dataset, *, size: int | None = None, crop: Crop = "none", flip: bool = False
) -> Stream:
    """A data set in memory, read example by example: any shape, the same type, scale and, as it is,
    fingerprint.

    Raises:
      KdError: a crop, flip or size of what is no image.
    """
    if data.targets != "classes":
        raise KdError(
            f"a stream's examples have classes as labels, and these are {data.targets}; leave "
            "data.stream and data.image_size out for this data"
        )
    shape, windowed = data.first.shape[1:], isinstance(data.inputs, Windows)
    images = len(shape) in (2, 3) and not windowed and not data.ids
    if (size is not None or crop == "random") and not (images and data.inputs.dtype == np.uint8):
        raise KdError(
            "data.image_size and data.crop need images of bytes, got "
            f"{data.inputs.dtype}{list(shape)}; leave them out"
        )
    if flip and not images:
        raise KdError(
            f"data.flip needs images [h w c], got inputs of shape {list(shape)}; set data.flip to "
            "False"
        )
    shown = data.teacher_inputs
    if shown is not None and shown.unit != data.unit:
        raise KdError("a stream's teacher_inputs have the scale of its inputs; store both alike")
    labelled, told = data.labels is not None, tuple(shape)
    view: dict[str, Any] = {"size": size, "crop": crop, "flip": flip}
    identity, dtype = data.fingerprint, data.inputs.dtype
    return Stream(
        Held(data),
        data.num_classes,
        identity,
        data.scale,
        labelled=labelled,
        record_shape=told,
        dtype=dtype,
        class_names=data.class_names,
        known=data.seen,
        ids=data.ids,
        positions=data.positions,
        weights=data.weights,
        partly_labelled=data.partly_labelled,
        teacher_inputs=None if shown is None else as_stream(shown, crop=crop, flip=flip),
        tokens=data.tokens,
        **view,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """A data set in memory, or mapped into it, as the source of a stream; `files` are those that it
    was decoded from.
    """

    data: Dataset
    files: Sequence[str | os.PathLike[str]] = ()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        data = self.data
        image = data.inputs[index]
        return (
            {"image": image}
            if data.labels is None
            else {"image": image, "label": data.labels[index]}
        )

    def block(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        labels = None if self.data.labels is None else self.data.labels[rows]
        return self.data.inputs[rows], labels

    def labels(self, rows: np.ndarray) -> np.ndarray:
        assert self.data.labels is not None
        return self.data.labels[rows]

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """How many tokens these have."""
        return self.data.token_lengths[rows]

    def names(self, rows: np.ndarray) -> np.ndarray:
        """What these examples are called."""
        return self.data.names[rows]
