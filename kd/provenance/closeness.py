"""How close a model's answers are to a teacher's: statistics by what can be seen of a model.

Each is a function ``(teacher, pool, truth) -> (answers -> closeness)``; more is closer. `pool` are
the models that say what is usual for the task. Where the suspect is in the pool with the controls,
closeness treats all of them alike, and so ranks are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from kd.errors import KdError, unknown
from kd.provenance.answers import Answers

Access = Literal["labels", "logits"]
Closeness = Callable[[Answers], float]
Truth = np.ndarray | None
Statistic = Callable[[Answers, Sequence[Answers], Truth], Closeness]


def agreement(teacher: Answers, pool: Sequence[Answers], truth: Truth) -> Closeness:
    """The share of queries with the teacher's label."""
    del pool, truth
    return lambda who: float(np.mean(who.labels == teacher.labels))


def rare_agreement(teacher: Answers, pool: Sequence[Answers], truth: Truth) -> Closeness:
    """Agreement with the teacher's label, each query weighed by how surprising it is.

    ``mean_i w_i [y_i = t_i]`` with ``w_i = -log((c_i + 1/2) / (m + 1))``, where ``c_i`` of the m
    models of the pool agree with the teacher: what everybody answers weighs next to nothing.
    """
    del truth
    agreeing = np.zeros(len(teacher.labels))
    for model in pool:
        agreeing += model.labels == teacher.labels
    weights = -np.log((agreeing + 0.5) / (len(pool) + 1))
    return lambda who: float(np.mean(weights * (who.labels == teacher.labels)))


def agreement_on_errors(teacher: Answers, pool: Sequence[Answers], truth: Truth) -> Closeness:
    """The share of the teacher's label among queries that the teacher gets wrong and more than half
    of the pool gets right; 0 where there is no such query.
    """
    labels = _labels(truth)
    right = np.mean([model.labels == labels for model in pool], axis=0)
    rows = (teacher.labels != labels) & (right > 0.5)
    return lambda who: _share(who.labels[rows] == teacher.labels[rows])


def same_mistake(teacher: Answers, pool: Sequence[Answers], truth: Truth) -> Closeness:
    """Of the queries that both get wrong, the share with the same wrong class; 0 where there is no
    such query.
    """
    del pool
    labels = _labels(truth)
    wrong = teacher.labels != labels

    def closeness(who: Answers) -> float:
        both = wrong & (who.labels != labels)
        return _share(who.labels[both] == teacher.labels[both])

    return closeness


def residual_correlation(teacher: Answers, pool: Sequence[Answers], truth: Truth) -> Closeness:
    """Pearson's correlation of log-probabilities after the pool's mean is taken off both.

    ``corr(log p_t - mu, log p - mu)`` over all queries and classes, ``mu = mean of log p`` over the
    pool: what every model of the task says is taken away, and what is left is the model's own.
    """
    del truth
    mean = np.zeros(_known(teacher).shape, np.float64)
    for model in pool:
        mean += _known(model)
    mean /= len(pool)
    own = _centred(_known(teacher) - mean)

    def closeness(who: Answers) -> float:
        other = _centred(_known(who) - mean)
        scale = np.sqrt(np.sum(own * own) * np.sum(other * other))
        return float(np.sum(own * other) / scale) if scale > 0 else 0.0

    return closeness


def kl(teacher: Answers, pool: Sequence[Answers], truth: Truth) -> Closeness:
    """``-KL(teacher || model)``, mean over the queries, in nats."""
    del pool, truth
    taught = _known(teacher).astype(np.float64)
    p = np.exp(taught)
    return lambda who: -float(np.mean(np.sum(p * (taught - _known(who)), axis=-1)))


STATISTICS: Mapping[str, tuple[Access, Statistic]] = {
    "agreement": ("labels", agreement),
    "rare_agreement": ("labels", rare_agreement),
    "agreement_on_errors": ("labels", agreement_on_errors),
    "same_mistake": ("labels", same_mistake),
    "residual_correlation": ("logits", residual_correlation),
    "kl": ("logits", kl),
}
"""Each with what it must see of every model."""
USUAL: Mapping[Access, str] = {"labels": "agreement", "logits": "residual_correlation"}
"""What is taken where nobody says which."""
NEEDS_TRUTH = ("agreement_on_errors", "same_mistake")


def chosen(statistics: Sequence[str], access: Access, *, labelled: bool) -> tuple[str, ...]:
    """The statistics to take, by name; the usual one where none is named.

    Raises:
      KdError: an unknown one or one twice, one that sees more than `access` allows, or one that
        counts mistakes of queries without labels.
    """
    if access not in USUAL:
        raise unknown("access:", access, USUAL)
    names = tuple(statistics) or (USUAL[access],)
    for name in names:
        if name not in STATISTICS:
            raise unknown("statistic", name, STATISTICS)
        if access == "labels" and STATISTICS[name][0] == "logits":
            raise KdError(f"statistic {name} needs logits, and labels are all that is seen here")
        if name in NEEDS_TRUTH and not labelled:
            raise KdError(
                f"statistic {name} counts mistakes, and the probe set has no labels; take "
                f"{USUAL[access]}"
            )
    if len(set(names)) < len(names):
        raise KdError(f"each statistic counts once, got {', '.join(names)}")
    return names


def _known(model: Answers) -> np.ndarray:
    if model.log_probs is None:
        raise KdError("this statistic needs logits, and of one model labels are all that is known")
    return model.log_probs


def _labels(truth: Truth) -> np.ndarray:
    if truth is None:
        raise KdError("mistakes are counted against labels, and the probe set has none")
    return truth


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


def _share(hits: np.ndarray) -> float:
    return float(np.mean(hits)) if hits.size else 0.0
