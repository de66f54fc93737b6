"""What looks at a run while it trains; it changes no number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from kd.training.clock import Clock
from kd.training.profile import Parts

Text = Callable[[], str | None]
"""The program that was compiled, as text, made when it is asked for: it may be long."""


@dataclasses.dataclass(frozen=True)
class Watching:
    """Where the time goes, the parts in which a dispatch is taken for a trace, and what hears of
    the compiled program.
    """

    clock: Clock = dataclasses.field(default_factory=Clock)
    parts: Parts = Parts()
    compiled: Callable[[Text], None] = lambda _: None
