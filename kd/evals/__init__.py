"""Evaluation: pure functions of logits and labels, in float64 on the host."""

from kd.evals.agreement import agreement, agreement_on_errors, compare, held_out_kl
from kd.evals.classify import (
    CLASSIFICATION,
    accuracy,
    brier,
    classify,
    ece,
    errors,
    errors_per_class,
    log_softmax,
    nll,
    wrong,
)
from kd.evals.words import word_errors

__all__ = [
    "CLASSIFICATION",
    "accuracy",
    "agreement",
    "agreement_on_errors",
    "brier",
    "classify",
    "compare",
    "ece",
    "errors",
    "errors_per_class",
    "held_out_kl",
    "log_softmax",
    "nll",
    "word_errors",
    "wrong",
]
