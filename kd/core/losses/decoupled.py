"""Losses on logits that treat the class of the label apart from all others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core import divergences
from kd.core.types import Batch, Hparams, Outputs

PerPosition = Float[Array, "*b"]


def dkd(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Decoupled distillation: how sure of the label, and apart from that how the others compare.

    Formula: ``T^2 (KL(b_t || b_s) + b KL(p' || q'))``, b_t and b_s the chances (label, any other),
    p' and q' the distributions over the other classes alone, all of the teacher's and the student's
    softened by T, and the weight ``b = hparams["beta"]``. With a weight of ``1 - p_y`` for each
    example it is `soft_targets`. Shapes: ``[*b v], [*b v]``, labels ``[*b]`` -> ``[*b]``, in nats.

    Source: Zhao et al. (2022), "Decoupled knowledge distillation", section 3.2.
    """
    temperature, labels = hparams["temperature"], batch["labels"]
    binary_t, others_t = _apart(teacher.log_probs(temperature), labels)
    binary_s, others_s = _apart(student.log_probs(temperature), labels)
    target = divergences.kl(binary_t, binary_s)
    others = divergences.kl(others_t, others_s)
    return temperature**2 * (target + hparams["beta"] * others)


def nkd(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Normalised distillation: the label counts as much as the teacher believes it, and the others
    are compared among themselves.

    Formula: ``-p_y log q_y - g T^2 sum_{i != y} p'_i log q'_i``, p and q the distributions at
    temperature 1, p' and q' those over the other classes alone, softened by T, and
    ``g = hparams["gamma"]``. Cross-entropies, so never 0: of the others the least is the teacher's
    entropy. Shapes: ``[*b v], [*b v]``, labels ``[*b]`` -> ``[*b]``, in nats.

    Source: Yang et al. (2023), "From knowledge distillation to self-knowledge distillation: a
    unified approach with normalized loss and customized soft labels", the loss NKD.
    """
    temperature, labels = hparams["temperature"], batch["labels"]
    p, q = (_of_label(outputs.log_probs(), labels) for outputs in (teacher, student))
    others_t = _apart(teacher.log_probs(temperature), labels)[1]
    others_s = _apart(student.log_probs(temperature), labels)[1]
    others = divergences.cross_entropy(others_t, others_s)
    return -jnp.exp(p) * q + hparams["gamma"] * temperature**2 * others


def ofa(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Soft and hard labels in one, the label enhanced where the teacher is sure of it.

    Formula: ``-(1 + p_y)^g log q_y - sum_{i != y} p_i log q_i``, p and q at temperature 1 and
    ``g = hparams["gamma"]``. At g = 1 it is the cross-entropy with the label plus that with the
    teacher. Shapes: ``[*b v], [*b v]``, labels ``[*b]`` -> ``[*b]``, in nats.

    Source: Hao et al. (2023), "One-for-all: bridge the gap between heterogeneous architectures in
    knowledge distillation", the loss with the adaptive target.
    """
    labels = batch["labels"]
    log_p, log_q = teacher.log_probs(), student.log_probs()
    enhanced = (1.0 + jnp.exp(_of_label(log_p, labels))) ** hparams["gamma"]
    others = divergences.cross_entropy(_without_label(log_p, labels), log_q)
    return -enhanced * _of_label(log_q, labels) + others


def _apart(
    log_probs: Float[Array, "*b v"], labels: Array
) -> tuple[Float[Array, "*b 2"], Float[Array, "*b v"]]:
    """Logs of the chances (label, any other), and of the distribution over the others, in which
    the label has none.
    """
    others = _without_label(log_probs, labels)
    rest = jax.nn.logsumexp(others, axis=-1, keepdims=True)
    return jnp.concatenate([_of_label(log_probs, labels)[..., None], rest], axis=-1), others - rest


def _of_label(log_probs: Float[Array, "*b v"], labels: Array) -> PerPosition:
    return jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]


def _without_label(log_probs: Float[Array, "*b v"], labels: Array) -> Float[Array, "*b v"]:
    label = jax.nn.one_hot(labels, log_probs.shape[-1], dtype=jnp.bool_)
    return jnp.where(label, -jnp.inf, log_probs)
