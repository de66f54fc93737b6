"""Which copies on a disk of this machine belong to the run in a work directory."""

from __future__ import annotations

import pathlib
import secrets

from kd.config import Spec
from kd.processes import group
from kd.runs.workdir import Workdir
from kd.training.local_copies import Copies

_NAME = "local-copies.json"


def copies_of(workdir: Workdir, spec: Spec) -> Copies | None:
    """Where this process keeps copies of the state; None where the config wants none.

    A run has a name of its own there, drawn when it begins: what was copied by a run that was
    since removed is not taken for this one's.
    """
    if spec.local_copy.folder is None:
        return None
    name = group.first_does("copies", lambda: _name(workdir))
    process = f"process-{group.index()}"
    return Copies(pathlib.Path(spec.local_copy.folder, name, process), spec.local_copy.steps)


def _name(workdir: Workdir) -> str:
    begun = workdir.has_metrics or workdir.has_checkpoint
    known = (workdir.read(_NAME) or {}).get("name") if begun else None
    if known is not None:
        return known
    name = f"kd-{secrets.token_hex(8)}"
    workdir.write(_NAME, {"name": name})
    return name
