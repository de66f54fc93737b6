"""What is watched of a training step beside its losses."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from kd.core.losses.binary import log_chances
from kd.core.losses.numbers import like
from kd.core.metrics import Mean, weighted_mean
from kd.core.types import Batch, Outputs, Targets


def watched(
    student: Outputs, teacher: Outputs | None, batch: Batch, targets: Targets
) -> dict[str, Mean]:
    """Means over the batch; over its labelled examples where they are about labels.

    Of classes, and of one yes or no, accuracy and agreement with the teacher; of several yes or no
    ``exact_match``, the share of examples whose outputs all lie on the right side, and agreement
    on all of them; of numbers ``mse``.
    """
    means, weight = {}, batch["weight"]
    if "labels" in batch:
        seen = weight * batch["labelled"] if "labelled" in batch else weight
        name, values = _against_labels(student, batch["labels"], targets)
        means[name] = weighted_mean(values, seen)
    if teacher is None or not _answers_alike(student, teacher) or targets == "numbers":
        return means
    if targets == "classes":
        same = jnp.argmax(student.logits, axis=-1) == jnp.argmax(teacher.log_probs(), axis=-1)
    else:
        same = (_says_yes(student) == _says_yes(teacher)).all(axis=-1)
    return {**means, "agreement": weighted_mean(same.astype(jnp.float32), weight)}


def _answers_alike(student: Outputs, teacher: Outputs) -> bool:
    """Whether student and teacher each have one answer of the same outputs."""
    return teacher.average != "per_member" and teacher.width == student.width


def _against_labels(student: Outputs, labels: Array, targets: Targets) -> tuple[str, Array]:
    if targets == "classes":
        right = jnp.argmax(student.logits, axis=-1) == labels
        return "accuracy", right.astype(jnp.float32)
    wanted = like(labels, student.logits)
    if targets == "numbers":
        return "mse", jnp.mean((student.logits - wanted) ** 2, axis=-1)
    right = (_says_yes(student) == (wanted > 0.5)).all(axis=-1)
    return "accuracy" if student.width == 1 else "exact_match", right.astype(jnp.float32)


def _says_yes(outputs: Outputs) -> Array:
    """Which outputs are more likely yes than no, ``[*b v]``."""
    yes, no = log_chances(outputs)
    return yes > no
