"""From a task to a trained state: compile, loop, log, write, save."""

from kd.training.loop import Cadence, run
from kd.training.task import Task

__all__ = [
    "Cadence",
    "Task",
    "run",
]
