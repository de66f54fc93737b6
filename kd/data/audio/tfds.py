"""TFDS's ``speech_commands`` in array_record form, read without TensorFlow, which TFDS's own Audio
feature asks for.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

from kd.data.audio.features import Splits, Utterance, log_mel
from kd.data.tfds_files import check_files, check_name, home_of
from kd.errors import KdError, reading


def load_tfds_speech(dataset: str, data_dir: str | None, bins: int) -> Splits:
    """The words of a prepared TFDS set with ``audio`` and ``label``, such as ``speech_commands``;
    it names no speakers.

    Looked up in `data_dir`, else ``TFDS_DATA_DIR``, else ``~/tensorflow_datasets``; the newest
    version is taken. Labels that begin with an underscore (silence, unknown words) are no words and
    are left out.

    Raises:
      KdError: not prepared there in array_record form, no audio in it, a clip that is shorter than
        one window.
    """
    home = pathlib.Path(home_of(dataset, data_dir))
    check_name(dataset)
    check_files(dataset, str(home))
    with reading(f"data set '{dataset}' in {home}", "prepare it again"):
        folder = _prepared(dataset, home)
        words = folder.joinpath("label.labels.txt").read_text("utf-8").split()
        rate = int(_feature(folder, "audio")["audio"]["sampleRate"])
        info = _info(dataset, folder, words)
        splits = ("train", "validation", "test")
        return {split: _read(info, split, words, rate, bins) for split in splits}


def _prepared(dataset: str, home: pathlib.Path) -> pathlib.Path:
    versions = sorted(
        home.joinpath(dataset).glob("*/dataset_info.json"),
        key=lambda path: _version(path.parent.name),
    )
    if not versions or not list(versions[-1].parent.glob("*.array_record-*")):
        raise KdError(
            f"data set '{dataset}' is not prepared in {home} in array_record form; point "
            "TFDS_DATA_DIR or --data_dir "
            f"at a folder that has it, or: pip install tensorflow && tfds build {dataset} "
            "--file_format=array_record"
        )
    if _feature(versions[-1].parent, "audio").keys().isdisjoint({"audio"}):
        raise KdError(
            f"data set '{dataset}' has no feature 'audio'; give one of words, such as "
            "tfds:speech_commands"
        )
    return versions[-1].parent


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".") if part.isdigit())


def _feature(folder: pathlib.Path, name: str) -> dict[str, Any]:
    features = json.loads(folder.joinpath("features.json").read_text("utf-8"))
    return features["featuresDict"]["features"].get(name, {})


def _info(dataset: str, folder: pathlib.Path, words: list[str]) -> Any:
    """TFDS's description of the folder, its audio declared as what lies there: a row of whole
    numbers.
    """
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16),
            "label": tfds.features.ClassLabel(names=words),
        }
    )
    identity = tfds.core.DatasetIdentity(
        name=dataset, version=tfds.core.Version(folder.name), data_dir=str(folder), module_name="kd"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    info.read_from_directory(folder)
    return info


def _read(info: Any, split: str, words: list[str], rate: int, bins: int) -> list[Utterance]:
    from tensorflow_datasets.core.data_sources.array_record import ArrayRecordDataSource

    source: Any = ArrayRecordDataSource(info, split)  # type: ignore[arg-type]  # a name is taken too
    utterances = []
    for i in range(len(source)):
        record = source[i]
        word, name = words[int(record["label"])], f"example {i} of {info.name}, {split},"
        if not word.startswith("_"):
            samples = record["audio"].astype(np.float32) / 2**15
            utterances.append(Utterance(name, word, "", log_mel(samples, rate, bins, name)))
    return utterances
