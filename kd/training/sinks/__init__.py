"""Where a run's metrics go beside its own file: dashboards, each a library of its own.

A sink is a function of `About` that gives something with ``write(step, values)`` and ``close()``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd.calling import check_takes
from kd.errors import KdError
from kd.names import lookup
from kd.storage import check_local
from kd.training.sinks.about import About
from kd.training.sinks.apart import Apart, close
from kd.training.sinks.ml_flow import MLflow
from kd.training.sinks.prometheus import Prometheus
from kd.training.sinks.tensorboard import TensorBoard
from kd.training.sinks.weights_and_biases import WeightsAndBiases

__all__ = ["SINKS", "About", "Apart", "SinkInfo", "check", "close", "opened"]


@dataclasses.dataclass(frozen=True)
class SinkInfo:
    """How a sink is opened, the module that it needs, and the package that has it."""

    open: Callable[[About], Any]
    library: str
    package: str


SINKS: Mapping[str, SinkInfo] = {
    "tensorboard": SinkInfo(TensorBoard, "tensorboardX", "tensorboardX"),
    "wandb": SinkInfo(WeightsAndBiases, "wandb", "wandb"),
    "mlflow": SinkInfo(MLflow, "mlflow", "mlflow-skinny sqlalchemy alembic"),
    "prometheus": SinkInfo(Prometheus, "prometheus_client", "prometheus-client"),
}
"""By name; ``package.module:name`` is a sink of the caller's own."""


def check(names: Sequence[str], folder: pathlib.Path) -> None:
    """Raise a `KdError` unless every name is a sink whose library is installed, and which can write
    its files in `folder`.
    """
    for name in names:
        sink = lookup("sink", name, SINKS)
        if not isinstance(sink, SinkInfo):
            check_takes(f"sink '{name}'", sink, "(about)", None)
        if isinstance(sink, SinkInfo) and importlib.util.find_spec(sink.library) is None:
            raise KdError(f"the sink {name} needs {sink.package}; type: pip install {sink.package}")
        if isinstance(sink, SinkInfo):
            check_local(folder, f"the sink {name} writes its files")


def opened(names: Sequence[str], about: About, say: Callable[[str], None]) -> list[Apart]:
    """The sinks of these names, each in a thread of its own."""
    sinks = []
    for name in dict.fromkeys(names):
        entry = lookup("sink", name, SINKS)
        make = entry.open if isinstance(entry, SinkInfo) else entry
        sinks.append(Apart(name, make, about, say))
    return sinks
