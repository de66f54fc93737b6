"""An experiment is a list of stages, each a training run keyed by its fingerprint: skipped if done, else resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from kd.config import Spec, fingerprint_of, identity
from kd.errors import KdError, unknown
from kd.run import train_workdir
from kd.workdir import write_json


@dataclasses.dataclass(frozen=True)
class Stage:
    """A training run of an experiment. `teacher` names an earlier stage; raise `version` when its meaning changes."""

    name: str
    spec: Spec
    teacher: str | None = None
    version: int = 1


@dataclasses.dataclass(frozen=True)
class Done:
    """A finished stage: where it lies, what it found, how long it took in all."""

    name: str
    fingerprint: str
    workdir: pathlib.Path
    evaluation: dict[str, Any]
    seconds: float


def stage_fingerprints(stages: Sequence[Stage]) -> dict[str, str]:
    """Fingerprint of every stage: its config, its version, and the fingerprint of the stage it learns from.

    Raises:
      KdError: two stages of one name, or a teacher that is not an earlier stage.
    """
    found: dict[str, str] = {}
    for stage in stages:
        if stage.name in found:
            raise KdError(f"two stages are named '{stage.name}'; give each its own name")
        if stage.teacher is not None and stage.teacher not in found:
            raise unknown(f"teacher of stage '{stage.name}':", stage.teacher, found)
        upstream = found.get(stage.teacher or "", "")
        found[stage.name] = fingerprint_of([identity(stage.spec, upstream), stage.version])
    return found


def run_stages(stages: Sequence[Stage], folder: pathlib.Path, say: Callable[[str], None] = print) -> dict[str, Done]:
    """Run what is not done yet, in order, each in a folder of its own that its fingerprint names.

    Raises:
      KdError: what training raises. kd.signals.Interrupted: asked to stop; the same call continues.
    """
    fingerprints, done = stage_fingerprints(stages), {}
    for number, stage in enumerate(stages, 1):
        workdir = folder / "stages" / f"{stage.name}-{fingerprints[stage.name][:8]}"
        finished = _finished(workdir)
        if finished is None:
            spec = stage.spec
            if stage.teacher is not None:
                teacher = dataclasses.replace(spec.teacher, workdir=str(done[stage.teacher].workdir.resolve()))
                spec = dataclasses.replace(spec, teacher=teacher)
            finished = _train(spec, workdir, f"stage {number}/{len(stages)} {stage.name}")
        else:
            say(f"stage {number}/{len(stages)} {stage.name}: done before, skipped")
        done[stage.name] = Done(
            stage.name, fingerprints[stage.name], workdir, finished["evaluation"], finished["seconds"]
        )
    return done


def _train(spec: Spec, workdir: pathlib.Path, title: str) -> dict[str, Any]:
    clock = workdir / "seconds.json"
    start = time.monotonic()
    before = json.loads(clock.read_text("utf-8"))["seconds"] if clock.exists() else 0.0
    try:
        evaluation = train_workdir(spec, workdir, title=title)
    finally:  # an interrupted stage remembers the time it has used
        seconds = before + time.monotonic() - start
        with contextlib.suppress(OSError):  # a full disk has its own message already
            write_json(clock, {"seconds": seconds})
    finished = {"evaluation": evaluation, "seconds": seconds}
    write_json(workdir / "stage.json", finished)
    return finished


def _finished(workdir: pathlib.Path) -> dict[str, Any] | None:
    path = workdir / "stage.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None
