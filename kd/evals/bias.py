"""An offset on the logits of some classes: what a classifier knows about classes that its training
set lacked.

A student that never saw a class learns from the teacher what the class looks like, and from its
transfer set that the class never comes. The second is one number per class, the output bias, and
can be put right afterwards.

Source: Hinton, Vinyals & Dean (2015), section 3: all 3s omitted, the bias of 3 raised by 3.5; 7s
and 8s alone, both biases lowered by 7.6 (the same as the other eight raised by 7.6: a constant
added to all logits changes nothing).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from kd.errors import KdError
from kd.evals.classify import Labels, Logits, check_labels, one_classifier

Offsets = Float[np.ndarray, " o"] | Sequence[float]


def shift(logits: Logits, classes: Sequence[int], offset: float) -> Logits:
    """``z_ic + offset`` for every class c of `classes`, the other logits as they are, in float64.

    The same as adding `offset` to the output biases of those classes.
    """
    wide = one_classifier(logits).astype(np.float64)
    if not np.isfinite(offset):
        raise KdError(f"an offset must be a finite number, got {offset!r}")
    return wide + offset * _inside(classes, wide.shape[-1])


def top_share(logits: Logits, classes: Sequence[int]) -> float:
    """Share of examples whose most probable class is one of `classes`, 0 to 1."""
    answers = one_classifier(logits)
    return float(_inside(classes, answers.shape[-1])[np.argmax(answers, axis=-1)].mean())


def margins(logits: Logits, classes: Sequence[int]) -> Float[np.ndarray, " n"]:
    """``m_i = max_{j not in C} z_ij - max_{c in C} z_ic``: example i is predicted in C exactly if
    ``offset > m_i``.
    """
    wide = one_classifier(logits).astype(np.float64)
    inside = _inside(classes, wide.shape[-1])
    return wide[:, ~inside].max(axis=-1) - wide[:, inside].max(axis=-1)


def match_frequency(logits: Logits, classes: Sequence[int], share: float) -> float:
    """The offset at which `share` of the examples have their most probable class in `classes`.

    Exact: with k the count nearest to ``share * n`` that can be had (margins may tie), the offset
      lies half-way between
    the k-th and the next margin. Needs inputs on which `share` is the truth, no labels, and no test
    data.

    Raises:
      KdError: a share outside (0, 1); no classes, all classes, or one out of range.
    """
    if not isinstance(share, (int, float, np.number)) or not 0.0 < share < 1.0:
        raise KdError(
            f"share must lie between 0 and 1, got {share!r}; give the frequency of classes "
            f"{list(classes)}"
        )
    offsets, possible = _between(np.sort(margins(logits, classes)))
    distance = np.abs(np.arange(len(offsets)) - share * len(logits))
    return float(offsets[np.argmin(np.where(possible, distance, np.inf))])


def bias_curve(
    logits: Logits, labels: Labels, classes: Sequence[int], offsets: Offsets
) -> dict[str, list[int]]:
    """Errors at each offset: ``errors`` of all examples, ``errors_on_classes`` of those labelled
    one of `classes`.

    Errors on the classes fall as the offset rises, errors on the other examples rise; at a tie the
    class outside counts as chosen. Shapes: ``offsets[o]`` -> two
    lists of ``o`` counts.
    """
    if_outside, if_inside = _right(logits, labels, classes)
    tried = np.asarray(offsets, np.float64)
    if tried.ndim != 1 or np.isnan(tried).any():
        raise KdError(f"offsets must be numbers in a row, got {offsets!r}; e.g. [0.0, 1.0]")
    chosen = tried[:, None] > margins(logits, classes)
    missed = ~np.where(chosen, if_inside, if_outside)
    held = _inside(classes, np.shape(logits)[-1])[labels]
    return {
        "errors": missed.sum(axis=-1).tolist(),
        "errors_on_classes": missed[:, held].sum(axis=-1).tolist(),
    }


def best_offset(logits: Logits, labels: Labels, classes: Sequence[int]) -> float:
    """The offset with the fewest errors on these labelled examples; of several, the one nearest to
    zero.

    Exact: errors change at margins only, so every interval between two of them is tried. The paper
      chose its offsets
    so, on the test set: what comes out is then the best that any rule could have chosen, and not a
    result.
    """
    margin = margins(logits, classes)
    if_outside, if_inside = _right(logits, labels, classes)
    order = np.argsort(margin)
    gained = np.cumsum(if_inside[order].astype(int) - if_outside[order])
    right = if_outside.sum() + np.concatenate([[0], gained])
    offsets, possible = _between(margin[order])
    best = possible & (right == right[possible].max())
    return float(min(offsets[best], key=abs))


def _right(
    logits: Logits, labels: Labels, classes: Sequence[int]
) -> tuple[Bool[np.ndarray, " n"], ...]:
    """Whether the most probable class outside `classes` is the label, and the most probable one
    inside.
    """
    check_labels(labels, logits)
    inside = _inside(classes, np.shape(logits)[-1])
    outside_best, inside_best = (
        np.where(hidden, -np.inf, logits).argmax(axis=-1) for hidden in (inside, ~inside)
    )
    return outside_best == labels, inside_best == labels


def _between(
    ordered: Float[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " n+1"], Bool[np.ndarray, " n+1"]]:
    """An offset with k margins below it, for k = 0 ... n, and whether there is one: between equal
    ones there is not.
    """
    edges = np.concatenate([ordered[:1] - 2.0, ordered, ordered[-1:] + 2.0])
    middle = (edges[:-1] + edges[1:]) / 2
    return middle, (edges[:-1] < middle) & (middle < edges[1:])


def _inside(classes: Sequence[int], width: int) -> Bool[np.ndarray, " v"]:
    if not isinstance(classes, Iterable) or not all(
        isinstance(c, (int, np.integer)) and not isinstance(c, bool) for c in classes
    ):
        raise KdError(f"classes must be whole numbers from 0, got {classes!r}")
    outside = [int(c) for c in classes if not 0 <= c < width]
    if outside:
        raise KdError(
            f"class {outside[0]} is out of range: there are {width} classes, 0 to {width - 1}"
        )
    mask = np.zeros(width, bool)
    mask[np.asarray(classes, int)] = True
    if not mask.any() or mask.all():
        raise KdError(
            f"an offset takes at least one of the {width} classes and not all of them, got "
            f"{list(classes)}"
        )
    return mask
