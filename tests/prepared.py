"""What ``tfds build mnist --file_format=array_record`` leaves, without TensorFlow."""

import io

import tensorflow_datasets as tfds

from pictures import encoded


def prepare(folder, splits, shape=(28, 28, 1), shard=16, label=lambda k: k % 10):
    """Image sets by split, arrays or the bytes of files, labels in turn unless `label` says which
    one the k-th has; the set's own folder.
    """
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
        module_name="tests",
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(
        info, max_examples_per_shard=shard, file_format="array_record"
    )
    home.mkdir(parents=True)
    writer.initialize_splits(list(splits))
    for split, images in splits.items():
        files = [image if isinstance(image, bytes) else encoded(image[..., 0]) for image in images]
        writer.add_examples(
            {split: [{"image": io.BytesIO(f), "label": label(k)} for k, f in enumerate(files)]}
        )
    writer.close_all()
    return home
