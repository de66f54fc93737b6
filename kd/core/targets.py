"""What labels are, in a batch and beside the terms that read them; examples that have none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp

from kd.core.losses import LossInfo
from kd.core.types import Batch, Outputs, Targets
from kd.errors import KdError

_NAMES = {"classes": "classes", "binary": "yes or no (binary)", "numbers": "numbers"}
_LOSSES = {"classes": "hard", "binary": "bce", "numbers": "mse"}
_SOFT = {"binary": "soft_bce", "numbers": "soft_mse"}
_FIX = {
    "classes": "whole numbers, one per example, labels.astype(int)",
    "binary": "0 and 1 of every output, and targets='binary' (config.data.targets)",
    "numbers": "floats, and targets='numbers' (config.data.targets)",
}


def check_targets(
    losses: Iterable[tuple[str, LossInfo]], targets: Targets, outputs: int, student: int
) -> None:
    """Raise a `KdError` unless labels of the kind `targets`, which ask for so many outputs, are
    what the terms' losses are about, and the student has that many. A loss that reads a teacher
    alone is about classes where it asks for two.
    """
    for name, info in losses:
        if info.labels and info.targets is not None and info.targets != targets:
            raise KdError(
                f"objective.{name} needs {_NAMES[info.targets]} and the labels are "
                f"{_NAMES[targets]}; take {_LOSSES[targets]}, or pass {_FIX[info.targets]}"
            )
        if info.classes > 1 and targets != "classes":
            raise KdError(
                f"objective.{name} compares distributions over classes and the labels are "
                f"{_NAMES[targets]}; take {_SOFT[targets]}"
            )
    if targets != "classes" and student != outputs:
        raise KdError(
            f"the student answers with {student} outputs and each example has {outputs} labels; "
            "give it one output per label"
        )


def masked_labels(batch: Batch) -> Batch:
    """The batch with labels of 0 where the weight is 0 or there is no label."""
    if "labels" not in batch:
        return batch
    kept, labels = batch["weight"] > 0, batch["labels"]
    if "labelled" in batch:
        kept = kept & batch["labelled"]
    kept = kept.reshape(kept.shape + (1,) * (labels.ndim - kept.ndim))
    return {**batch, "labels": jnp.where(kept, labels, 0)}


def with_label_share(batch: Batch) -> Batch:
    """A batch of which a part is labelled, with ``label_share[*b]``; every other one as it is.

    ``label_share_i = has_label_i W / L``, where W is the weight of the whole batch and L that of
    its labelled examples. A loss that reads labels is multiplied by it, so that
    ``sum(weight * share * value) / W`` is the mean over the labelled examples. It must be taken
    before a batch is cut into parts. Of a batch without any label it is 0 everywhere.
    """
    if "labelled" not in batch or "label_share" in batch:
        return batch
    weight, has_label = batch["weight"], batch["labelled"].astype(jnp.float32)
    labelled = jnp.sum(weight * has_label)
    share = has_label * jnp.sum(weight) / jnp.where(labelled == 0, 1.0, labelled)
    return {**batch, "label_share": share}


def where_labelled(
    name: str,
    info: LossInfo,
    loss: Callable[[Outputs, Outputs | None, Batch], Any],
    student: Outputs,
    teacher: Outputs | None,
    batch: Batch,
) -> Any:
    """The values ``[*b]`` of a term's loss, and its buffers where it owns some; of a batch of which
    a part is labelled, the values times its label share where it reads labels.

    There a loss that does not say that it reads labels sees none.

    Raises:
      KdError: such a loss reads labels all the same.
    """
    if "label_share" not in batch:
        return loss(student, teacher, batch)
    if info.labels:
        share = batch["label_share"]
        seen = share * batch["weight"]
        taught = None if teacher is None else teacher.masked(seen)
        answer = loss(student.masked(seen), taught, batch)
        return (share * answer[0], *answer[1:]) if isinstance(answer, tuple) else share * answer
    bare = {key: batch[key] for key in batch if key not in ("labels", "labelled", "label_share")}
    try:
        return loss(student, teacher, bare)
    except KeyError as error:
        if error.args != ("labels",):
            raise
        raise KdError(
            f"objective.{name} reads labels and some examples have none; say that it needs them: "
            "kd.LossInfo(function, needs=('labels',))"
        ) from error
