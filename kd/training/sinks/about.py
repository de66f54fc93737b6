"""What a sink is told of the run."""

from __future__ import annotations

import dataclasses
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class About:
    """The work directory of a run, its config, and the step at which this start goes on."""

    folder: pathlib.Path
    config: Mapping[str, Any]
    resumed_at: int = 0

    @property
    def name(self) -> str:
        """What people call the run: its folder."""
        return self.folder.name

    @property
    def id(self) -> str:
        """The same in every start of this run, and in no other run."""
        path = self.folder / "sinks.id"
        if not path.exists():
            path.write_text(uuid.uuid4().hex, "utf-8")
        return path.read_text("utf-8").strip()
