"""Several unlike teachers as one, each with its weight."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp

from kd.core.manifest import Manifest
from kd.core.types import Average, Batch, Outputs, PyTree, Teacher
from kd.errors import KdError
from kd.teachers.make import check_average

_LARGEST = 1e300  # of a weight: many of them can be added


@dataclasses.dataclass(frozen=True)
class Mixture(Teacher):
    """What `mixture` makes of `parts`, which it keeps: each may still be shown data in its own
    unit, or be asked for its answers.
    """

    parts: tuple[Teacher, ...] = dataclasses.field(repr=False, kw_only=True)
    weights: tuple[float, ...] = dataclasses.field(kw_only=True)
    average: Average = dataclasses.field(kw_only=True)

    def of(self, parts: Sequence[Teacher]) -> Mixture:
        """The same mixture of the same teachers, made anew."""
        pairs = list(zip(parts, self.weights, strict=True))
        return mixture(pairs, average=self.average, fingerprint=self.fingerprint)


def mixture(
    teachers: Sequence[Any],
    *,
    average: Average = "arithmetic",
    fingerprint: str = "",
) -> Mixture:
    """One teacher of several, live, ensembles or tables: pairs of a teacher and its weight, which
    counts by its share of the sum.

    ``sum_i w_i softmax(z_i / T)`` (arithmetic), ``softmax(sum_i w_i z_i / T)`` (geometric), or with
    ``per_member`` the weighted mean of the losses against each. An ensemble among them counts as
    what it answers with; an arithmetic mean has no logits, so it goes into an arithmetic mixture
    alone. Taps are not mixed.

    Raises:
      KdError: no teachers, weights that are no numbers of 0 or more or are all 0, teachers that are
        paired with students, tables of other examples, and, where it is asked, answers of other
        classes or of an average that cannot be mixed so.
    """
    check_average(average)
    parts, weights = _checked(teachers)
    told = [part.manifest for part in parts if part.manifest is not None]

    def apply(variables: PyTree, batch: Batch) -> Outputs:
        answers = [part.apply(own, batch) for part, own in zip(parts, variables, strict=True)]
        return _mixed(answers, weights, average)

    return Mixture(
        tuple(part.variables for part in parts),
        apply,
        fingerprint,
        _manifest(told, fingerprint),
        parts=parts,
        weights=weights,
        average=average,
    )


def is_live(teacher: Teacher) -> bool:
    """Whether some of its answers are computed in the step."""
    if isinstance(teacher, Mixture):
        return any(map(is_live, teacher.parts))
    return teacher.manifest is None


def _checked(teachers: Any) -> tuple[tuple[Teacher, ...], tuple[float, ...]]:
    pairs = list(teachers) if isinstance(teachers, Iterable) else []
    if not pairs or not all(map(_is_pair, pairs)):
        raise KdError(
            "a mixture takes pairs of a teacher and its weight, e.g. "
            "kd.mixture([(one, 0.7), (other, 0.3)])"
        )
    weights = [weight for _, weight in pairs]
    if not all(
        isinstance(w, (int, float)) and not isinstance(w, bool) and 0 <= w <= _LARGEST
        for w in weights
    ) or not any(weights):
        raise KdError(f"weights of teachers are numbers of 0 or more, and not all 0, got {weights}")
    if any(teacher.pairs is not None for teacher, _ in pairs):
        raise KdError("teachers that are paired with students cannot be mixed; leave pairs out")
    total = math.fsum(weights)
    return tuple(teacher for teacher, _ in pairs), tuple(w / total for w in weights)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], Teacher)


def _manifest(told: Sequence[Manifest], fingerprint: str) -> Manifest | None:
    """What is known of the tables among the teachers; None where there is none."""
    if not told:
        return None
    rows = {manifest.rows for manifest in told}
    data = {manifest.data for manifest in told if manifest.data}
    views = {manifest.view for manifest in told}
    if len(rows) > 1 or len(data) > 1 or len(views) > 1:
        raise KdError(
            "the tables of a mixture were kept for different examples; make each for the data that "
            "the student learns from"
        )
    zeros = any(manifest.zeros for manifest in told)
    digests = "".join(manifest.digest for manifest in told)
    return dataclasses.replace(
        told[0],
        teacher=fingerprint,
        data=next(iter(data), ""),
        kind="probabilities" if zeros else "logits",
        temperature=1.0,
        members=None,
        zeros=zeros,
        bytes=sum(manifest.bytes for manifest in told),
        digest=digests if len(told) == 1 else hashlib.sha256(digests.encode()).hexdigest()[:16],
    )


def _mixed(answers: Sequence[Outputs], weights: Sequence[float], average: Average) -> Outputs:
    shapes = {(*answer.positions, answer.width) for answer in answers}
    if len(shapes) > 1:
        raise KdError(
            f"the teachers of a mixture answer with shapes {sorted(shapes)}; all must have the "
            "student's classes"
        )
    logits, shares = [], []
    for answer, weight in zip(answers, weights, strict=True):
        members, share = _members(answer, average)
        logits.append(members.astype(jnp.promote_types(members.dtype, jnp.float32)))
        shares += [weight * each for each in share]
    return Outputs(jnp.concatenate(logits), average, weights=tuple(shares))


def _members(answer: Outputs, average: Average) -> tuple[Any, tuple[float, ...]]:
    """One teacher's members ``[e *b v]`` and their shares of its weight."""
    if answer.average is None:
        return answer.logits[None], (1.0,)
    shares = answer.weights or (1 / len(answer.logits),) * len(answer.logits)
    if answer.average == average:
        return answer.logits, shares
    if answer.average == "geometric":  # which has logits of its own, at every temperature
        return answer.mean_logits()[None], (1.0,)
    raise KdError(
        f"a teacher whose members are averaged by '{answer.average}' has no logits of its own, "
        f"which a mixture by '{average}' needs; average it by 'geometric', or mix by "
        f"'{answer.average}'"
    )
