"""The catalogue of losses: a plain table from name to function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kd.core.losses.activations import activation_boundary, connector_and_margins, ofd
from kd.core.losses.attention import attention_transfer, nst
from kd.core.losses.batchwise import dist, mlkd
from kd.core.losses.binary import bce, soft_bce
from kd.core.losses.decoupled import dkd, nkd, ofa
from kd.core.losses.features import (
    hidden_cosine,
    hidden_mse,
    hint,
    projection,
    projection_where_widths_differ,
    projector,
    regressor,
    simkd,
)
from kd.core.losses.generated import (
    factor_transfer,
    generator,
    mgd,
    normal_distribution,
    paraphraser,
    vid,
)
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
from kd.core.losses.regions import sdd
from kd.core.losses.relations import RELATIONS
from kd.core.losses.rescaled import logit_cosine, logit_standardized, ttm, wttm
from kd.core.losses.review import fusions, review
from kd.core.losses.tokens import attention_mse, minilm, pkd
from kd.core.types import Heads

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
_DKD = {**_TEMPERATURE, "beta": Number(8.0, above=0.0)}
_NKD = {**_TEMPERATURE, "gamma": Number(1.5, above=0.0)}
_DIST = {**_TEMPERATURE, "beta": Number(1.0, above=0.0), "gamma": Number(1.0, above=0.0)}
_SDD = {**_TEMPERATURE, "beta": Number(2.0, above=0.0)}

_LABELLED = ("teacher", "labels", "same classes")
_BATCH = ("teacher", "same classes", "whole batch")

_LOGITS: dict[str, LossInfo] = {
    "bce": LossInfo(bce, needs=("labels",), targets="binary"),
    "dist": LossInfo(dist, needs=_BATCH, numbers=_DIST, classes=2),
    "dkd": LossInfo(dkd, needs=_LABELLED, numbers=_DKD, classes=2, targets="classes"),
    "hard": LossInfo(hard, needs=("labels",), classes=2, targets="classes"),
    "jsd": LossInfo(jsd, zeros=True, numbers=_JSD, classes=2),
    "kl": LossInfo(kl, zeros=True, numbers=_TEMPERATURE, classes=2),
    "label_smoothing": LossInfo(
        label_smoothing, needs=("labels",), numbers=_SMOOTHING, classes=2, targets="classes"
    ),
    "logit_cosine": LossInfo(logit_cosine, classes=2),
    "logit_mse": LossInfo(logit_mse, classes=2),
    "logit_standardized": LossInfo(logit_standardized, numbers=_TEMPERATURE, classes=2),
    "mlkd": LossInfo(mlkd, needs=_BATCH, zeros=True, classes=2),
    "mse": LossInfo(mse, needs=("labels",), targets="numbers"),
    "nkd": LossInfo(nkd, needs=_LABELLED, numbers=_NKD, classes=2, targets="classes"),
    "ofa": LossInfo(
        ofa,
        needs=_LABELLED,
        numbers={"gamma": Number(1.5, above=0.0)},
        zeros=True,
        classes=2,
        targets="classes",
    ),
    "reverse_kl": LossInfo(reverse_kl, numbers=_TEMPERATURE, classes=2),
    "sdd": LossInfo(sdd, numbers=_SDD, classes=2, taps=("logit_map",)),
    "soft_bce": LossInfo(soft_bce, numbers=_TEMPERATURE),
    "soft_mse": LossInfo(soft_mse),
    "soft_targets": LossInfo(soft_targets, zeros=True, numbers=_TEMPERATURE, classes=2),
    "ttm": LossInfo(ttm, zeros=True, numbers=_TEMPERATURE, classes=2),
    "wttm": LossInfo(wttm, zeros=True, numbers=_TEMPERATURE, classes=2),
}


def _of_relations(loss: Callable[..., Any]) -> LossInfo:
    return LossInfo(loss, ("teacher",), taps=("relations",), family="features")


def _of_layer(
    loss: Callable[..., Any],
    init: Callable[..., Heads] | None = None,
    needs: tuple[str, ...] = (),
    **options: Any,
) -> LossInfo:
    return LossInfo(
        loss, ("teacher", *needs), taps=("hidden",), init=init, family="features", **options
    )


_FEATURES: dict[str, LossInfo] = {
    "activation_boundary": _of_layer(
        activation_boundary, projection, numbers={"margin": Number(1.0, above=0.0)}
    ),
    "attention_mse": _of_relations(attention_mse),
    "attention_transfer": _of_layer(attention_transfer),
    "factor_transfer": _of_layer(factor_transfer, paraphraser),
    "hidden_cosine": _of_layer(hidden_cosine, projection_where_widths_differ),
    "hidden_mse": _of_layer(hidden_mse, projection),
    "hint": _of_layer(hint, regressor),
    "mgd": _of_layer(
        mgd,
        generator,
        needs=("random",),
        numbers={"mask_ratio": Number(0.5, above=0.0, below=1.0)},
    ),
    "minilm": _of_relations(minilm),
    "nst": _of_layer(nst),
    "ofd": _of_layer(ofd, connector_and_margins, needs=("whole batch",)),
    "pkd": _of_layer(pkd, projection_where_widths_differ),
    "review": _of_layer(review, fusions, fused=True),
    "simkd": _of_layer(simkd, projector),
    "vid": _of_layer(vid, normal_distribution),
}

LOSSES: dict[str, LossInfo] = {**_LOGITS, **_FEATURES, **RELATIONS}
