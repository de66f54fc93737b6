"""The catalogue of losses: a plain table from name to function."""

from __future__ import annotations

from kd.core.losses.binary import bce, soft_bce
from kd.core.losses.features import hidden_mse, projection
from kd.core.losses.info import FAMILIES, NEEDS, LossInfo, Number
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
from kd.core.losses.relations import RELATIONS

__all__ = [
    "FAMILIES",
    "LOSSES",
    "NEEDS",
    "LossInfo",
    "Number",
    "bce",
    "hard",
    "hidden_mse",
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


_TEMPERATURE = {"temperature": Number(1.0, above=0.0)}

_SMOOTHING = {"smoothing": Number(0.1, above=0.0, below=1.0)}
_JSD = {**_TEMPERATURE, "beta": Number(0.5, above=0.0, below=1.0)}

LOSSES: dict[str, LossInfo] = {
    "bce": LossInfo(bce, needs=("labels",), targets="binary"),
    "hard": LossInfo(hard, needs=("labels",), classes=2, targets="classes"),
    "hidden_mse": LossInfo(
        hidden_mse, needs=("teacher",), taps=("hidden",), init=projection, family="features"
    ),
    "jsd": LossInfo(jsd, zeros=True, numbers=_JSD, classes=2),
    "kl": LossInfo(kl, zeros=True, numbers=_TEMPERATURE, classes=2),
    "label_smoothing": LossInfo(
        label_smoothing, needs=("labels",), numbers=_SMOOTHING, classes=2, targets="classes"
    ),
    "logit_mse": LossInfo(logit_mse, classes=2),
    "mse": LossInfo(mse, needs=("labels",), targets="numbers"),
    "reverse_kl": LossInfo(reverse_kl, numbers=_TEMPERATURE, classes=2),
    "soft_bce": LossInfo(soft_bce, numbers=_TEMPERATURE),
    "soft_mse": LossInfo(soft_mse),
    "soft_targets": LossInfo(soft_targets, zeros=True, numbers=_TEMPERATURE, classes=2),
    **RELATIONS,
}
