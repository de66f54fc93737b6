"""What a loss is, to the rest of the house: a function, and what it asks for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any

from kd.core.types import Heads, Loss, Targets
from kd.errors import unknown


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that a loss reads from ``hparams``: its default, and the open interval it must lie
    in.
    """

    default: float
    above: float = -math.inf
    below: float = math.inf


FAMILIES = ("logits", "features", "relations")
"""What a loss compares: answers, inner features, or relations between examples or channels."""

NEEDS = ("teacher", "labels", "same classes", "whole batch", "random")


@dataclasses.dataclass(frozen=True)
class LossInfo:
    """A loss and what it asks for.

    `needs` are some of `NEEDS`: a teacher, labels, a teacher that answers for the classes of the
    student, the whole batch (a loss that compares its examples with each other has no value of a
    part of it), and random numbers: ``batch["keys"][b]``, a key per example that is a function of
    seed, step, term and example. `numbers` are those that it reads, `classes` how many the student
    must answer with at least: a loss on distributions asks for two, since the softmax of a single
    output is always 1. `zeros`: the teacher may give a class probability exactly 0, and value and
    gradient stay finite. `targets`: what its labels are, where it needs some; None: whatever they
    are. `family` is one of `FAMILIES`.

    `taps` are the inner features that it reads, by names of its own; a term says which they are.
    Where a term names several pairs of layers, its value is the sum over pairs, each with heads of
    its own; a loss that is `fused` sees them all at once, ``outputs.taps[name]`` a tuple.
    ``init(key, student, teacher, examples)`` makes what the loss owns, from the shapes of both
    outputs and the number of examples: see `kd.core.types.Heads`. None: it owns nothing.
    """

    loss: Loss | Callable[..., Any]
    needs: Collection[str] = ("teacher", "same classes")
    numbers: dict[str, Number] = dataclasses.field(default_factory=dict)
    zeros: bool = False
    classes: int = 1
    taps: tuple[str, ...] = ()
    init: Callable[..., Heads] | None = None
    targets: Targets | None = None
    family: str = "logits"
    fused: bool = False

    def __post_init__(self) -> None:
        for need in self.needs:
            if need not in NEEDS:
                raise unknown("need of a loss", need, NEEDS)
        if self.family not in FAMILIES:
            raise unknown("family of losses", self.family, FAMILIES)

    @property
    def teacher(self) -> bool:
        """Whether it reads a teacher."""
        return "teacher" in self.needs

    @property
    def labels(self) -> bool:
        """Whether it reads labels."""
        return "labels" in self.needs

    @property
    def whole_batch(self) -> bool:
        """Whether it compares the examples of a batch with each other, and so needs all of them."""
        return "whole batch" in self.needs
