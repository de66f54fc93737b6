"""TFDS image sets in array_record form, read without TensorFlow.

The only place that imports TFDS.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.data.dataset import Dataset
from kd.data.held import decoded, in_memory
from kd.data.images.crops import Crop
from kd.data.slices import parse_split
from kd.data.stream import Stream
from kd.data.tfds_files import check_files, check_name, home_of
from kd.errors import KdError, cause, reading, unknown


def load_tfds(dataset: str, split: str, data_dir: str | None) -> Dataset:
    """Images and labels of a prepared TFDS image classification set, as bytes in memory.

    Looked up as TFDS does: `data_dir`, else ``TFDS_DATA_DIR``, else ``~/tensorflow_datasets``. A
    set that is not there is prepared if TensorFlow is installed (extra ``prepare``).

    Raises:
      KdError: not prepared and no TensorFlow (the message says which command to type), no such data
        set or split, no image and label, damaged or missing files, an image that cannot be read,
        images of several sizes, or more than memory holds.
    """
    return in_memory(_whole(dataset, parse_split(split)[0], data_dir).take(split))


def stream_tfds(
    dataset: str,
    split: str,
    data_dir: str | None = None,
    *,
    size: int | None = None,
    crop: Crop = "none",
    flip: bool = False,
) -> Stream:
    """A prepared TFDS image classification set, read example by example; `split` may be a slice,
    ``train[:3%]``.

    Its fingerprint comes from what TFDS noted when it was prepared (name, version, config, examples
    and bytes of every shard of the split); the examples are not read for it. See `load_tfds` for
    where it is looked for.

    Raises:
      KdError: as `load_tfds`, but images may have several sizes if `size` is given.
    """
    whole = _whole(dataset, parse_split(split)[0], data_dir)
    return decoded(dataclasses.replace(whole, size=size, crop=crop, flip=flip)).take(split)


def _whole(dataset: str, name: str, data_dir: str | None) -> Stream:
    """Every example of a split as it is."""
    builder = _image_set(dataset, name, data_dir)
    image, label = builder.info.features["image"], builder.info.features["label"]
    with reading(f"{name} of {dataset} in {builder.data_dir}", "prepare the data set again"):
        _check_shards(builder.info.splits[name])
        records = _Records(builder, name)
    return Stream(
        records,
        label.num_classes,
        _noted(builder.info, name),
        1 / 255,
        record_shape=tuple(image.shape),
        dtype=np.dtype(image.np_dtype),
    )


class _Records:
    """Random access to a split. Any number of threads may read: array_record has one thread-safe
    reader per shard.
    """

    def __init__(self, builder: Any, split: str) -> None:
        from tensorflow_datasets import decode

        self._decoded = builder.as_data_source(split=split)
        self._bytes = builder.as_data_source(split=split, decoders={"image": decode.SkipDecoding()})
        self.files = tuple(str(path) for path in builder.info.splits[split].filepaths)

    def __len__(self) -> int:
        return len(self._decoded)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._decoded[index]

    def __getitems__(self, rows: Sequence[int]) -> Sequence[Mapping[str, Any]]:
        return self._decoded.__getitems__(rows)

    def labels(self, rows: np.ndarray) -> np.ndarray:
        blocks = (rows[start : start + 1024].tolist() for start in range(0, len(rows), 1024))
        return np.asarray(
            [record["label"] for block in blocks for record in self._bytes.__getitems__(block)]
        )


def _check_shards(split: Any) -> None:
    """What was noted of each shard is what it holds; fewer would be lost without a word."""
    from array_record.python.array_record_module import ArrayRecordReader

    for path, noted in zip(split.filepaths, split.shard_lengths, strict=True):
        if "://" in str(path):  # opening each of them would take minutes
            continue
        if not os.path.exists(path):
            raise KdError(f"no {path}, a part of the data set; prepare it again")
        held = ArrayRecordReader(str(path)).num_records()
        if held != noted:
            raise KdError(
                f"{path} holds {held} examples and dataset_info.json notes {noted}; prepare the "
                "data set again"
            )


def _noted(info: Any, split: str) -> str:
    part = info.splits[split]
    noted = [
        info.name,
        str(info.version),
        info.config_name,
        split,
        list(part.shard_lengths),
        int(part.num_bytes),
    ]
    features = {
        key: [list(info.features[key].shape), str(info.features[key].np_dtype)]
        for key in ("image", "label")
    }
    return hashlib.sha256(
        repr([noted, features, info.features["label"].num_classes]).encode()
    ).hexdigest()[:16]


def _image_set(dataset: str, split: str, data_dir: str | None) -> Any:
    logging.getLogger("absl").setLevel(logging.ERROR)  # its advice on OpenCV is of no use here
    home = home_of(dataset, data_dir)
    builder = _builder(dataset, home)
    if split not in builder.info.splits:
        raise unknown(f"split of {dataset}:", split, builder.info.splits)
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise KdError(
            f"{dataset} has features {sorted(features)}; an image set needs 'image' and 'label'"
        )
    if not hasattr(features["label"], "num_classes"):
        raise KdError(f"the labels of {dataset} are no classes; give a classification set")
    return builder


def _builder(dataset: str, home: str) -> Any:
    check_name(dataset)
    check_files(dataset, home)
    import tensorflow_datasets
    from tensorflow_datasets.core import registered

    try:
        builder: Any = tensorflow_datasets.builder(dataset, data_dir=home)
    except registered.DatasetNotFoundError:
        # the others are asked of the network
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        raise unknown("TFDS data set", dataset, known) from None
    except Exception as error:  # what it noted is damaged
        raise KdError(
            f"cannot read data set '{dataset}' in {home}: {cause(error)}; prepare it again"
        ) from error
    prepared = builder.is_prepared()
    if prepared and builder.info.file_format.value == "array_record":
        return builder
    if importlib.util.find_spec("tensorflow") is None:
        state = (
            "is prepared as " + builder.info.file_format.value if prepared else "is not prepared"
        )
        raise KdError(
            f"data set '{dataset}' {state} in {home}; point TFDS_DATA_DIR or --data_dir at a "
            "folder that has it in "
            "array_record form, or prepare it: pip install tensorflow && "
            f"tfds build {dataset} --file_format=array_record --data_dir={shlex.quote(home)}"
        )
    builder = tensorflow_datasets.builder(dataset, data_dir=home, file_format="array_record")
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise KdError(f"cannot prepare '{dataset}' in {home}: {cause(error)}") from error
    return builder
