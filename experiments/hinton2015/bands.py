"""Measures and the bands that they must lie in, and how a page says so."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Claim:
    """One measure: the paper's number if there is one, ours with its 95% interval, the band written
    before the run.
    """

    name: str
    about: str
    paper: float | None
    value: float
    low: float
    high: float
    band: tuple[float, float]

    @property
    def met(self) -> bool:
        """Whether our number lies in the band."""
        return self.band[0] <= self.value <= self.band[1]

    @property
    def missed(self) -> str:
        """A missed band in words; empty for one that is met."""
        if self.met:
            return ""
        side = "not defined, of"
        if not math.isnan(self.value):
            side = "above" if self.value > self.band[1] else "below"
        return (
            f"{self.about}, {shown(self.value, self.low, self.high)}, {side} {self.band[0]:g} to "
            f"{self.band[1]:g}"
        )


def shown(value: float, low: float, high: float) -> str:
    """A number and its interval as text."""
    return "not defined" if math.isnan(value) else f"{value:.2f} ({low:.2f} to {high:.2f})"


def missed_line(claims: Sequence[Claim]) -> str:
    """The bands that were missed, or that all are met; empty where there is no band."""
    missed = [claim.missed for claim in claims if claim.missed]
    if not claims:
        return ""
    if not missed:
        return f" All {len(claims)} bands are met."
    return f" **Missed: {len(missed)} of {len(claims)} bands**: {'; '.join(missed)}."
