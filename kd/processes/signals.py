"""SIGINT and SIGTERM as a request: finish the step, save, exit."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class Interrupted(Exception):
    """The run stopped because it was asked to, after saving."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signum).name} after step {step}; the same command "
            "continues"
        )
        self.signum = signum


class StopSignals:
    """While active, the first SIGINT or SIGTERM is only noted in `received`; a second SIGINT
    interrupts at once. `say` hears of it there and then.

    Without `noting`, for a run that has nowhere to save, signals mean what they always mean.
    """

    def __init__(self, noting: bool = True, say: Callable[[str], None] = lambda _: None) -> None:
        self.noting, self._say = noting, say
        self.received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if self.noting and threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def note(self, signum: int) -> None:
        """As if this signal had come."""
        self.received = signum

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if self.received is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.note(signum)
        with contextlib.suppress(RuntimeError):  # it came in the middle of another line
            self._say(
                f"{signal.Signals(signum).name}: after the steps under way the state is saved"
            )
