"""Classes that a student's transfer set lacked: does it know them all the same, once their bias is
put right?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from kd import evals
from kd.config import Spec
from kd.data.examples import Examples
from kd.errors import KdError
from kd.evals.classify import Labels, Logits

_CURVE_POINTS = 81

Members = Float[np.ndarray, "m n v"]


def left_out(spec: Spec, num_classes: int) -> tuple[int, ...]:
    """The classes that a config's transfer set lacks: the complement of ``data.classes``; none
    where that is None.
    """
    kept = spec.data.classes
    return () if kept is None else tuple(c for c in range(num_classes) if c not in kept)


def missing_probe(
    logits: Members, labels: Labels, classes: Sequence[int], matched: Sequence[float] = ()
) -> dict[str, Any]:
    """Errors of each member against an offset on the logits of `classes`, and at three offsets.

    ``none``: 0. ``matched``: the member's own of `matched`, where there are any. ``best``: with the
    fewest errors on these very labels, as in the paper: not a result but a bound.

    Source: Hinton, Vinyals & Dean (2015), section 3.
    """
    members = []
    for number, member in enumerate(logits):
        offsets = {"none": 0.0, **({"matched": matched[number]} if matched else {})}
        offsets["best"] = evals.best_offset(member, labels, classes)
        members.append(
            {rule: _at(member, labels, classes, offset) for rule, offset in offsets.items()}
        )
    grid = _grid([rule["offset"] for member in members for rule in member.values()])
    return {
        "classes": list(classes),
        "examples": int(np.isin(labels, classes).sum()),
        "members": members,
        "offsets": grid,
        "curves": [evals.bias_curve(member, labels, classes, grid) for member in logits],
    }


def share_of(classes: Sequence[int], train: Examples | None) -> float | None:
    """Share of the examples of `train` that are labelled one of `classes`; None where it is not
    known, none or all.
    """
    if train is None or train.labels is None:
        return None
    share = float(np.isin(train.labels[train.has_label], classes).mean())
    return share if 0.0 < share < 1.0 else None


def check_missing(classes: Sequence[int], labels: Labels, num_classes: int) -> None:
    """Raise a `KdError` unless every class exists and has an example, and they are not all there
    are.
    """
    for c in classes:
        if not 0 <= c < num_classes:
            raise KdError(
                f"missing class {c} is out of range: there are classes 0 to {num_classes - 1}"
            )
        if c not in labels:
            raise KdError(
                f"missing class {c} has no example in the evaluated split, so nothing can be "
                "counted on it; choose a "
                "split that holds it, or another class"
            )
    if len(set(classes)) == num_classes:
        raise KdError(
            f"all {num_classes} classes are missing; leave at least one that the student was taught"
        )


def _at(logits: Logits, labels: Labels, classes: Sequence[int], offset: float) -> dict[str, float]:
    curve = evals.bias_curve(logits, labels, classes, [offset])
    return {"offset": offset, **{name: counts[0] for name, counts in curve.items()}}


def _grid(offsets: Sequence[float]) -> list[float]:
    """Offsets for a curve that shows all of these, with room on both sides."""
    low, high = min(offsets), max(offsets)
    room = max(0.35 * (high - low), 1.0)
    return np.linspace(low - room, high + room, _CURVE_POINTS).tolist()


def probe_title(probe: Mapping[str, Any]) -> str:
    """What the probe is about: classes that the student never saw, or that it did see after all."""
    names = (
        f"class{'' if len(probe['classes']) == 1 else 'es'} {', '.join(map(str, probe['classes']))}"
    )
    if not probe.get("shown"):
        return f"Never shown: {names}"
    return f"Bias of {names}; the student WAS trained on {', '.join(map(str, probe['shown']))}"
