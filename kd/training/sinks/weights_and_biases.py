"""Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kd.training.sinks.about import About


class WeightsAndBiases:
    """A run of Weights & Biases, one for all starts; its files are in ``WORKDIR/wandb``.

    Its own variables say the rest, such as ``WANDB_PROJECT`` (``kd`` if not set) and
    ``WANDB_MODE=offline``.
    """

    def __init__(self, about: About) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "kd"),
            id=about.id,
            name=about.name,
            dir=str(about.folder),
            resume="allow",
            config=dict(about.config),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A row of its history: a start that goes on at an earlier step writes rows anew."""
        self._run.log({"step": step, **values})

    def close(self) -> None:
        """Everything is sent, or offline on disk."""
        self._run.finish()
