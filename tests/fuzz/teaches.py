"""A function that teaches the digits, as a user would write one; it answers to any shape."""

import functools

import numpy as np


@functools.cache
def _centres():
    import kd

    data = kd.load("digits", "train[:300]")
    pixels = data.inputs.reshape(len(data), -1) / 16
    return np.stack([pixels[data.labels == k].mean(axis=0) for k in range(10)])


def answer(inputs):
    """Nearer centres are likelier: ``[b ...] -> [b 10]``."""
    centres, pixels = _centres(), np.zeros((len(inputs), 64))
    shown = inputs.reshape(len(inputs), -1)[:, :64]
    pixels[:, : shown.shape[1]] = shown
    return -np.square(pixels[:, None] - centres).sum(axis=-1)
