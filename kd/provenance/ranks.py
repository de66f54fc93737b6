"""p-values from ranks, exact in finite samples, and what they need."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from kd.errors import KdError


def rank_p(score: float, null: Float[np.ndarray, " m"]) -> float:
    """The share of models, the suspect among them, that score at least as high as the suspect.

    ``p = (1 + #{i: null_i >= score}) / (1 + m)``, one of ``1/(m+1), 2/(m+1), ..., 1``. Where the
    suspect is exchangeable with the controls ``P(p <= a) <= a`` for every a, and without ties p is
    uniform on these values: no model of the scores, no large sample.

    Source: Davison & Hinkley (1997), "Bootstrap methods and their application", section 4.2, Monte
    Carlo tests; Phipson & Smyth (2010), "Permutation p-values should never be zero".
    """
    return (1 + int(np.count_nonzero(np.asarray(null) >= score))) / (1 + len(null))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several hypotheses, adjusted so that the chance of one false rejection or more
    is at most the level.

    With ``p_(1) <= ... <= p_(k)`` the adjusted value of the j-th is
    ``max_{i <= j} min(1, (k - i + 1) p_(i))``. It needs no independence of the hypotheses.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def needed(level: float, teachers: int = 1) -> int:
    """The fewest controls with which the smallest p-value of so many teachers, adjusted, reaches
    `level`: ``teachers / (m + 1) <= level``.
    """
    return math.ceil(teachers / level - 1e-9) - 1


def check_level(level: float) -> None:
    """Raise a `KdError` unless `level` is a share of false accusations."""
    if not isinstance(level, (int, float)) or not 0 < level < 1:
        raise KdError(
            f"the level is the share of independent models that may be accused, between 0 and 1, "
            f"got {level!r}; e.g. 0.01"
        )


def check_enough(level: float, controls: int, teachers: int = 1, *, split: bool = False) -> None:
    """Raise a `KdError` where no p-value could reach `level`, whatever the suspect answers.

    With `split` half of the controls choose the statistic, and the other half ranks.
    """
    check_level(level)
    wanted = needed(level, teachers) * (2 if split else 1)
    if controls >= wanted and controls:
        return
    why = [f"{teachers} teachers"] * (teachers > 1) + ["several statistics"] * split
    beside = f" with {' and '.join(why)}" if why else ""
    raise KdError(
        f"a level of {level:g}{beside} takes {max(wanted, 1):,} controls or more, and there are "
        f"{controls:,}; train more (--train_controls={max(wanted, 1)}), or raise --level"
    )
