"""Stages that say which state every frame is in: a flat start, then Viterbi with the network
trained on it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.hinton2015.speech import hmm
from experiments.hinton2015.speech.corpus import SPLITS, Split, padded, read, real, write_frames
from kd.data import load
from kd.errors import KdError
from kd.runs import Done


def flat(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    per_word: int,
    silence: int,
    window: int,
    target: int,
) -> dict[str, Any]:
    """Stage: the first alignment, by energy alone. Writes ``frames.npz`` and ``hmm.npz``.

    Raises:
      KdError: a clip with fewer frames than a word has states.
    """
    splits = read(done["features"])
    topology = hmm.Topology(len(done["features"].evaluation["words"]), per_word, silence)
    states = {name: _flat(topology, split) for name, split in splits.items()}
    return _write(folder, topology, splits, states, window, target)


def realign(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    before: str,
    model: str,
    window: int,
    target: int,
) -> dict[str, Any]:
    """Stage: the alignment by the network `model`, trained on the alignment `before`.

    Writes the same files.
    """
    splits = read(done["features"])
    old = Alignment(done[before])
    network = done[model].trained()
    states, scores = {}, {}
    for name, split in splits.items():
        scaled = old.scaled(network.logits(old.frames(name)), split)
        states[name], scores[name] = hmm.align(
            old.topology, old.stay, scaled, split.lengths, split.words
        )
        states[name] = np.where(real(split.lengths), states[name], -1)
    outcome = _write(folder, old.topology, splits, states, window, target)
    changed = {
        name: float(np.mean(states[name][real(splits[name].lengths)] != old.frames(name).labels))
        for name in SPLITS
    }
    per_frame = {name: float(scores[name].sum() / splits[name].lengths.sum()) for name in SPLITS}
    return {**outcome, "changed": changed, "score_per_frame": per_frame}


class Alignment:
    """A finished alignment: its frames as data sets, and the numbers of its HMM."""

    def __init__(self, stage: Done) -> None:
        self._folder = str(stage.workdir)
        with np.load(stage.workdir / "hmm.npz") as stored:
            self.topology = hmm.Topology(
                *(int(stored[key]) for key in ("words", "per_word", "silence"))
            )
            self.stay, self.log_priors = stored["stay"], stored["log_priors"]

    def frames(self, split: str) -> Any:
        """The windowed data set of a split."""
        return load("npz:frames.npz", split, self._folder)

    def scaled(self, logits: np.ndarray, split: Split) -> np.ndarray:
        """Scaled log likelihoods, log posterior - log prior, ``[frames v] -> [u t s]``.

        Source: Bourlard & Morgan (1994), "Connectionist speech recognition".
        """
        top = logits.max(axis=-1, keepdims=True)
        posteriors = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
        likelihoods = posteriors[:, : self.topology.states] - self.log_priors
        return padded(likelihoods.astype(np.float32), split.lengths)


def _flat(topology: hmm.Topology, split: Split) -> np.ndarray:
    if split.lengths.min() < topology.per_word:
        raise KdError(
            f"a clip has {split.lengths.min()} frames and config.speech.per_word asks for "
            f"{topology.per_word} states, "
            "a frame each; lower it, or remove the clip"
        )
    energy = padded(split.features.mean(axis=1), split.lengths)
    return hmm.flat_start(topology, energy, split.lengths, split.words)


def _write(
    folder: pathlib.Path,
    topology: hmm.Topology,
    splits: Mapping[str, Split],
    states: Mapping[str, np.ndarray],
    window: int,
    target: int,
) -> dict[str, Any]:
    labels = {name: states[name][real(split.lengths)] for name, split in splits.items()}
    write_frames(folder / "frames.npz", splits, labels, topology.states, window, target)
    stay, priors = hmm.staying(states["train"], topology), hmm.log_priors(states["train"], topology)
    np.savez(folder / "hmm.npz", **vars(topology), stay=stay, log_priors=priors)
    silence = {
        name: float(np.mean(label >= topology.words * topology.per_word))
        for name, label in labels.items()
    }
    return {"states": topology.states, "silence": silence}
