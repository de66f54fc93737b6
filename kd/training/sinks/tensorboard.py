"""TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from kd.training.sinks.about import About


class TensorBoard:
    """Scalars for TensorBoard, without TensorFlow, in ``WORKDIR/tensorboard``.

    A start that goes on at a step takes back what an earlier one wrote of later steps.
    """

    def __init__(self, about: About) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]
        from tensorboardX.summary import scalar

        folder = about.folder / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        self._event, self._scalar = Event, scalar
        # not SummaryWriter: its thread loses what it has not written yet
        suffix = f".{os.getpid()}.{about.resumed_at}"
        self._events = EventsWriter(str(folder / "events"), filename_suffix=suffix)
        if about.resumed_at:
            log = SessionLog(status=SessionLog.START)
            step = about.resumed_at + 1
            self._events.write_event(Event(wall_time=time.time(), step=step, session_log=log))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """An event for each number."""
        for name, value in values.items():
            summary = self._scalar(name, value)
            event = self._event(wall_time=time.time(), step=step, summary=summary)
            self._events.write_event(event)
        self._events.flush()

    def close(self) -> None:
        """Everything is on disk."""
        self._events.close()
