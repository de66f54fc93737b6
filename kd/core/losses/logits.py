"""Losses on logits. Each returns one value per position; weighting and averaging happen once, in
`kd.core.objective`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core import divergences
from kd.core.types import Batch, Hparams, Outputs

PerPosition = Float[Array, "*b"]


def hard(student: Outputs, teacher: Outputs | None, batch: Batch, hparams: Hparams) -> PerPosition:
    """Cross-entropy with the labels, at temperature 1.

    Formula: ``-log softmax(z_s)_y``. Needs ``batch["labels"]``; takes no temperature and no
    teacher. Shapes: student ``[*b v]``, labels ``[*b]`` -> ``[*b]``, in nats.

    Source: Hinton, Vinyals & Dean (2015), section 2 (the second objective).
    """
    del teacher, hparams
    return _label_nll(student, batch)


def label_smoothing(
    student: Outputs, teacher: Outputs | None, batch: Batch, hparams: Hparams
) -> PerPosition:
    """Cross-entropy with smoothed labels: the control that softens targets without a teacher.

    Formula: ``(1 - a) H(onehot(y), q) + a H(uniform, q)`` with ``a = hparams["smoothing"]`` and
    ``q = softmax(z_s)``. Shapes: student ``[*b v]``, labels ``[*b]`` -> ``[*b]``, in nats.

    Source: Szegedy et al. (2016), "Rethinking the Inception architecture", section 7.
    """
    del teacher
    smoothing = hparams["smoothing"]
    return (1.0 - smoothing) * _label_nll(student, batch) - smoothing * student.log_probs().mean(
        axis=-1
    )


def soft_targets(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Distillation loss of Hinton et al.: T^2-scaled divergence from the teacher's softened
    distribution.

    Formula: ``T^2 KL(softmax(z_t / T) || softmax(z_s / T))``. The T^2 is always there, with or
    without a hard term. Its gradient is ``T (softmax(z_s / T) - softmax(z_t / T))``, which tends to
    that of `logit_mse` as T grows. Shapes: ``[*b v], [*b v] -> [*b]``; ``hparams["temperature"]``
    is a positive scalar.

    Source: Hinton, Vinyals & Dean (2015), section 2, eq. 1 to 4.
    """
    return hparams["temperature"] ** 2 * kl(student, teacher, batch, hparams)


def kl(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Forward divergence at temperature T, without the T^2: the student covers every mode of the
    teacher.

    Formula: ``KL(softmax(z_t / T) || softmax(z_s / T))``. Shapes: ``[*b v], [*b v] -> [*b]``, in
    nats.

    Source: Kullback & Leibler (1951); as sequence-level "supervised KD" in Agarwal et al. (2024).
    """
    del batch
    temperature = hparams["temperature"]
    return divergences.kl(teacher.log_probs(temperature), student.log_probs(temperature))


def reverse_kl(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Reverse divergence at temperature T, without the T^2: the student seeks a mode of the
    teacher.

    Formula: ``KL(softmax(z_s / T) || softmax(z_t / T))``. Shapes: ``[*b v], [*b v] -> [*b]``, in
    nats.

    Source: Gu et al. (2024), "MiniLLM", eq. 1.
    """
    del batch
    temperature = hparams["temperature"]
    return divergences.kl(student.log_probs(temperature), teacher.log_probs(temperature))


def jsd(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Generalised Jensen-Shannon divergence at temperature T, without the T^2: between forward and
    reverse.

    Formula: ``b KL(p || m) + (1 - b) KL(q || m)``, ``m = b p + (1 - b) q``,
    ``b = hparams["beta"]``, p the teacher's and q the student's softened distribution. Shapes:
    ``[*b v], [*b v] -> [*b]``, in nats.

    Source: Agarwal et al. (2024), "On-policy distillation of language models", eq. 1.
    """
    del batch
    temperature = hparams["temperature"]
    return divergences.jsd(
        teacher.log_probs(temperature), student.log_probs(temperature), hparams["beta"]
    )


def logit_mse(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Logit matching: half the mean squared difference of the centred logits.

    Formula: ``1/(2N) sum_i (c(z_s)_i - c(z_t)_i)^2`` over N classes, where c subtracts the mean
    over classes: a constant added to logits changes no prediction, so it must not be paid for. This
    is the limit of `soft_targets` as T goes to infinity, in value and in gradient (for an ensemble,
    if its mean is geometric). It is no regression loss: of a single output nothing is left, and the
    mean of several is not learnt. Shapes: ``[*b v], [*b v] -> [*b]``.

    Source: Ba & Caruana (2014), "Do deep nets really need to be deep?"; Hinton et al. (2015),
    section 2.1, eq. 4.
    """
    del batch, hparams
    difference = _centre(student.log_probs()) - _centre(teacher.log_probs())
    return 0.5 * jnp.mean(difference**2, axis=-1)


def _centre(logits: Float[Array, "*b v"]) -> Float[Array, "*b v"]:
    return logits - logits.mean(axis=-1, keepdims=True)


def _label_nll(student: Outputs, batch: Batch) -> PerPosition:
    return -jnp.take_along_axis(student.log_probs(), batch["labels"][..., None], axis=-1)[..., 0]
