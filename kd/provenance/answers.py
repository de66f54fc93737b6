"""What a model said of the probe set: labels, and log-probabilities where they are known."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from kd.errors import KdError

_LOWEST = -30.0  # a probability of zero in a table is taken for exp(-30)


@dataclasses.dataclass(frozen=True)
class Answers:
    """One model's answers to n queries: `labels` ``[n]``, and `log_probs` ``[n v]`` in float32, or
    None where labels are all that is known.
    """

    labels: Int[np.ndarray, " n"]
    log_probs: Float[np.ndarray, "n v"] | None = None

    @property
    def digest(self) -> str:
        """Hash of all answers."""
        total = hashlib.sha256(np.ascontiguousarray(self.labels, np.int64).tobytes())
        if self.log_probs is not None:
            total.update(np.ascontiguousarray(self.log_probs).tobytes())
        return total.hexdigest()[:16]

    def of(self, rows: np.ndarray) -> Answers:
        """Those to some of the queries."""
        known = self.log_probs
        return Answers(self.labels[rows], None if known is None else known[rows])


def answers_of(values: Any, who: str) -> Answers:
    """Logits or log-probabilities ``[n v]``, or labels ``[n]`` as whole numbers, as answers.

    Raises:
      KdError: any other shape or type, or numbers that are not finite.
    """
    if isinstance(values, Answers):
        return values
    array = np.asarray(values)
    if array.ndim == 1 and array.dtype.kind in "iu":
        return Answers(array.astype(np.int64))
    if array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
        raise KdError(
            f"{who} must answer with logits [n v] or with labels [n] of whole numbers, got "
            f"{array.dtype}{list(array.shape)}"
        )
    wide = array.astype(np.float32)
    if np.isnan(wide).any() or not np.isfinite(wide.max(axis=-1)).all():
        raise KdError(f"the answers of {who} are not finite; look at that model")
    wide = wide - wide.max(axis=-1, keepdims=True)
    wide = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True, dtype=np.float32))
    return Answers(np.argmax(array, axis=-1), np.maximum(wide, np.float32(_LOWEST)))


def mixed(independent: Answers, teacher: Answers, rows: np.ndarray) -> Answers:
    """A model that answers as the teacher does where `rows` ``[n]`` is true, and as an independent
    one elsewhere.
    """
    labels = np.where(rows, teacher.labels, independent.labels)
    if independent.log_probs is None or teacher.log_probs is None:
        return Answers(labels)
    return Answers(labels, np.where(rows[:, None], teacher.log_probs, independent.log_probs))
