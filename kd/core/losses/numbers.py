"""Losses on outputs that are numbers (regression): a value per position, the mean over outputs."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.types import Batch, Hparams, Outputs
from kd.errors import KdError

PerPosition = Float[Array, "*b"]


def mse(student: Outputs, teacher: Outputs | None, batch: Batch, hparams: Hparams) -> PerPosition:
    """Squared error against the labels, the mean over outputs.

    Formula: ``1/N sum_i (z_i - y_i)^2`` over N outputs. Shapes: student ``[*b v]``, labels
    ``[*b v]``, or ``[*b]`` of one output, -> ``[*b]``, in the square of the labels' unit.

    Source: Legendre (1805), least squares.
    """
    del teacher, hparams
    answers = _answers(student)
    return jnp.mean((answers - like(batch["labels"], answers)) ** 2, axis=-1)


def soft_mse(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> PerPosition:
    """Squared error against the teacher's outputs, the mean over them.

    Formula: ``1/N sum_i (z_s_i - z_t_i)^2`` over N outputs. Nothing is centred, unlike in
    `logit_mse`, which is ``(soft_mse - (mean_i(z_s_i - z_t_i))^2) / 2``: a constant added to all
    logits of a classifier means nothing, and one added to numbers does. An ensemble
    answers with the mean of its members' outputs. Shapes: ``[*b v], [*b v] -> [*b]``.

    Source: Ba & Caruana (2014), "Do deep nets really need to be deep?"; for regression
    Saputra et al. (2019), "Distilling knowledge from a deep pose regressor network".
    """
    del batch, hparams
    return jnp.mean((_answers(student) - _answers(teacher)) ** 2, axis=-1)


def like(labels: Array, answers: Array) -> Array:
    """Labels as floats in the shape of the answers ``[*b v]``: those of one output have no axis.

    Raises:
      KdError: labels of another shape, which would be repeated for every output.
    """
    labels = labels.astype(answers.dtype)
    labels = labels[..., None] if labels.ndim < answers.ndim else labels
    if labels.shape != answers.shape:
        raise KdError(
            f"the student answers with {answers.shape} and the labels are {labels.shape}; give it "
            "an output for each label"
        )
    return labels


def _answers(outputs: Outputs) -> Array:
    answers = outputs.logits.astype(jnp.promote_types(outputs.logits.dtype, jnp.float32))
    return answers if outputs.average is None else answers.mean(axis=0)
