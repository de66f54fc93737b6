"""Which classes a specialist is for: those that the generalist takes for each other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd import evals
from kd.errors import KdError
from kd.placement.mesh import is_whole

Classes = tuple[tuple[int, ...], ...]
"""The special classes of every specialist, by number."""


def covariance(logits: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """The covariance of a generalist's predictions over examples: classes that are predicted
    together have a large one. No labels are looked at.

    Of the probabilities ``softmax(z / T)``. Shapes: logits ``[n v]`` -> ``[v v]``, float64.

    Raises:
      KdError: logits that are not ``[n v]`` and finite, or a temperature of 0 or less.

    Source: Hinton, Vinyals & Dean (2015), section 5.3.
    """
    logits = np.asarray(logits)
    if logits.ndim != 2 or len(logits) < 2 or not np.isfinite(logits).all():
        raise KdError(
            "a covariance needs finite logits of two examples or more, [n v], got shape "
            f"{logits.shape}; pass generalist.logits(data)"
        )
    if not 0 < temperature < np.inf:
        raise KdError(f"temperature must be a finite number above 0, got {temperature!r}")
    return np.cov(np.exp(evals.log_softmax(logits / temperature)), rowvar=False)


def clusters(columns: np.ndarray, count: int, *, size: int | None = None, seed: int = 0) -> Classes:
    """`count` sets of classes by K-means on the columns of a covariance.

    Without `size` they are the clusters, and every class is in one of them. With it each is the
    `size` classes whose columns lie nearest to a cluster's centre: sets of one size, which may
    overlap and may leave classes out. Shapes: columns ``[v v]``.

    Raises:
      KdError: more clusters than classes that differ, fewer than 2, or sets of no or of all
        classes.

    Source: Hinton, Vinyals & Dean (2015), section 5.3; K-means is scikit-learn's, after Lloyd
    (1982), the best of 10 starts.
    """
    columns = _checked(columns, count, size)
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer clusters: counted below
        means: Any = KMeans(n_clusters=count, random_state=seed)
        means.set_params(n_init=10).fit(columns.T)
    if len(np.unique(means.labels_)) < count:
        raise KdError(
            f"the generalist tells {len(np.unique(means.labels_))} clusters of classes apart, and "
            f"{count} are wanted; lower count"
        )
    if size is None:
        return tuple(
            tuple(np.flatnonzero(means.labels_ == cluster).tolist()) for cluster in range(count)
        )
    nearest = np.argsort(means.transform(columns.T), axis=0, kind="stable")[:size]
    return tuple(tuple(sorted(chosen.tolist())) for chosen in nearest.T)


def check_classes(classes: Any, num_classes: int) -> Classes:
    """Sets of special classes as plain numbers.

    Raises:
      KdError: no specialist, one of no class, of all classes, of a class twice, or of one that is
        not among `num_classes`.
    """
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not len(classes):
        raise KdError(
            f"specialists need a set of classes each, got {classes!r:.80}; "
            "kd.specialists.clusters makes some"
        )
    return tuple(_set(special, number, num_classes) for number, special in enumerate(classes))


def class_names(classes: Classes, names: Sequence[str]) -> list[list[str]]:
    """The sets in words: the names of every specialist's classes."""
    return [[names[c] for c in special] for special in classes]


def _set(special: Any, number: int, num_classes: int) -> tuple[int, ...]:
    values = list(special) if isinstance(special, Sequence | np.ndarray | set) else [special]
    if not values:
        raise KdError(f"specialist {number} has no class; leave it out")
    for value in values:
        if not is_whole(value) or not 0 <= value < num_classes:
            raise KdError(
                f"specialist {number} has the class {value!r}, and classes are 0 to "
                f"{num_classes - 1}"
            )
    if len(set(values)) < len(values):
        raise KdError(f"specialist {number} has a class twice; name each once, got {values}")
    if len(values) == num_classes:
        raise KdError(
            f"specialist {number} has all {num_classes} classes, which makes it a generalist; "
            "leave some to the dustbin"
        )
    return tuple(int(value) for value in values)


def _checked(columns: Any, count: Any, size: Any) -> np.ndarray:
    columns = np.asarray(columns, float)
    if columns.ndim != 2 or columns.shape[0] != columns.shape[1] or not np.isfinite(columns).all():
        raise KdError(
            f"clusters need a covariance [v v] of finite numbers, got shape {columns.shape}; "
            "kd.specialists.covariance makes one"
        )
    if not is_whole(count) or not 2 <= count <= len(columns):
        raise KdError(f"count must be 2 or more, and at most {len(columns)} classes, got {count!r}")
    if size is not None and not (is_whole(size) and 1 <= size < len(columns)):
        raise KdError(
            f"size must be 1 or more, and fewer than all {len(columns)} classes, got {size!r}"
        )
    return columns
