"""Evaluation: pure functions of logits and labels, in float64 on the host."""

from kd.evals.agreement import agreement, agreement_on_errors, compare, held_out_kl
from kd.evals.bias import best_offset, bias_curve, margins, match_frequency, shift, top_share
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
from kd.evals.dark_knowledge import (
    agreement_at_k,
    class_kl,
    entropy_of_targets,
    soft_log_probs,
    top_k,
)
from kd.evals.words import word_errors

__all__ = [
    "CLASSIFICATION",
    "accuracy",
    "agreement",
    "agreement_at_k",
    "agreement_on_errors",
    "best_offset",
    "bias_curve",
    "brier",
    "class_kl",
    "classify",
    "compare",
    "ece",
    "entropy_of_targets",
    "errors",
    "errors_per_class",
    "held_out_kl",
    "log_softmax",
    "margins",
    "match_frequency",
    "nll",
    "shift",
    "soft_log_probs",
    "top_k",
    "top_share",
    "word_errors",
    "wrong",
]
