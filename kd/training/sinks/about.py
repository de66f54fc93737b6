"""What a sink is told of the run."""

from __future__ import annotations

import dataclasses
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class About:
    """The folder of this machine in which a run's sinks write, its config, and the step at which
    this start goes on. `workdir` is the work directory where that is another one, in a bucket.
    """

    folder: pathlib.Path
    config: Mapping[str, Any]
    resumed_at: int = 0
    workdir: pathlib.Path | None = None

    @property
    def name(self) -> str:
        """What people call the run: its folder."""
        return self.folder.name

    @property
    def id(self) -> str:
        """The same in every start of this run, and in no other run."""
        path = (self.workdir or self.folder) / "sinks.id"
        if not path.exists():
            path.write_text(uuid.uuid4().hex, "utf-8")
        return path.read_text("utf-8").strip()
