"""Prometheus."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from kd.training.sinks.about import About


class Prometheus:
    """The newest numbers as a file that node_exporter collects: ``WORKDIR/prometheus/kd.prom``.

    ``kd_metric{run, name}`` has the numbers, ``kd_step{run}`` the step. The file is replaced whole.
    """

    def __init__(self, about: About) -> None:
        from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

        folder = about.folder / "prometheus"
        folder.mkdir(parents=True, exist_ok=True)
        self._write, self._path, self._name = write_to_textfile, folder / "kd.prom", about.name
        self._registry = CollectorRegistry()
        make = functools.partial(Gauge, registry=self._registry)
        self._metric = make("kd_metric", "The newest value of a metric", ["run", "name"])
        self._step = make("kd_step", "Steps that were taken", ["run"])

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Over the numbers of the same names before."""
        self._step.labels(run=self._name).set(step)
        for name, value in values.items():
            self._metric.labels(run=self._name, name=name).set(value)
        self._write(str(self._path), self._registry)

    def close(self) -> None:
        """The file stays, with the last numbers."""
