"""Which trial of an arm gives its numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.vision_table.protocol import Grid, Numbers, Protocol, tuned
from kd.runs import Done


@dataclasses.dataclass(frozen=True)
class Tuned:
    """An arm's trials: the `columns` of their numbers, what each got wrong on validation, and the
    one that was `chosen`.
    """

    columns: Grid
    errors: Sequence[int]
    nll: Sequence[float]
    chosen: int

    @property
    def numbers(self) -> Numbers:
        """The numbers of the chosen trial."""
        return {
            term: {number: values[self.chosen] for number, values in columns.items()}
            for term, columns in self.columns.items()
        }


def choose(protocol: Protocol, done: Mapping[str, Done]) -> dict[str, Tuned]:
    """For every arm with trials the one with the fewest errors on the validation images; of several
    the one with the lowest negative log-likelihood.
    """
    return {
        name: best(arm.trials, done[f"trials-{name}"].evaluation["members"])
        for name, arm in tuned(protocol).items()
    }


def best(columns: Grid, members: Sequence[Mapping[str, Any]]) -> Tuned:
    """The trial with the fewest errors; of several the one with the lowest nll."""
    errors = [member["errors"] for member in members]
    nll = [member["nll"] for member in members]
    chosen = min(range(len(members)), key=lambda i: (errors[i], nll[i]))
    return Tuned({term: dict(told) for term, told in columns.items()}, errors, nll, chosen)


def at_the_edge(values: Sequence[float], chosen: float) -> bool:
    """Whether a number that was chosen is the least or the largest that was tried."""
    return len(set(values)) > 1 and chosen in (min(values), max(values))
