"""Losses on outputs that are each a yes or no of their own: one output, or several (multi-label).

Each returns one value per position, the sum over outputs: what independent outputs pay together.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.losses.numbers import like
from kd.core.types import Batch, Hparams, Outputs

PerPosition = Float[Array, "*b"]


def bce(student: Outputs, teacher: Outputs | None, batch: Batch, hparams: Hparams) -> PerPosition:
    """Sigmoid cross-entropy with the labels, 0 or 1 or between, summed over outputs.

    Formula: ``-sum_i y_i log s(z_i) + (1 - y_i) log s(-z_i)``, ``s`` the sigmoid; of one output the
    cross-entropy of two classes with logits ``(0, z)``. Shapes: student ``[*b v]``, labels
    ``[*b v]``, or ``[*b]`` of one output, -> ``[*b]``, in nats.

    Source: Good (1952), "Rational decisions", the logarithmic score, of each output.
    """
    del teacher, hparams
    logits = _wide(student.logits)
    labels = like(batch["labels"], logits)
    yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -jnp.sum(labels * yes + (1.0 - labels) * no, axis=-1)


def soft_bce(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """T^2-scaled divergence from the teacher's softened yes or no of each output, summed over them.

    Formula: ``T^2 sum_i KL(Bernoulli(s(z_t_i / T)) || Bernoulli(s(z_s_i / T)))``, ``s`` the
    sigmoid; of one output `soft_targets` of two classes with logits ``(0, z)``. Its gradient is
    ``T (s(z_s / T) - s(z_t / T))``. An ensemble answers with the mean of its members' softened
    chances (arithmetic), or the chance of their mean logits (geometric). Shapes:
    ``[*b v], [*b v] -> [*b]``; ``hparams["temperature"]`` is a positive scalar.

    Source: Hinton, Vinyals & Dean (2015), section 2; Yang et al. (2023), "Multi-label knowledge
    distillation", whose divergence of each label it is.
    """
    del batch
    temperature = hparams["temperature"]
    yes, no = log_chances(teacher, temperature)
    own_yes, own_no = log_chances(student, temperature)
    divergence = jnp.exp(yes) * (yes - own_yes) + jnp.exp(no) * (no - own_no)
    return temperature**2 * jnp.sum(divergence, axis=-1)


def log_chances(outputs: Outputs, temperature: Array | float = 1.0) -> tuple[Array, Array]:
    """Logarithms of the chances of yes and of no, softened: ``[*b v]`` each."""
    logits = _wide(outputs.logits) / temperature
    if outputs.average == "geometric":
        logits = logits.mean(axis=0)
    chances = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    if outputs.average != "arithmetic":
        return chances
    members = jnp.log(logits.shape[0])
    yes, no = (jax.nn.logsumexp(log_p, axis=0) - members for log_p in chances)
    return yes, no


def _wide(logits: Array) -> Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
