"""Work directories and the runs in them: from a config to an evaluation, and stages of many."""

from kd.runs.build import build_task
from kd.runs.load import load_finished, load_trained
from kd.runs.run import train_workdir
from kd.runs.stages import Computation, Done, Stage, run_stages
from kd.runs.workdir import Workdir, find

__all__ = [
    "Computation",
    "Done",
    "Stage",
    "Workdir",
    "build_task",
    "find",
    "load_finished",
    "load_trained",
    "run_stages",
    "train_workdir",
]
