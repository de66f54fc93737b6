"""Stages that measure: the word penalty on the validation speakers, then what each system gets
wrong.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.hinton2015.speech import hmm
from experiments.hinton2015.speech.align import Alignment
from experiments.hinton2015.speech.corpus import Split, read
from kd.data import Dataset
from kd.evals import word_errors
from kd.runs import Done
from kd.teachers import Trained


def tune(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    alignment: str,
    run: str,
    penalties: Sequence[float],
) -> dict[str, Any]:
    """Stage: the word penalty with the fewest word errors of `run` on the validation speakers."""
    del folder
    aligned, split = Alignment(done[alignment]), read(done["features"])["validation"]
    counts = dict.fromkeys(penalties, 0.0)
    for one in members(done[run].trained()):
        likelihoods = aligned.scaled(one.logits(aligned.frames("validation")), split)
        for penalty in penalties:
            counts[penalty] += float(words_wrong(aligned, likelihoods, split, penalty).sum())
    rates = [
        [penalty, count / len(split.words) / max(_size(done[run]), 1)]
        for penalty, count in counts.items()
    ]
    return {"penalty": min(rates, key=lambda rate: (rate[1], rate[0]))[0], "wer": rates}


def measure(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    alignment: str,
    run: str,
    split: str,
    train: str | None,
    ensemble: bool,
) -> dict[str, Any]:
    """Stage: for every member of `run`, frames and words that it gets wrong in each utterance of
    `split`.

    With `train`, also the frame accuracy on that slice of the training data; with `ensemble`, the
    same of the members' arithmetic mean. Counts are texts, ``"3 0 1 ..."``, an utterance each.
    """
    del folder
    aligned, spoken = Alignment(done[alignment]), read(done["features"])[split]
    frames, penalty = aligned.frames(split), done["tune"].evaluation["penalty"]
    found, total = [], np.full((len(frames), 1), -np.inf, np.float32)
    seen = None if train is None else aligned.frames(train)
    for one in members(done[run].trained()):
        logits = one.logits(frames)
        if ensemble:
            total = np.logaddexp(total, np.asarray(jax.nn.log_softmax(logits)))
        result = system(aligned, logits, frames, spoken, penalty)
        found.append(result if seen is None else {**result, "train_accuracy": accuracy(one, seen)})
    # A sum of logarithms' exponentials: a state that every member rules out has a logarithm too.
    whole = (
        system(aligned, total - np.log(len(found)), frames, spoken, penalty) if ensemble else None
    )
    return {"members": found, "ensemble": whole}


def members(trained: Trained) -> Iterator[Trained]:
    """The models of a population one by one, so that the answers of one fit in memory."""
    if not trained.members:
        yield trained
        return
    for i in range(jax.tree.leaves(trained.params)[0].shape[0]):
        params, extra = jax.tree.map(lambda leaf, i=i: leaf[i], (trained.params, trained.extra))
        yield dataclasses.replace(trained, params=params, extra=extra, members=False)


def system(
    aligned: Alignment, logits: np.ndarray, frames: Dataset, spoken: Split, penalty: float
) -> dict[str, str]:
    """What one system gets wrong in each utterance: frames against the forced alignment, and
    words.
    """
    wrong = logits.argmax(axis=-1) != frames.labels
    ends = np.cumsum(spoken.lengths)
    by_utterance = np.add.reduceat(wrong.astype(int), ends - spoken.lengths)
    words = words_wrong(aligned, aligned.scaled(logits, spoken), spoken, penalty)
    return {"frame_errors": text(by_utterance), "word_errors": text(words)}


def words_wrong(
    aligned: Alignment, likelihoods: np.ndarray, spoken: Split, penalty: float
) -> np.ndarray:
    """Word errors of each utterance, decoded with a free loop of words and silences."""
    heard = hmm.decode(aligned.topology, aligned.stay, likelihoods, spoken.lengths, penalty)
    return np.array(
        [word_errors([int(said)], words) for said, words in zip(spoken.words, heard, strict=True)]
    )


def accuracy(one: Trained, data: Dataset) -> float:
    """Share of the frames whose most probable state is the aligned one."""
    return float(np.mean(one.logits(data).argmax(axis=-1) == data.labels))


def text(counts: np.ndarray) -> str:
    """Whole numbers in one line, which JSON would give a line each."""
    return " ".join(map(str, counts.tolist()))


def _size(run: Done) -> int:
    return len(run.evaluation["members"])
