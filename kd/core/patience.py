"""Patience: how often a run looks on without getting better, as a function of its state.

Looks are at the multiples of `every` steps. What has been counted is never stored: it is the number
of looks between the step of the best state and the present one.
"""

from __future__ import annotations

from typing import Any


def looks_since(step: Any, best_step: Any, every: int) -> Any:
    """Looks after the one that found the best state, the one at `step` included. Shapes: those of
    the two steps.
    """
    return step // every - best_step // every


def has_run_out(step: Any, best_step: Any, every: int, patience: int) -> Any:
    """Whether a member has looked `patience` times without getting better, this look included."""
    return looks_since(step, best_step, every) >= patience


def still_counts(step: Any, best_step: Any, every: int, patience: int) -> Any:
    """Whether a look at `step` can still change what is best: a member whose patience ran out at an
    earlier look trains on beside the others, and keeps what a run of its own would have kept.
    """
    return looks_since(step, best_step, every) <= patience
