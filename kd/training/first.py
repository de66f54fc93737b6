"""First weights that are not drawn: those of a model that was trained before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.core.leaves import by_name
from kd.core.types import Model
from kd.errors import KdError
from kd.exporting import arrays_of
from kd.lineage import FirstWeights
from kd.models.abstract import shapes
from kd.models.repeated import apart, are_scanned, chosen, depth_of, is_of_block, together
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
        blocks = ", ".join(map(str, self.record.layers))
        chosen = f", its blocks {blocks}" if blocks else ""
        count = f"{len(copied)} of {len(copied) + len(fresh)} arrays"
        return f"first weights{whose}: {count}{chosen}; {drawn}"

    def member(self, i: int) -> First:
        """The first weights of member `i`."""
        if not self.members:
            return self
        chosen = {name: leaf[i] for name, leaf in self.leaves.items()}
        return dataclasses.replace(self, leaves=chosen, members=False)


@pinned()
def first_weights(
    trained: Trained,
    model: Model,
    inputs: Any,
    size: int | None,
    source: str = "",
    layers: Sequence[int] | None = None,
) -> First:
    """What a student may take of `trained`: every array of the same name and shape; of blocks that
    a scan repeats those of each block. With `layers` its block i begins as block ``layers[i]``.

    `inputs` is a batch of what the student reads, `size` the number of its members: all begin with
    a single model, or member i with member i of a population.

    Raises:
      KdError: no parameter is of the same name and shape, or another number of members; as
        `kd.models.repeated.chosen`, or no block is of the same shape.
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
    arrays = _placed(theirs, shaped, ahead, layers)
    copied = {
        name: arrays[name]
        for name, leaf in shaped.items()
        if name in arrays and arrays[name].shape[ahead:] == leaf.shape
    }
    if layers is not None and not any(map(is_of_block, copied)):
        raise KdError(
            f"the first weights have no block of the shape of the student's: {_some(arrays)}, and "
            f"the student {_some(shaped)}; give both one width, or leave config.student.layers out"
        )
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
        layers=tuple(layers or ()),
    )
    return First(copied, bool(ahead), record)


def _placed(
    theirs: Mapping[str, np.ndarray],
    shaped: Mapping[str, Any],
    ahead: int,
    layers: Sequence[int] | None,
) -> Mapping[str, np.ndarray]:
    """Their arrays by the names that they have in a student of these shapes."""
    if layers is None and are_scanned(theirs) == are_scanned(shaped):
        return theirs
    arrays = apart(theirs, ahead)
    if layers is not None:
        arrays = chosen(arrays, tuple(layers), depth_of(shaped))
    return together(arrays, shaped, ahead)


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
