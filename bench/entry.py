"""What a command that measures one thing writes down beside it."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bench import cpu
from bench.run import save
from kd.evidence import machine


class Entry:
    """The entry of ``python -m bench.NAME`` in a file of results, opened before anything is timed:
    its load before is the load of that moment.
    """

    def __init__(self, name: str, argv: Sequence[str] | None) -> None:
        self._name, self._load = name, os.getloadavg()[0]
        self._machine = {**machine(), **cpu.here()}
        arguments = sys.argv[1:] if argv is None else argv
        self._command = " ".join([f"python -m bench.{name}", *arguments])

    def save(
        self, path: pathlib.Path, values: Mapping[str, Any], libraries: Sequence[str] = ("jax",)
    ) -> None:
        """Write `values` with the command, the machine, its load and the versions of `libraries`;
        what `values` says of these itself stands.
        """
        loads = {"load_before": self._load, "load_after": os.getloadavg()[0]}
        entry = {
            "command": self._command,
            "machine": {**self._machine, **{name: round(load, 2) for name, load in loads.items()}},
            "versions": {name: importlib.metadata.version(name) for name in libraries},
            **values,
        }
        save(path, {self._name.replace("_", " "): entry}, cpu.name(self._machine))
