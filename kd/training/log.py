"""Metrics on their way from the device to the writers: fetched late, so that the device never waits
for the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from kd.core.metrics import Mean
from kd.errors import KdError
from kd.training.writers import Write


class Log:
    """Collects the metrics of steps into lines; a line is the mean over the steps from one stop to
    the next.

    `next_stop` says at which step the line ends that begins at a step. A line that has ended is
    fetched, checked and written by `flush`. What a run that stops within a line has of it is
    `state`, and goes into the checkpoint.
    """

    def __init__(
        self, next_stop: Callable[[int], int], state: Mapping[str, Any] | None = None
    ) -> None:
        self.writers: Sequence[Write] = ()
        self._next_stop = next_stop
        self._open: list[tuple[int, int, Any]] = []
        self._ended: list[list[tuple[int, int, Any]]] = []
        self._last: list[tuple[int, int, Any]] = []
        for step, row in () if state is None else state["rows"]:
            means = {
                name: Mean(*(np.asarray([part], np.float32) for part in pair))
                for name, pair in row.items()
            }
            self._open.append((step, step + 1, means))

    def add(self, step: int, until: int, metrics: Any) -> None:
        """Metrics of the steps [step, until), on the device, with a leading axis of at least so
        many rows.
        """
        self._open.append((step, until, metrics))
        if until >= self._next_stop(self._open[0][0]):
            self._ended.append(self._open)
            self._open = []

    def flush(self) -> None:
        """Write the lines that have ended.

        Raises:
          KdError: a loss that is not finite; the step is named.
        """
        ended, self._ended = self._ended, []
        for line in ended:
            self._last = line
            fetched = [_fetch(*part) for part in line]
            metrics = jax.tree.map(lambda *parts: np.concatenate(parts), *fetched)
            totals = {
                name: (mean.total.sum(axis=0), mean.count.sum(axis=0))
                for name, mean in metrics.items()
            }
            self.write(
                line[-1][1],
                {name: total / np.maximum(count, 1e-30) for name, (total, count) in totals.items()},
            )

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """One line, to every writer."""
        for write in self.writers:
            write(step, values)

    @property
    def state(self) -> dict[str, Any]:
        """The line under way, as JSON can hold it without losing a bit: single precision is exact
        in double.
        """
        return _rows(self._open)

    @property
    def last(self) -> dict[str, Any]:
        """The line that was written last, in the same form."""
        return _rows(self._last)


What = Literal["loss", "parameters"]
DIVERGED = "the steps before led there; lower optim.learning_rate, in a new work directory"
_UNKNOWN = (
    "look at the inputs of that step and at the answers of teacher and student, or lower "
    "optim.learning_rate, in a new work directory"
)


class NotFinite(KdError):
    """The loss or the parameters of a run are no longer finite; `step` and `member` say where."""

    def __init__(
        self,
        what: What,
        step: int,
        member: int | None = None,
        cause: str = _UNKNOWN,
    ) -> None:
        who = "" if member is None else f" of member {member}"
        verb = "is" if what == "loss" else "are"
        super().__init__(
            f"the {what}{who} {verb} not finite at step {step}; checkpoints of before stay: {cause}"
        )
        self.what: What = what
        self.step, self.member = step, member

    def because(self, cause: str) -> NotFinite:
        """The same with its cause and what to do about it."""
        return NotFinite(self.what, self.step, self.member, cause)


def _rows(line: Sequence[tuple[int, int, Any]]) -> dict[str, Any]:
    rows = []
    for step, until, metrics in line:
        fetched = _fetch(step, until, metrics)
        for i in range(until - step):
            pairs = {
                name: (mean.total[i].tolist(), mean.count[i].tolist())
                for name, mean in fetched.items()
            }
            rows.append((step + i, pairs))
    return {"rows": rows}


def _fetch(start: int, until: int, metrics: Any) -> Any:
    metrics = jax.tree.map(lambda leaf: np.asarray(leaf)[: until - start], metrics)
    bad = np.argwhere(~np.isfinite(metrics["loss"].total))
    if len(bad):
        member = int(bad[0][1]) if bad.shape[1] > 1 else None
        raise NotFinite("loss", start + int(bad[0][0]), member)
    return metrics
