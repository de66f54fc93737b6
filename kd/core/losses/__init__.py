"""The catalogue of losses: a plain table from name to function."""

from __future__ import annotations

import dataclasses
import math

from kd.core.losses.binary import bce, soft_bce
from kd.core.losses.logits import (
    hard,
    jsd,
    kl,
    label_smoothing,
    logit_mse,
    reverse_kl,
    soft_targets,
)
from kd.core.losses.numbers import mse, soft_mse
from kd.core.types import Loss, Targets

__all__ = [
    "LOSSES",
    "LossInfo",
    "Number",
    "bce",
    "hard",
    "jsd",
    "kl",
    "label_smoothing",
    "logit_mse",
    "mse",
    "reverse_kl",
    "soft_bce",
    "soft_mse",
    "soft_targets",
]


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that a loss reads from ``hparams``: its default, and the open interval it must lie
    in.
    """

    default: float
    above: float = -math.inf
    below: float = math.inf


@dataclasses.dataclass(frozen=True)
class LossInfo:
    """A loss and what it asks for: a teacher, labels, the numbers it reads, and at least so many
    classes.

    A loss on distributions asks for two classes: the softmax of a single output is always 1.
    `zeros`: the teacher may give a class probability exactly 0, and value and gradient stay finite.
    `targets`: what its labels are, where it needs some; None: whatever they are.
    """

    loss: Loss
    teacher: bool = True
    labels: bool = False
    numbers: dict[str, Number] = dataclasses.field(default_factory=dict)
    zeros: bool = False
    classes: int = 1
    targets: Targets | None = None


_TEMPERATURE = {"temperature": Number(1.0, above=0.0)}

_SMOOTHING = {"smoothing": Number(0.1, above=0.0, below=1.0)}
_JSD = {**_TEMPERATURE, "beta": Number(0.5, above=0.0, below=1.0)}

LOSSES: dict[str, LossInfo] = {
    "bce": LossInfo(bce, teacher=False, labels=True, targets="binary"),
    "hard": LossInfo(hard, teacher=False, labels=True, classes=2, targets="classes"),
    "jsd": LossInfo(jsd, zeros=True, numbers=_JSD, classes=2),
    "kl": LossInfo(kl, zeros=True, numbers=_TEMPERATURE, classes=2),
    "label_smoothing": LossInfo(
        label_smoothing,
        teacher=False,
        labels=True,
        numbers=_SMOOTHING,
        classes=2,
        targets="classes",
    ),
    "logit_mse": LossInfo(logit_mse, classes=2),
    "mse": LossInfo(mse, teacher=False, labels=True, targets="numbers"),
    "reverse_kl": LossInfo(reverse_kl, numbers=_TEMPERATURE, classes=2),
    "soft_bce": LossInfo(soft_bce, numbers=_TEMPERATURE),
    "soft_mse": LossInfo(soft_mse),
    "soft_targets": LossInfo(soft_targets, zeros=True, numbers=_TEMPERATURE, classes=2),
}
