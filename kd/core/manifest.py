"""What is known of a teacher's answers that were kept, wherever they lie, and whether they fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from kd.errors import KdError

Kind = Literal["logits", "probabilities"]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The identity of kept answers. A live teacher has none.

    `teacher` and `data` are fingerprints: of who answered (of the answers themselves where nobody
    knows) and of what was answered ("" where nobody knows). `rows` counts examples,
    `positions` are the answers of each (empty: one), `members` those of an ensemble that are kept
    apart. `view` says what was done to the examples before they were answered, "" for nothing; with
    `views` above 0 there are so many answers of each example, of which ``batch["view"]`` is seen.
    Answers that came as probabilities were softened at `temperature`; logits have 1. With `zeros`
    some of these probabilities are exactly 0. `rounding` is the largest error of what is kept in
    fewer bits than it was computed in. `bytes` and `digest` are of the table as it lies in memory.
    """

    rows: int
    classes: int
    positions: tuple[int, ...] = ()
    teacher: str = ""
    data: str = ""
    view: str = ""
    kind: Kind = "logits"
    temperature: float = 1.0
    members: int | None = None
    zeros: bool = False
    bytes: int = 0
    digest: str = ""
    views: int = 0
    rounding: float = 0.0


def check_rows(rows: int, examples: int) -> None:
    """Raise a `KdError` unless there is a row of answers for each example."""
    if rows != examples:
        raise KdError(
            f"the teacher's answers have {rows} rows and the data has {examples} examples; one "
            "row per example is needed"
        )


def check_answers(
    manifest: Manifest | None,
    data: Any,
    *,
    view: str | None = "",
    without_zeros: Sequence[str] = (),
) -> None:
    """Raise a `KdError` unless kept answers are those of `data`, seen so. Live ones always fit.

    `data` is the transfer set: it has a length and a fingerprint, which costs a look at every byte.
    `view` names what the student sees of an example (None: a view without a name, which fits no
    kept answer), `without_zeros` are the terms whose loss is not finite where the teacher's
    probability is 0.
    """
    if manifest is None:
        return
    check_rows(manifest.rows, len(data))
    if manifest.data and manifest.data != data.fingerprint:
        raise KdError(
            "the teacher's answers were kept for another data set than this one; compute them "
            "for these examples: kd.precompute, or kd.soft_labels with data=this one"
        )
    if manifest.view != view:
        raise KdError(
            f"the teacher's answers were kept for {manifest.view or 'examples as they are'} and "
            "view changes what the student sees; pass the teacher itself, or leave view out"
        )
    if manifest.zeros and without_zeros:
        raise KdError(
            f"objective.{without_zeros[0]} allows no probability of exactly 0 and the teacher's "
            "table has some; take soft_targets, kl or jsd, or smooth the probabilities"
        )
