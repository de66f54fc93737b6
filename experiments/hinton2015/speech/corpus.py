"""From audio to features in a row, and from aligned features to windowed data sets."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.data.audio import Utterance, load_speech
from kd.errors import KdError
from kd.runs import Done

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Split:
    """Utterances in a row. Shapes: ``features[frames d]``, ``lengths[u]`` frames, ``words[u]`` ids,
    ``speakers[u]``.
    """

    features: np.ndarray = dataclasses.field(repr=False)
    lengths: np.ndarray = dataclasses.field(repr=False)
    words: np.ndarray = dataclasses.field(repr=False)
    speakers: np.ndarray = dataclasses.field(repr=False)


def features(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    source: str,
    fingerprint: str,
    bins: int,
    utterances: int | None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Stage: audio into ``features.npz``, normalised, utterances of each split in a fixed random
    order.

    In that order a slice such as ``train[:3%]`` is a random choice of utterances, and `utterances`,
    where given, keeps that many of each split. `fingerprint` says which audio; it is part of the
    stage's identity.

    Raises:
      KdError: what `load_speech` raises.
    """
    del done, fingerprint
    found = load_speech(source, data_dir, bins=bins)
    words = sorted({utterance.word for split in found.values() for utterance in split})
    splits = _normalised(
        {name: _in_a_row(_shuffled(found[name])[:utterances], words) for name in SPLITS}
    )
    arrays = {
        f"{name}_{key}": value
        for name, split in splits.items()
        for key, value in vars(split).items()
    }
    np.savez(folder / "features.npz", words=np.array(words), **arrays)
    return {"words": words, "splits": {name: _sizes(split) for name, split in splits.items()}}


def read(stage: Done) -> dict[str, Split]:
    """What `features` wrote."""
    keys = [field.name for field in dataclasses.fields(Split)]
    with np.load(stage.workdir / "features.npz") as stored:
        return {name: Split(**{key: stored[f"{name}_{key}"] for key in keys}) for name in SPLITS}


def padded(frames: np.ndarray, lengths: np.ndarray, fill: float = 0) -> np.ndarray:
    """Utterances in a row ``[frames ...]`` as a table ``[u t ...]``, `fill` behind the end of
    each.
    """
    table = np.full((len(lengths), lengths.max(), *frames.shape[1:]), fill, frames.dtype)
    table[real(lengths)] = frames
    return table


def real(lengths: np.ndarray) -> np.ndarray:
    """Which cells of a padded table are frames: ``[u t]`` bool; a table indexed with it is in a row
    again.
    """
    return np.arange(lengths.max())[None, :] < lengths[:, None]


def write_frames(
    path: pathlib.Path,
    splits: Mapping[str, Split],
    labels: Mapping[str, np.ndarray],
    classes: int,
    window: int,
    target: int,
) -> None:
    """A windowed .npz data set: `window` frames predict the label of the one at place `target`,
    counted from 1.

    The first and last frame of an utterance are repeated where a window reaches beyond it. Frames
    are stored as float16, which keeps three digits of a normalised feature. Shapes:
    ``labels[split][frames]``.
    """
    arrays: dict[str, Any] = {"num_classes": classes, "window": window}
    for name, split in splits.items():
        inside, offsets = _context(split.lengths, target - 1, window - target)
        arrays[f"{name}_inputs"] = split.features[inside].astype(np.float16)
        arrays[f"{name}_starts"] = offsets
        arrays[f"{name}_labels"] = labels[name].astype(np.int32)
    np.savez(path, **arrays)


def _context(lengths: np.ndarray, before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Which frame stands at each place when every utterance is padded by its own ends, and where
    each window starts.
    """
    ends = np.cumsum(lengths)
    padding = before + after
    wide = np.repeat(ends - lengths, lengths + padding), np.repeat(ends - 1, lengths + padding)
    place = np.arange(len(wide[0])) - np.repeat(
        np.arange(len(lengths)) * padding + before, lengths + padding
    )
    starts = np.arange(ends[-1]) + np.repeat(np.arange(len(lengths)) * padding, lengths)
    return np.clip(place, *wide), starts.astype(np.int32)


def _shuffled(utterances: Sequence[Utterance]) -> list[Utterance]:
    order = np.random.Generator(np.random.Philox(0)).permutation(len(utterances))
    return [utterances[i] for i in order]


def _in_a_row(utterances: Sequence[Utterance], words: Sequence[str]) -> Split:
    return Split(
        np.concatenate([one.features for one in utterances]),
        np.array([len(one.features) for one in utterances], np.int32),
        np.array([words.index(one.word) for one in utterances], np.int32),
        np.array([one.speaker for one in utterances]),
    )


def _normalised(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Every dimension to mean 0 and variance 1 over all frames of the training split, and by its
    numbers elsewhere.
    """
    mean, sd = splits["train"].features.mean(axis=0), splits["train"].features.std(axis=0)
    if not np.all(sd > 0):
        raise KdError(
            "a feature is the same in every frame of the training clips: they hold no sound; "
            "check the audio"
        )
    return {
        name: dataclasses.replace(split, features=((split.features - mean) / sd).astype(np.float32))
        for name, split in splits.items()
    }


def _sizes(split: Split) -> dict[str, int]:
    speakers = len({*split.speakers.tolist()})
    return {
        "utterances": len(split.lengths),
        "frames": int(split.lengths.sum()),
        "speakers": speakers,
    }
