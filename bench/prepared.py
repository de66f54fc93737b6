"""What ``tfds build mnist --file_format=array_record`` leaves, without TensorFlow."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image


def prepare(
    folder: pathlib.Path,
    splits: Mapping[str, Iterable[np.ndarray | bytes]],
    shape: tuple[int, int, int] = (28, 28, 1),
    shard: int = 16,
) -> pathlib.Path:
    """Image sets by split, grey arrays ``[h w 1]`` or the bytes of PNGs, labels in turn; `shard`
    examples a file. Returns the set's own folder.
    """
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )
    home = folder / "mnist" / "3.0.1"
    identity = tfds.core.DatasetIdentity(
        name="mnist",
        version=tfds.core.Version(home.name),
        data_dir=str(home),
        module_name="bench.prepared",
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(
        info, max_examples_per_shard=shard, file_format="array_record"
    )
    home.mkdir(parents=True)
    writer.initialize_splits(list(splits))
    for split, images in splits.items():
        examples = (
            {"image": io.BytesIO(_encoded(image)), "label": number % 10}
            for number, image in enumerate(images)
        )
        writer.add_examples({split: examples})
    writer.close_all()
    return home


def _encoded(image: np.ndarray | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    packed = io.BytesIO()
    Image.fromarray(image[..., 0]).save(packed, "PNG")
    return packed.getvalue()
