"""What both sides compute: sizes, data, first parameters and the order of examples, all of it from
NumPy.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

WIDTHS = (784, 800, 800, 10)
MEMBERS = 5
PRODUCTS = 10  # of matrices, that are timed at once for the peak
TEMPERATURE, HARD_WEIGHT = 20.0, 0.5
LEARNING_RATE, MOMENTUM = 0.01, 0.9
SCALE = 1 / 255  # images stay bytes in memory and become float32 in the batch
CHECKED_STEPS = 5  # enough for the momentum to show in the losses


@dataclasses.dataclass(frozen=True)
class Problem:
    """Noise of the size of MNIST: `examples` images, and `steps` steps in what is timed; and the
    sizes of the rest.

    `vit` and `small_vit` are variants of kd's vit on images of `pixels`, run `vit_steps` steps at a
    time; `records` JPEGs of that size are decoded, and a state of `floats` float32 is saved. With
    `teacher`, a vit variant, the case "distil" has a live teacher; it computes in `dtype`.
    """

    examples: int
    steps: int
    vit: str = "S/16"
    small_vit: str = "Ti/16"
    pixels: int = 224
    vit_steps: int = 1
    records: int = 512
    floats: int = 66_000_000  # a ViT-S/16 and its Adam moments
    teacher: str = "B/16"
    dtype: str = "float32"

    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images ``[n 28 28 1]`` uint8, labels ``[n]``, and the cached logits of a teacher
        ``[n 10]``.
        """
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(self.examples, 28, 28, 1), dtype=np.uint8)
        labels = rng.integers(WIDTHS[-1], size=self.examples)
        return images, labels, rng.normal(size=(self.examples, WIDTHS[-1])).astype(np.float32)

    def checked_rows(self, batch: int) -> np.ndarray:
        """A batch whose hidden units all start away from zero, once for each checked step,
        ``[steps batch]``.

        Where a unit lies on the kink of its ReLU, the last bit decides whether it has a gradient,
        and two correct programs may differ by that.
        """
        x = self.data()[0][: 4 * batch].reshape(-1, WIDTHS[0]) * np.float32(SCALE)
        margin = np.full(len(x), np.inf)
        for weight, bias in first_params()[:-1]:
            x = x @ weight + bias
            margin = np.minimum(margin, np.abs(x).min(axis=1))
            x = np.maximum(x, 0)
        return np.tile(np.argsort(-margin)[:batch].astype(np.int32), (CHECKED_STEPS, 1))

    def rows(self, steps: int, *batch: int) -> np.ndarray:
        """The examples of each step, ``[steps *batch]``."""
        return np.random.default_rng(1).integers(
            self.examples, size=(steps, *batch), dtype=np.int32
        )


def first_params(seed: int = 2) -> list[tuple[np.ndarray, np.ndarray]]:
    """He-normal weights ``[inputs outputs]`` and zero biases, layer by layer."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(scale=np.sqrt(2 / n), size=(n, m)).astype(np.float32), np.zeros(m, np.float32))
        for n, m in itertools.pairwise(WIDTHS)
    ]


def flat(params: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.concatenate([array.ravel() for pair in params for array in pair])
