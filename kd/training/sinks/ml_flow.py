"""MLflow."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from kd.training.sinks.about import About

_TAG = "kd.id"
_LONGEST = 500  # characters of a value that every store of MLflow takes


class MLflow:
    """A run of MLflow, one for all starts, in a database in ``WORKDIR/mlflow.db``.

    ``MLFLOW_TRACKING_URI`` names a server in its place, ``MLFLOW_EXPERIMENT_NAME`` the experiment
    (``kd`` if not set).
    """

    def __init__(self, about: About) -> None:
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]
        from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # else it tells of its database
        place = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{about.folder / 'mlflow.db'}")
        self._client, self._metric = MlflowClient(place), Metric
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "kd")
        experiment = self._client.get_experiment_by_name(name)
        owner = experiment.experiment_id if experiment else self._client.create_experiment(name)
        runs = self._client.search_runs([owner], f"tags.`{_TAG}` = '{about.id}'")
        if runs:
            self._run = runs[0].info.run_id
            return
        run = self._client.create_run(owner, tags={_TAG: about.id}, run_name=about.name)
        self._run = run.info.run_id
        params = [Param(key, str(value)[:_LONGEST]) for key, value in _keys(about.config)]
        self._client.log_batch(self._run, params=params[:100])

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """All numbers of a step at once."""
        now = int(time.time() * 1000)
        metrics = [self._metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """The run is finished."""
        self._client.set_terminated(self._run)


def _keys(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _keys(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", value
