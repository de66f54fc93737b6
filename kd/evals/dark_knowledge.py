"""What the teacher says beyond its first answer, and how much of that is in the student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from kd.errors import KdError
from kd.evals.classify import (
    Labels,
    Logits,
    check_labels,
    check_pair,
    expected,
    log_softmax,
    one_classifier,
)

Members = Float[np.ndarray, "e n v"]


def top_k(logits: Logits, k: int) -> Int[np.ndarray, "n k"]:
    """The k most probable classes of each example, most probable first; ties go to the lower class.

    Raises:
      KdError: k below 1 or above the number of classes.
    """
    wide = one_classifier(logits).astype(np.float64)
    if not isinstance(k, (int, np.integer)) or not 1 <= k <= wide.shape[-1]:
        raise KdError(f"k must lie between 1 and the {wide.shape[-1]} classes, got {k!r}")
    return np.argsort(-wide, axis=-1, kind="stable")[:, :k]


def agreement_at_k(student: Logits, teacher: Logits, k: int, *, ordered: bool = False) -> float:
    """Share of examples for which both have the same k most probable classes, 0 to 1.

    As sets, or with `ordered` in the same order too. At k = 1 both are `agreement`; sets at k = v
    are always 1. Chance is one in ``v choose k``, or one in ``v! / (v - k)!``.
    """
    check_pair(student, teacher)
    pair = [top_k(logits, k) for logits in (student, teacher)]
    a, b = pair if ordered else [np.sort(classes, axis=-1) for classes in pair]
    return float((a == b).all(axis=-1).mean())


def class_kl(student: Logits, teacher: Logits, labels: Labels) -> Float[np.ndarray, "v v"]:
    """Class-by-class KL, in nats: row c, column j is what class j adds to the divergence on
    examples of class c.

    Formula: ``mean over i with y_i = c of p_ij log(p_ij / q_ij) - p_ij + q_ij``, p the teacher's
    and q the student's distribution at temperature 1. The last two terms vanish in the sum over j:
    a row sums to the mean ``KL(teacher || student)`` of its class, and the rows weighted by the
    classes' shares to `held_out_kl`. They make every entry 0 or more, and 0 only where p and q
    agree. A class without examples has a row of NaN.

    Source: Csiszar (1991), "Why least squares and maximum entropy?" (the I-divergence).
    """
    check_pair(student, teacher)
    check_labels(labels, teacher)
    log_p, log_q = log_softmax(teacher), log_softmax(student)
    possible = log_p > -np.inf  # elsewhere p = 0 and the term is q
    ratio = np.where(possible, log_q, 0.0) - np.where(possible, log_p, 0.0)
    # r: the term is p (exp(r) - 1 - r), which rounding may take below zero
    terms = np.where(
        possible, np.exp(log_p) * np.maximum(np.expm1(ratio) - ratio, 0.0), np.exp(log_q)
    )
    table = np.full((terms.shape[-1], terms.shape[-1]), np.nan)
    for c in np.unique(labels):
        table[c] = terms[np.asarray(labels) == c].mean(axis=0)
    return table


def soft_log_probs(
    logits: Logits | Members,
    temperature: float,
    average: Literal["arithmetic", "geometric"] = "arithmetic",
) -> Logits:
    """Log of the softened distribution in float64: what `Outputs.log_probs` answers in float32.

    Shapes: ``[n v]``, or ``[e n v]`` for an ensemble, whose members' softened distributions are
    averaged by the arithmetic or the geometric mean -> ``[n v]``.
    """
    if average not in ("arithmetic", "geometric"):
        raise KdError(
            "the members' distributions are averaged arithmetic or geometric, got "
            f"average={average!r}"
        )
    _check_temperature(temperature)
    scaled = np.asarray(logits, np.float64) / temperature
    if scaled.ndim != 3:
        return log_softmax(scaled)
    if len(scaled) == 0:
        raise KdError(
            "an ensemble without members has no distribution; give [e n v] with one member or more"
        )
    if average == "geometric":
        return log_softmax(scaled.mean(axis=0))
    members = np.stack([log_softmax(member) for member in scaled])
    return np.logaddexp.reduce(members, axis=0) - np.log(len(members))


def entropy_of_targets(
    logits: Logits | Members,
    temperatures: Sequence[float],
    average: Literal["arithmetic", "geometric"] = "arithmetic",
) -> list[float]:
    """Mean entropy of the softened targets at each temperature, in nats, 0 to ``log v``.

    Formula: ``mean_i -sum_j p_ij log p_ij``, ``p_i = softmax(z_i / T)``; of an ensemble, the
    averaged distribution. For one model it never falls as T rises, and tends to ``log v``. Shapes:
    as `soft_log_probs`.

    Raises:
      KdError: a temperature that is not a positive number.

    Source: Hinton, Vinyals & Dean (2015), section 2: a higher temperature makes a softer
    distribution.
    """
    targets = [soft_log_probs(logits, temperature, average) for temperature in temperatures]
    return [float(-expected(log_p, log_p).sum(axis=-1).mean()) for log_p in targets]


def _check_temperature(temperature: float) -> None:
    if not isinstance(temperature, (int, float, np.number)) or not 0.0 < temperature < np.inf:
        raise KdError(f"a temperature must be a positive number, got {temperature!r}")
