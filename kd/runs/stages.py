"""An experiment is a list of stages, each keyed by its fingerprint: skipped if done, else run or
resumed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd.config import Spec, check_idle, code_names, fingerprint_of, identity
from kd.errors import KdError, unknown
from kd.names import lookup
from kd.placement.ambient import pinned
from kd.runs.build import check_spec
from kd.runs.first import init_fingerprint
from kd.runs.load import load_trained
from kd.runs.run import train_workdir
from kd.runs.teachers import teacher_fingerprint
from kd.runs.workdir import Workdir, find
from kd.storage import BucketPath, send
from kd.system import words
from kd.system.copies import brought
from kd.system.records import write_json
from kd.teachers.trained import Trained
from kd.user_code import reached


@dataclasses.dataclass(frozen=True)
class Stage:
    """A training run of an experiment; raise `version` when its meaning changes.

    `teacher` names the earlier stage that it learns from, where its config names no weights from
    outside; `data` the one whose folder holds its data.
    """

    name: str
    spec: Spec
    teacher: str | None = None
    version: int = 1
    data: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The earlier stages that this one rests on."""
        return tuple(need for need in (self.teacher, self.data) if need is not None)


@dataclasses.dataclass(frozen=True)
class Computation:
    """A stage that is not a training run:
    ``function(folder, done, **options, **places) -> result``.

    `function` is ``package.module:name``; it writes its files into `folder`, finds the earlier
    stages that it `needs` in ``done`` by name, and returns what JSON can hold. A change of
    `options`, of its code (its module, those of the user's own that it imports, and the modules
    that `code` names), of what it needs or of `version` makes another stage; `places` say where and
    not what.
    """

    name: str
    function: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    places: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: int = 1


@dataclasses.dataclass(frozen=True)
class Done:
    """A finished stage: where it lies, what it found, how long it took in all. The files of a
    computation in a bucket are read in a copy here.

    `evaluation` is a training run's evaluation, or what a computation returned; `code` the names
    of code in a training run's config, which whoever wrote the experiment has typed.
    """

    name: str
    fingerprint: str
    workdir: pathlib.Path
    evaluation: dict[str, Any]
    seconds: float
    code: tuple[str, ...] = ()

    def trained(self) -> Trained:
        """What this training run trained. Raises a `KdError` as `kd.load_trained` does."""
        return load_trained(self.workdir, allow_code=self.code)


def stage_fingerprints(stages: Sequence[Stage | Computation]) -> dict[str, str]:
    """Fingerprint of every stage: its config or its code and options, and the fingerprints of what
    it rests on.

    Raises:
      KdError: two stages of one name, or one that needs a stage which is not an earlier one.
    """
    fingerprints: dict[str, str] = {}
    for stage in stages:
        if stage.name in fingerprints:
            raise KdError(f"two stages are named '{stage.name}'; give each its own name")
        for need in stage.needs:
            if need not in fingerprints:
                role = "teacher" if isinstance(stage, Stage) and need == stage.teacher else "need"
                raise unknown(f"{role} of stage '{stage.name}':", need, fingerprints)
        fingerprints[stage.name] = stage_fingerprint(stage, fingerprints)
    return fingerprints


def stage_fingerprint(stage: Stage | Computation, needed: Mapping[str, str]) -> str:
    """Fingerprint of one stage, from the fingerprints of what it rests on by name."""
    return fingerprint_of(_identity(stage, needed))


def _who(spec: Spec, teacher: str) -> dict[str, Any]:
    return identity(spec, teacher or teacher_fingerprint(spec), init_fingerprint(spec))


def _identity(stage: Stage | Computation, fingerprints: Mapping[str, str]) -> list[Any]:
    if isinstance(stage, Stage):
        data = [] if stage.data is None else [fingerprints[stage.data]]
        return [_who(stage.spec, fingerprints.get(stage.teacher or "", "")), stage.version, *data]
    return [
        stage.function,
        dict(stage.options),
        [fingerprints[need] for need in stage.needs],
        reached(name.partition(":")[0] for name in (stage.function, *stage.code)),
        stage.version,
    ]


@pinned()
def run_stages(
    stages: Sequence[Stage | Computation], folder: pathlib.Path, say: Callable[[str], None] = print
) -> dict[str, Done]:
    """Run what is not done yet, in order, each in a folder of its own that its fingerprint names.

    Raises:
      KdError: a stage that cannot be trained, before any is; what a stage raises.
        kd.processes.signals.Interrupted: asked to stop; the same call continues.
    """
    fingerprints, done = stage_fingerprints(stages), {}
    workdirs = {
        name: folder / "stages" / f"{name}-{fingerprint[:8]}"
        for name, fingerprint in fingerprints.items()
    }
    skip = [name for name, workdir in workdirs.items() if _finished(workdir) is not None]
    with words.doing(f"checking {len(stages)} stages"):
        check_stages(stages, skip)
    for number, stage in enumerate(stages, 1):
        workdir = workdirs[stage.name]
        title = f"stage {number}/{len(stages)} {stage.name}"
        finished = _finished(workdir)
        if finished is not None:
            _check_own(stage, workdir, done)
            say(f"{title}: done before, skipped")
        elif isinstance(stage, Stage):
            finished = _train(_placed(stage, done, workdirs), workdir, title)
        else:
            with words.doing(title):
                finished = _compute(stage, {need: done[need] for need in stage.needs}, workdir)
            say(f"{title}: {finished['seconds']:.1f} s")
        done[stage.name] = Done(
            stage.name,
            fingerprints[stage.name],
            workdir if isinstance(stage, Stage) else brought(workdir),
            finished["evaluation"],
            finished["seconds"],
            code_names(stage.spec) if isinstance(stage, Stage) else (),
        )
    return done


