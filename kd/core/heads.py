"""What the losses of an objective own: made before the first step, trained beside the student."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from kd.core import rng
from kd.core.terms import Term, tapped
from kd.core.types import Heads, Outputs, PyTree

OwnedHeads = Mapping[str, Heads]
"""What the terms own, by the name of the term."""


def init_heads(
    terms: Sequence[Term],
    key: jax.Array,
    student: Outputs,
    teacher: Outputs | None,
    examples: int,
) -> dict[str, Heads] | None:
    """What the terms own before the first step; None where they own nothing.

    `student` and `teacher` are outputs for a batch, or their shapes. A term's key is
    `rng.named` of `key` by the term's name, so that no term's first weights depend on the others.
    """
    heads = {}
    for t in terms:
        if t.info.init is None:
            continue
        seen = tapped(t, student, teacher)
        teaching = seen[1]
        if teaching is not None and teaching.average == "per_member":
            teaching = jax.eval_shape(lambda outputs: outputs.member(0), teaching)
        heads[t.name] = t.info.init(rng.named(key, f"heads/{t.name}"), seen[0], teaching, examples)
    return heads or None


def trained(heads: OwnedHeads | None) -> PyTree:
    """The part of the heads that the optimiser moves."""
    if heads is None:
        return None
    return {name: {"dropped": own.dropped, "exported": own.exported} for name, own in heads.items()}


def with_trained(heads: OwnedHeads | None, part: PyTree) -> OwnedHeads | None:
    """The heads with `part`, as `trained` gives it, in the place of theirs."""
    if heads is None:
        return None
    return {name: dataclasses.replace(own, **part[name]) for name, own in heads.items()}


def exported(heads: Any) -> dict[str, PyTree]:
    """What stays with the student, by the name of the term; terms that export nothing are left
    out.
    """
    kept = {} if heads is None else {name: own.exported for name, own in heads.items()}
    return {name: tree for name, tree in kept.items() if jax.tree.leaves(tree)}
