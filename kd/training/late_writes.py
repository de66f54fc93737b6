"""What Orbax's threads print after a write has failed, beside the error that it raises."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from kd.system import disk


def silence() -> None:
    """Keep Orbax's threads from printing what it raises too; for the whole process, once."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logger = logging.getLogger("asyncio")
    if _is_news not in logger.filters:
        logger.addFilter(_is_news)
    if not isinstance(sys.unraisablehook, _WithoutLateWrites):
        sys.unraisablehook = _WithoutLateWrites(sys.unraisablehook)


def _is_news(record: logging.LogRecord) -> bool:
    """False of a write that failed after another one, whose error is raised."""
    error = record.exc_info and record.exc_info[1]
    unheard = "exception was never retrieved" in record.getMessage()
    return not (unheard and error and disk.is_cause(error))


class _WithoutLateWrites:
    """A ``sys.unraisablehook`` that passes on all but the writes that end after another one has
    failed.

    Orbax closes its event loop when the first write of a checkpoint fails, and raises.
    TensorStore's threads then report the ends of the other writes to the closed loop, and Python
    prints a traceback for each, beside our one line.
    """

    def __init__(self, before: Callable[[sys.UnraisableHookArgs], Any]) -> None:
        self._before = before

    def __call__(self, unraisable: sys.UnraisableHookArgs) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            self._before(unraisable)
