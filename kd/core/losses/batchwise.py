"""Losses on logits that compare the examples of a batch with each other: they need all of it.

An example of weight w counts as w examples, and one of weight 0 is not there.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.losses.logits import soft_targets
from kd.core.types import Batch, Hparams, Outputs

PerPosition = Float[Array, "*b"]

FLAT = 1e-12
"""Added to the variance of probabilities: those that are all alike have a finite gradient."""

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)
"""At which `mlkd` compares."""


def dist(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Correlation in place of equality: between the classes of an example, and between the examples
    for each class.

    Formula: ``b (1 - r(p_i, q_i)) + g mean_j (1 - r(p_:j, q_:j))``, r Pearson's correlation, p and
    q softened by T, ``b = hparams["beta"]`` and ``g = hparams["gamma"]``. Example i's share of the
    second part is half the squared difference of its standardised column entries, so that their
    mean is the paper's value. Shapes: ``[*b v], [*b v] -> [*b]``.

    Source: Huang et al. (2022), "Knowledge distillation from a stronger teacher", section 4.
    """
    temperature = hparams["temperature"]
    q, p = (jnp.exp(outputs.log_probs(temperature)) for outputs in (student, teacher))
    even = jnp.full(q.shape, 1.0 / q.shape[-1])
    share = _shares(batch, q)
    examples = tuple(range(q.ndim - 1))
    rows = (_standardised(values, even, (-1,)) for values in (q, p))
    columns = (_standardised(values, share, examples) for values in (q, p))
    return hparams["beta"] * _half_distance(*rows) + hparams["gamma"] * _half_distance(*columns)


def mlkd(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Multi-level distillation: each example's distribution, which examples are alike, and which
    classes go together, each at several temperatures.

    Formula: ``sum_T T^2 KL(p_i || q_i) + sum_j (p_i'p_j - q_i'q_j)^2 + 1/N |P'P - Q'Q|^2``, P and Q
    the softened distributions of the whole batch, a row each, N the number of classes, and T from
    2 to 6 in whole steps. The last part is one number, which every example of the batch answers
    with. Shapes: ``[*b v], [*b v] -> [*b]``.

    Source: Jin, Wang & Lin (2023), "Multi-level logit distillation", section 3.
    """
    del hparams
    return sum(
        (_at_temperature(student, teacher, batch, temperature) for temperature in TEMPERATURES),
        start=jnp.zeros(student.positions, jnp.float32),
    )


def _at_temperature(
    student: Outputs, teacher: Outputs, batch: Batch, temperature: float
) -> PerPosition:
    q, p = (
        jnp.exp(outputs.log_probs(temperature)).reshape(-1, outputs.width)
        for outputs in (student, teacher)
    )
    weight = batch["weight"].reshape(-1, 1)
    instances = soft_targets(student, teacher, batch, {"temperature": temperature})
    batches = _product((_product(p, p.T) - _product(q, q.T)) ** 2, weight)[:, 0]
    classes = _product(p.T, weight * p) - _product(q.T, weight * q)
    together = jnp.sum(classes**2) / q.shape[-1]
    return instances + batches.reshape(instances.shape) + together


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _shares(batch: Batch, values: Float[Array, "*b v"]) -> Float[Array, "*b v"]:
    """The share of each position in the weight of the batch, for every class."""
    weight = batch["weight"]
    whole = jnp.sum(weight)
    share = weight / jnp.where(whole == 0, 1.0, whole)
    return jnp.broadcast_to(share[..., None], values.shape)


def _standardised(values: Array, share: Array, axes: tuple[int, ...]) -> Array:
    """Mean 0 and deviation 1 along `axes`, where every entry counts by its share."""
    centred = values - jnp.sum(share * values, axis=axes, keepdims=True)
    variance = jnp.sum(share * centred**2, axis=axes, keepdims=True)
    return centred * jax.lax.rsqrt(variance + FLAT)


def _half_distance(a: Array, b: Array) -> PerPosition:
    return 0.5 * jnp.mean((a - b) ** 2, axis=-1)
