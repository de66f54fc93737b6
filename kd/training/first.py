"""First weights that are not drawn: those of a model that was trained before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd.core.leaves import by_name
from kd.core.types import Model
from kd.errors import KdError
from kd.exporting import arrays_of
from kd.lineage import FirstWeights
from kd.models.abstract import shapes
from kd.placement.ambient import pinned
from kd.teachers.make import digest
from kd.teachers.trained import Trained

_SHOWN = 6  # names in a line


@dataclasses.dataclass(frozen=True)
class First:
    """Arrays by name, ``params/...`` and ``extra/...``; with `members` each has a leading axis, and
    member i of a population begins with its own.
    """

    leaves: Mapping[str, np.ndarray] = dataclasses.field(repr=False)
    members: bool
    record: FirstWeights

    @property
    def text(self) -> str:
        """What is taken and what is drawn, in a line."""
        copied, fresh = self.record.copied, self.record.fresh
        shown = ", ".join(fresh[:_SHOWN]) + (", ..." if len(fresh) > _SHOWN else "")
        drawn = f"fresh: {shown}" if fresh else "none is fresh"
        whose = f" of {self.record.source}" if self.record.source else ""
        return f"first weights{whose}: {len(copied)} of {len(copied) + len(fresh)} arrays; {drawn}"

    def member(self, i: int) -> First:
        """The first weights of member `i`."""
        if not self.members:
            return self
        chosen = {name: leaf[i] for name, leaf in self.leaves.items()}
        return dataclasses.replace(self, leaves=chosen, members=False)


@pinned()
def first_weights(
    trained: Trained, model: Model, inputs: Any, size: int | None, source: str = ""
) -> First:
    """What a student may take of `trained`: every array of the same name and shape.

    `inputs` is a batch of what the student reads, `size` the number of its members: all begin with
    a single model, or member i with member i of a population.

    Raises:
      KdError: no parameter is of the same name and shape, or another number of members.
    """
    if trained.count not in (None, size):
        students = "a single model" if size is None else f"{size} members"
        raise KdError(
            f"the first weights are of {trained.count} members and the student is {students}; "
            "choose one of them (run:DIR?member=0, in Python trained.member(0))"
        )
    _check_normalised(trained.model, model)
    wanted = shapes(model, inputs)
    shaped = by_name({"params": wanted.params, "extra": wanted.extra})
    theirs, ahead = arrays_of(trained.params, trained.extra), int(trained.count is not None)
    copied = {
        name: theirs[name]
        for name, leaf in shaped.items()
        if name in theirs and theirs[name].shape[ahead:] == leaf.shape
    }
    if not any(name.startswith("params/") or name == "params" for name in copied):
        raise KdError(
            "the first weights have no parameter of the same name and shape as the student: "
            f"{_some(theirs)}, and the student {_some(shaped)}; begin from a model of its kind"
        )
    record = FirstWeights(
        source=source,
        fingerprint=trained.fingerprint,
        digest=digest({"params": trained.params, "extra": trained.extra}),
        changes=trained.changes,
        copied=tuple(copied),
        fresh=tuple(name for name in shaped if name not in copied),
    )
    return First(copied, bool(ahead), record)


def _check_normalised(theirs: Model, ours: Model) -> None:
    """Raise a `KdError` where the inputs that weights are of were normalised otherwise."""
    told = [(made.mean, made.deviation) for made in (theirs.made, ours.made) if made is not None]
    if len(told) == 2 and told[0] != told[1]:
        mean, deviation = told[0]
        raise KdError(
            "the first weights are of inputs that are normalised otherwise than the student's; set "
            f"config.student.mean={mean} and config.student.deviation={deviation}"
        )


def _some(arrays: Mapping[str, Any]) -> str:
    leaves = [f"{name} {list(leaf.shape)}" for name, leaf in list(arrays.items())[:2]]
    return ", ".join(leaves)
