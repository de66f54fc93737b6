"""A work directory: the run it belongs to, its checkpoints, its metrics, its evaluation."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import glob
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from kd.checkpoint import Checkpoints
from kd.config import Spec, fingerprint_of, from_json, identity, to_json
from kd.data import Dataset, Stream
from kd.errors import KdError
from kd.paths import local

_PRINT = "[0-9a-f]" * 8  # what a stage's folder has after its name
_OWNER = {"fingerprint", "identity", "num_classes", "spec"}


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The files of one run. `claim` makes a folder one; `find` opens one that is there."""

    path: pathlib.Path

    @property
    def metrics(self) -> pathlib.Path:
        """One line of JSON per dispatch."""
        return self.path / "metrics.jsonl"

    @property
    def owner(self) -> dict[str, Any]:
        """What `claim` wrote: spec, identity, fingerprint, number of classes.

        Raises:
          KdError: it is damaged.
        """
        path = self.path / "run.json"
        try:
            owner = json.loads(path.read_text("utf-8"))
            if not isinstance(owner, dict) or not _OWNER.issubset(owner):
                raise ValueError(f"it lacks one of {', '.join(sorted(_OWNER))}")
        except ValueError as error:
            raise KdError(
                f"{path} is damaged: {error}; choose another folder, or restore that file"
            ) from error
        return owner

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the run: its config, its data and its teacher's fingerprint."""
        return self.owner["fingerprint"]

    @property
    def spec(self) -> Spec:
        """The resolved config of the run."""
        return from_json(json.dumps(self.owner["spec"]))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training here. Raises a `KdError` if one is."""
        try:
            file = (self.path / ".lock").open("w")
        except OSError as error:
            raise _not_writable(self.path, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise KdError(
                    f"another process is training in {self.path}; wait for it, or stop it"
                ) from None
            yield

    @property
    def has_checkpoint(self) -> bool:
        """Whether a checkpoint was ever finished here."""
        return any((self.path / "checkpoints" / "checksums").glob("*.json"))

    def checkpoints(self, *, read_only: bool = False) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(self.path / "checkpoints", read_only=read_only)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file whole or not at all."""
        write_json(self.path / name, content)

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run, or None."""
        path = self.path / name
        try:
            found = json.loads(path.read_text("utf-8")) if path.exists() else {}
            if not isinstance(found, dict):
                raise ValueError("it holds no object")
            return found if path.exists() else None
        except ValueError as error:
            raise KdError(
                f"{path} is damaged: {error}; remove it and start that run again"
            ) from error


def made(path: pathlib.Path) -> Workdir:
    """The folder `path`, made where it is not there yet. Raises a `KdError` where it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(path, error) from error
    return Workdir(path)


def _not_writable(path: pathlib.Path, error: OSError) -> KdError:
    return KdError(
        f"cannot write work directory {path}: {error.strerror}; choose another --workdir"
    )


def claim(
    path: pathlib.Path, spec: Spec, data: Dataset | Stream, teacher_fingerprint: str
) -> Workdir:
    """Make `path` the work directory of this run, or find that it is already. One that never took a
    step is free.

    Raises:
      KdError: it belongs to another run (the first keys that differ are shown), or cannot be
        written.
    """
    who = {**identity(spec, teacher_fingerprint), "data_fingerprint": data.fingerprint}
    owner = {
        "fingerprint": fingerprint_of(who),
        "num_classes": data.num_classes,
        "identity": who,
        "spec": json.loads(to_json(spec)),
    }
    workdir = made(path)
    try:
        if not (_has_lines(workdir.metrics) or workdir.has_checkpoint):
            workdir.write("run.json", owner)
            return workdir
        if not (path / "run.json").exists():
            raise KdError(
                f"{path} holds a run but no run.json to say which; restore it, or choose another "
                "--workdir"
            )
        found = workdir.owner
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise _not_writable(path, error) from error
    if found["fingerprint"] != owner["fingerprint"]:
        raise KdError(
            f"work directory {path} belongs to another run: {_difference(found['identity'], who)}; "
            "choose another --workdir, or go back to that config"
        )
    return workdir


def _has_lines(path: pathlib.Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def find(path: str | pathlib.Path) -> Workdir:
    """The work directory at `path`, or the experiment stage that ``RUN/stages/NAME`` names.

    Raises:
      KdError: there is none, or several stages of that name (the experiment was run with several
        configs).
    """
    path = local(path, "a work directory")
    stages = (
        sorted(path.parent.glob(f"{glob.escape(path.name)}-{_PRINT}/run.json"))
        if not path.exists()
        else []
    )
    if len(stages) > 1:
        raise KdError(
            f"{path} could be any of {', '.join(str(stage.parent) for stage in stages)}; name one "
            "of them"
        )
    workdir = Workdir(stages[0].parent if stages else path)
    if not (workdir.path / "run.json").is_file():
        raise KdError(
            f"{path} is not a work directory: it has no run.json; train into it first with 'kd "
            "train'"
        )
    return workdir


def write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    unfinished.replace(path)


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any], most: int = 3) -> str:
    a, b = _flat(theirs), _flat(ours)
    keys = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
    shown = [f"{key} is {a.get(key)!r} there and {b.get(key)!r} here" for key in keys[:most]]
    return ", ".join(shown) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in json.loads(json.dumps(tree)).items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
