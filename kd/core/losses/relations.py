"""Losses on how the examples of a batch lie to each other. Each returns the share of every example,
so that their mean is the paper's value; they need the whole batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from kd.core.losses.channels import fsp, gram, icc, to_channels
from kd.core.losses.contrastive import crd, memory
from kd.core.losses.info import LossInfo, Number
from kd.core.losses.rows import (
    distinct,
    lengths,
    like,
    mean,
    over,
    products,
    rows,
    shares,
    unit,
    weights,
)
from kd.core.types import Batch, Heads, Hparams, Outputs

PerPosition = Float[Array, "*b"]


def rkd_distance(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Relational distillation of distances: two examples lie as far apart as for the teacher,
    compared with the mean.

    Formula: ``mean_{i != j} H(|s_i - s_j| / m_s, |t_i - t_j| / m_t)``, m the mean of the distances
    of a side, H the Huber loss of threshold 1. Shifts, rotations and scales of either side change
    nothing. Shapes: taps ``hidden`` ``[*b ...] -> [*b]``.

    Raises:
      KdError: taps without the positions of the batch.

    Source: Park et al. (2019), "Relational knowledge distillation", eq. 3 to 7, there a sum over
    the pairs.
    """
    del hparams
    weight = weights(batch)
    others = distinct(weight)

    def distances(outputs: Outputs) -> Array:
        vectors = rows(outputs, "hidden", batch)
        apart = lengths(vectors[:, None] - vectors[None])
        return over(apart, mean(apart, others, weight))

    losses = optax.losses.huber_loss(distances(student), distances(teacher))
    return like(shares(losses, others, weight), batch)


