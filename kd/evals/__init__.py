"""Evaluation: pure functions of logits and labels, in float64 on the host.

`kd.evals.binary` has more of what is said of outputs that are each a yes or no.
"""

from kd.evals.agreement import agreement, agreement_on_errors, compare, held_out_kl
from kd.evals.bias import best_offset, bias_curve, margins, match_frequency, shift, top_share
from kd.evals.binary import (
    BINARY,
    MULTI_LABEL,
    auroc,
    exact_match,
    f1,
    mean_average_precision,
)
from kd.evals.classify import (
    CLASSIFICATION,
    accuracy,
    brier,
    classify,
    confusion,
    ece,
    errors,
    errors_per_class,
    log_softmax,
    matthews,
    nll,
    perplexity,
    wrong,
)
from kd.evals.dark_knowledge import (
    agreement_at_k,
    class_kl,
    entropy_of_targets,
    soft_log_probs,
    top_k,
)
from kd.evals.hidden_words import HIDDEN_WORDS
from kd.evals.metrics import (
    DEFAULT_WATCH,
    MORE_IS_BETTER,
    badness,
    measured,
    metrics_of,
    watch_of,
    watchable,
    wrong_rows,
)
from kd.evals.regression import REGRESSION, mae, pearson, r2, rmse, spearman
from kd.evals.words import word_errors

__all__ = [
    "BINARY",
    "CLASSIFICATION",
    "DEFAULT_WATCH",
    "HIDDEN_WORDS",
    "MORE_IS_BETTER",
    "MULTI_LABEL",
    "REGRESSION",
    "accuracy",
    "agreement",
    "agreement_at_k",
    "agreement_on_errors",
    "auroc",
    "badness",
    "best_offset",
    "bias_curve",
    "brier",
    "class_kl",
    "classify",
    "compare",
    "confusion",
    "ece",
    "entropy_of_targets",
    "errors",
    "errors_per_class",
    "exact_match",
    "f1",
    "held_out_kl",
    "log_softmax",
    "mae",
    "margins",
    "match_frequency",
    "matthews",
    "mean_average_precision",
    "measured",
    "metrics_of",
    "nll",
    "pearson",
    "perplexity",
    "r2",
    "rmse",
    "shift",
    "soft_log_probs",
    "spearman",
    "top_k",
    "top_share",
    "watch_of",
    "watchable",
    "word_errors",
    "wrong",
    "wrong_rows",
]
