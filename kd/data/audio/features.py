"""Utterances, and their log-mel filterbank features."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.errors import KdError

_WINDOW_MS, _SHIFT_MS = 25, 10


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One clip: a word, who said it, and its features ``[frames bins]``.

    `speaker` is "" where nobody knows.
    """

    name: str
    word: str
    speaker: str
    features: np.ndarray = dataclasses.field(repr=False)


Splits = Mapping[str, Sequence[Utterance]]
"""``train``, ``validation`` and ``test``; each in the order of the names."""


def log_mel(samples: np.ndarray, rate: int, bins: int = 40, name: str = "the clip") -> np.ndarray:
    """Log-mel filterbank features as Kaldi computes them: 25 ms windows every 10 ms, no dither, so
    nothing is random.

    Shapes: ``samples[n]`` float in [-1, 1] -> ``[frames bins]`` float32, where the last window ends
    inside the clip.

    Raises:
      KdError: a clip shorter than one window (its `name` is shown), or more bins than the sample
        rate resolves.
    """
    import kaldi_native_fbank

    if len(samples) * 1000 < rate * _WINDOW_MS:
        raise KdError(
            f"{name} lasts {1000 * len(samples) / rate:.0f} ms, less than one {_WINDOW_MS} ms "
            "window; remove it"
        )
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.frame_length_ms, options.frame_opts.frame_shift_ms = _WINDOW_MS, _SHIFT_MS
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = bins
    try:
        bank: Any = kaldi_native_fbank.OnlineFbank(options)
    except ValueError as error:
        raise KdError(
            f"{bins} bins cannot be had at {rate} samples a second: {error} choose another number"
        ) from error
    bank.accept_waveform(rate, (samples * 2**15).tolist())  # Kaldi's scale: 16-bit integers
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])
