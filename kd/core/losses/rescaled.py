"""Losses on logits that bring teacher and student to one scale, or soften the teacher alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core import divergences
from kd.core.types import Batch, Hparams, Outputs

PerPosition = Float[Array, "*b"]

FLAT = 1e-6
"""Added to the variance of logits, so that those that are all alike have a finite gradient."""


def logit_standardized(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams
) -> PerPosition:
    """`soft_targets` of standardised logits: how far apart they lie is left to the student.

    Formula: ``T^2 KL(softmax(Z(z_t) / T) || softmax(Z(z_s) / T))``,
    ``Z(z) = (z - mean(z)) / sd(z)`` over the classes of a position, with the standard deviation of
    a population, as an average over all classes. Shapes: ``[*b v], [*b v] -> [*b]``, in nats.

    Source: Sun et al. (2024), "Logit standardization in knowledge distillation",
    algorithm 1 and 2.
    """
    del batch
    temperature = hparams["temperature"]
    log_p, log_q = (
        jax.nn.log_softmax(standardised(outputs.log_probs()) / temperature, axis=-1)
        for outputs in (teacher, student)
    )
    return temperature**2 * divergences.kl(log_p, log_q)


def logit_cosine(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """The angle between centred logits: one minus their correlation over the classes.

    Formula: ``1 - cos(c(z_s), c(z_t))`` where c subtracts the mean over classes: a constant added
    to logits changes no prediction, so it must not turn the angle. Between 0 and 2. Shapes:
    ``[*b v], [*b v] -> [*b]``.

    Source: Pearson (1896), the correlation, of the logits of an example; see `dist` for the one of
    softened probabilities.
    """
    del batch, hparams
    return half_distance(*(standardised(outputs.log_probs()) for outputs in (student, teacher)))


def ttm(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Transformed teacher matching: the teacher alone is softened, and the student answers at 1.

    Formula: ``KL(softmax(z_t / T) || softmax(z_s))``. It is `kl` plus a reward for the student's
    Renyi entropy: a regulariser against being too sure. Shapes: ``[*b v], [*b v] -> [*b]``, in
    nats.

    Source: Zheng & Yang (2024), "Knowledge distillation based on transformed teacher matching",
    the loss named TTM.
    """
    del batch
    return divergences.kl(teacher.log_probs(hparams["temperature"]), student.log_probs())


def wttm(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """`ttm`, which counts for more where the teacher is unsure.

    Formula: ``(sum_i p_i^(1/T)) KL(softmax(z_t / T) || softmax(z_s))``, p the teacher's
    distribution at temperature 1: the power sum is 1 where it is certain, and ``v^(1 - 1/T)`` where
    all v classes are alike. Shapes: ``[*b v], [*b v] -> [*b]``, in nats.

    Source: Zheng & Yang (2024), "Knowledge distillation based on transformed teacher matching",
    eq. 22.
    """
    power = jnp.sum(jnp.exp(teacher.log_probs() / hparams["temperature"]), axis=-1)
    return power * ttm(student, teacher, batch, hparams)


def standardised(logits: Float[Array, "*b v"]) -> Float[Array, "*b v"]:
    """Mean 0 and deviation 1 over the classes of each position."""
    centred = logits - logits.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + FLAT)


def half_distance(a: Float[Array, "*b v"], b: Float[Array, "*b v"]) -> PerPosition:
    """One minus the correlation of what is standardised: half its mean squared difference."""
    return 0.5 * jnp.mean((a - b) ** 2, axis=-1)