def rkd_angle(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Relational distillation of angles: three examples form the angle that they form for the
    teacher.

    Formula: ``mean_{i != j != k} H(cos(s_i s_j s_k), cos(t_i t_j t_k))`` over all triples of
    three, H the Huber loss of threshold 1; the share of an example is that of the angles of which
    it is the vertex j. Shifts, rotations and scales of either side change nothing. A batch of n
    takes ``n^3`` numbers. Shapes: taps ``hidden`` ``[*b ...] -> [*b]``.

    Raises:
      KdError: taps without the positions of the batch.

    Source: Park et al. (2019), "Relational knowledge distillation", eq. 8 and 9, there a sum over
    the triples.
    """
    del hparams
    weight = weights(batch)
    ends = distinct(weight)
    others = ends[:, :, None] * ends[:, None, :] * (1.0 - jnp.eye(len(weight)))[None]

    def cosines(outputs: Outputs) -> Array:
        vectors = rows(outputs, "hidden", batch)
        directions = unit(vectors[None] - vectors[:, None])
        return products(directions, directions)

    losses = optax.losses.huber_loss(cosines(student), cosines(teacher))
    return like(shares(losses, others, weight), batch)


def similarity_preserving(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams
) -> PerPosition:
    """Similarity-preserving distillation: examples that are alike for the teacher are alike for the
    student.

    Formula: ``1/b^2 sum_ij (N(S S')_ij - N(T T')_ij)^2``, where N makes the length of each row 1.
    Rotations and scales of either side change nothing. Shapes: taps ``hidden``
    ``[*b ...] -> [*b]``.

    Raises:
      KdError: taps without the positions of the batch.

    Source: Tung & Mori (2019), "Similarity-preserving knowledge distillation", eq. 1 to 4.
    """
    del hparams
    weight = weights(batch)

    def similarities(outputs: Outputs) -> Array:
        vectors = rows(outputs, "hidden", batch)
        alike = products(vectors, vectors)
        return over(alike, lengths(jnp.sqrt(weight)[None] * alike)[:, None])

    return like(_squared(similarities(student), similarities(teacher), weight), batch)


ORDER = 2
"""Of the Taylor series of `correlation_congruence`, as in the paper's experiments."""


def correlation_congruence(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams
) -> PerPosition:
    """Correlation congruence: examples have the correlation, by a Gaussian kernel, that they have
    for the teacher.

    Formula: ``1/b^2 sum_ij (k(s_i, s_j) - k(t_i, t_j))^2`` with
    ``k(x, y) = sum_{p=0..2} exp(-2 g) (2 g)^p / p! cos(x, y)^p``, the Taylor series of
    ``exp(-g |x/|x| - y/|y||^2)``, ``g = hparams["gamma"]``. Rotations of a side and the length of
    each vector change nothing. Shapes: taps ``hidden`` ``[*b ...] -> [*b]``.

    Raises:
      KdError: taps without the positions of the batch.

    Source: Peng et al. (2019), "Correlation congruence for knowledge distillation".
    """
    weight, gamma = weights(batch), hparams["gamma"]

    def kernel(outputs: Outputs) -> Array:
        directions = unit(rows(outputs, "hidden", batch))
        cosine = products(directions, directions)
        terms = [(2 * gamma * cosine) ** p / math.factorial(p) for p in range(ORDER + 1)]
        return jnp.exp(-2 * gamma) * sum(terms)

    return like(_squared(kernel(student), kernel(teacher), weight), batch)


def pkt(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Probabilistic knowledge transfer: each example has the neighbours that it has for the
    teacher.

    Formula: ``1/b sum_i sum_{j != i} p_ij log(p_ij / q_ij)`` with
    ``p_ij = K(t_i, t_j) / sum_{k != i} K(t_i, t_k)``, ``K(x, y) = (cos(x, y) + 1) / 2``, and q
    likewise of the student. Rotations of a side and the length of each vector change nothing.
    Shapes: taps ``hidden`` ``[*b ...] -> [*b]``, in nats.

    Raises:
      KdError: taps without the positions of the batch.

    Source: Passalis & Tefas (2018), "Learning deep representations with probabilistic knowledge
    transfer", eq. 3 to 8.
    """
    del hparams
    weight = weights(batch)
    others = distinct(weight)

    def logs(outputs: Outputs) -> Array:
        directions = unit(rows(outputs, "hidden", batch))
        # opposite vectors, of kernel 0, would have an infinite logarithm
        kernel = jnp.maximum((products(directions, directions) + 1) / 2, 1e-6)
        total = jnp.sum(others * kernel, axis=1, keepdims=True)
        return jnp.log(kernel) - jnp.log(jnp.where(total == 0, 1.0, total))

    log_p, log_q = logs(teacher), logs(student)
    return like(jnp.sum(others * jnp.exp(log_p) * (log_p - log_q), axis=1), batch)


def _squared(
    own: Float[Array, "n n"], taught: Float[Array, "n n"], weight: Float[Array, " n"]
) -> Float[Array, " n"]:
    """Each row's share of the mean squared difference over all pairs, those with itself too."""
    pairs = jnp.broadcast_to(weight[None, :], own.shape)
    return shares((own - taught) ** 2, pairs, weight)


def _of_examples(loss: Any, numbers: dict[str, Number] | None = None) -> LossInfo:
    needs = ("teacher", "whole batch")
    return LossInfo(loss, needs, numbers or {}, taps=("hidden",), family="relations")


def _of_channels(loss: Any, *taps: str, init: Callable[..., Heads] | None = None) -> LossInfo:
    return LossInfo(loss, ("teacher",), taps=taps, init=init, family="relations")


_CRD = {
    "tau": Number(0.07, above=0.0),
    "negatives": Number(16384.0, above=0.0),
    "momentum": Number(0.5, above=0.0, below=1.0),
}

RELATIONS: dict[str, LossInfo] = {
    "correlation_congruence": _of_examples(
        correlation_congruence, {"gamma": Number(0.4, above=0.0)}
    ),
    "crd": dataclasses.replace(_of_examples(crd, _CRD), init=memory),
    "fsp": _of_channels(fsp, "first", "second"),
    "gram": _of_channels(gram, "hidden"),
    "icc": _of_channels(icc, "hidden", init=to_channels),
    "pkt": _of_examples(pkt),
    "rkd_angle": _of_examples(rkd_angle),
    "rkd_distance": _of_examples(rkd_distance),
    "similarity_preserving": _of_examples(similarity_preserving),
}