def check_stages(stages: Sequence[Stage | Computation], skip: Sequence[str] = ()) -> None:
    """Raise a `KdError` that names the first training run that is known to fail when its turn
    comes: hours later.

    Runs on data that an earlier stage computes are left to their turn, and so are those of `skip`.
    """
    specs = {
        stage.name: stage.spec
        for stage in stages
        if isinstance(stage, Stage) and stage.data is None
    }
    for stage in stages:
        if not isinstance(stage, Stage) or stage.name in skip:
            continue
        _check_columns(stage)
        if stage.name not in specs or (stage.teacher is not None and stage.teacher not in specs):
            continue
        try:
            check_spec(stage.spec, None if stage.teacher is None else specs[stage.teacher])
        except KdError as error:
            raise KdError(f"stage '{stage.name}': {error}") from error


def _check_columns(stage: Stage) -> None:
    """What needs no data to be known: an experiment sets the columns after the config was
    resolved.
    """
    try:
        _ = stage.spec.members
        check_idle(stage.spec)
    except KdError as error:
        raise KdError(f"stage '{stage.name}': {error}") from error


def _check_own(stage: Stage | Computation, workdir: pathlib.Path, done: Mapping[str, Done]) -> None:
    """Raise a `KdError` where a training run's folder holds another run: its numbers are not this
    one's.
    """
    if isinstance(stage, Computation):
        return
    teacher = "" if stage.teacher is None else find(done[stage.teacher].workdir).fingerprint
    theirs = {
        key: value
        for key, value in find(workdir).owner["identity"].items()
        if key != "data_fingerprint"
    }
    if fingerprint_of(theirs) != fingerprint_of(_who(stage.spec, teacher)):
        raise KdError(
            f"{workdir} holds another run than stage '{stage.name}'; remove it, and the same "
            "command trains it"
        )


def _placed(stage: Stage, done: Mapping[str, Done], workdirs: Mapping[str, pathlib.Path]) -> Spec:
    """The stage's config with the folders of what it rests on, which are no part of its
    identity.
    """
    spec = stage.spec
    if stage.teacher is not None:
        taught = done[stage.teacher]
        teacher = dataclasses.replace(
            spec.teacher, workdir=str(taught.workdir.resolve()), source=None
        )
        allowed = (*spec.allow_code, *taught.code)
        spec = dataclasses.replace(spec, teacher=teacher, allow_code=allowed)
    if stage.data is not None:
        data = dataclasses.replace(spec.data, data_dir=str(workdirs[stage.data].resolve()))
        spec = dataclasses.replace(spec, data=data)
    return spec


def _train(spec: Spec, workdir: pathlib.Path, title: str) -> dict[str, Any]:
    clock = workdir / "seconds.json"
    start = time.monotonic()
    before = _number(clock, Workdir(workdir).read(clock.name) or {"seconds": 0.0}, "seconds")
    try:
        evaluation = train_workdir(spec, workdir, title=title)
    finally:  # an interrupted stage remembers the time it has used
        seconds = before + time.monotonic() - start
        with contextlib.suppress(OSError):  # a full disk has its own message already
            write_json(clock, {"seconds": seconds})
    finished = {"evaluation": evaluation, "seconds": seconds}
    write_json(workdir / "stage.json", finished)
    return finished


def _compute(
    stage: Computation, needs: Mapping[str, Done], workdir: pathlib.Path
) -> dict[str, Any]:
    """Compute in a folder beside, and rename it when everything is written: what has the name is
    whole. In a bucket it is copied there, its record last.
    """
    if isinstance(workdir, BucketPath):
        with Workdir(workdir).locked(), tempfile.TemporaryDirectory(prefix="kd-stage-") as folder:
            _write_result(stage, needs, pathlib.Path(folder))
            send(pathlib.Path(folder), workdir, last="stage.json")
    else:
        unfinished = workdir.with_name(workdir.name + ".unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        with Workdir(unfinished).locked():
            _empty(unfinished)
            _write_result(stage, needs, unfinished)
            unfinished.rename(workdir)
    # what a later call finds, tuples as lists too
    return json.loads((workdir / "stage.json").read_text("utf-8"))


def _write_result(stage: Computation, needs: Mapping[str, Done], folder: pathlib.Path) -> None:
    start = time.monotonic()
    result = lookup("function", stage.function, {})(folder, needs, **stage.options, **stage.places)
    finished = {"evaluation": result, "seconds": time.monotonic() - start}
    write_json(folder / "stage.json", finished)


def _empty(folder: pathlib.Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def _finished(workdir: pathlib.Path) -> dict[str, Any] | None:
    record = Workdir(workdir).read("stage.json")
    if record is not None:
        _number(workdir / "stage.json", record, "seconds")
        if not isinstance(record.get("evaluation"), dict):
            raise _damaged(workdir / "stage.json", "evaluation")
    return record


def _number(path: pathlib.Path, content: Any, key: str) -> float:
    if not isinstance(content, dict) or not isinstance(content.get(key), (int, float)):
        raise _damaged(path, key)
    return content[key]


def _damaged(path: pathlib.Path, key: str) -> KdError:
    return KdError(f"{path} is damaged: it has no {key}; remove it and start that run again")
