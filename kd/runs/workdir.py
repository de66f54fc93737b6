"""A work directory: the run it belongs to, its checkpoints, its metrics, its evaluation."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kd.config import (
    Spec,
    code_names,
    damaged,
    fingerprint_of,
    identity,
    settings,
    stored_spec,
    to_json,
)
from kd.config.allowed import packages
from kd.data.examples import Examples
from kd.errors import KdError
from kd.lineage import Lineage
from kd.storage import BucketError, BucketRefused, claimed, is_there, may_write
from kd.system import words
from kd.system.paths import anywhere, check_ordinary
from kd.system.records import read_record, write_record
from kd.training.bucket_checkpoint import checkpoints_in
from kd.training.checkpoint import Checkpoints

_RESTORE = "choose another folder, or restore that file"
_OUTSIDE = ("code", "data_fingerprint")  # of an identity: what its config does not say
_LENGTH = ("total_epochs", "total_steps")
_PRINT = "[0-9a-f]" * 8  # what a stage's folder has after its name
_FILES = ("run.json", "metrics.jsonl", "timing.jsonl", "evaluation.json", "splits.jsonl", ".lock")
_OWNER = {"fingerprint": str, "identity": dict, "num_classes": int, "spec": dict}


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The files of one run. `claim` makes a folder one; `find` opens one that is there.

    `allow_code` are packages whose code its config may name: see `kd.config.allowed`.
    """

    path: pathlib.Path
    allow_code: tuple[str, ...] = ()

    @property
    def metrics(self) -> pathlib.Path:
        """One line of JSON per dispatch."""
        return self.path / "metrics.jsonl"

    @property
    def owner(self) -> dict[str, Any]:
        """What `claim` wrote: spec, identity, fingerprint, number of classes, inputs (`Seen`).

        Raises:
          KdError: it is damaged.
        """
        owner = read_record(self.path / "run.json", _RESTORE)
        for name, kind in _OWNER.items():
            if type(owner.get(name)) is not kind:
                raise self._damaged(f"'{name}' is missing or no {kind.__name__}")
        if fingerprint_of(owner["identity"]) != owner["fingerprint"]:
            raise self._damaged("its identity is not the one that its fingerprint names")
        return owner

    def _damaged(self, why: object) -> KdError:
        return damaged(self.path / "run.json", why)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the run: its config, its data and its teacher's fingerprint."""
        return self.owner["fingerprint"]

    @property
    def spec(self) -> Spec:
        """The resolved config of the run.

        Raises:
          KdError: it is damaged, or edited: it is not the config that the run's identity names; it
            names code that is not allowed.
        """
        owner = self.owner
        spec = stored_spec(owner["spec"], self.path / "run.json", self.allow_code)
        theirs = {key: value for key, value in owner["identity"].items() if key not in _OUTSIDE}
        names = (_flat(theirs).get(key, "") for key in ("teacher.workdir", "student.init"))
        ours = settings(spec, *names)
        if difference := _difference(theirs, ours, "in its identity", "in its spec"):
            raise self._damaged(difference)
        return spec

    @property
    def lineage(self) -> Lineage | None:
        """Where the run comes from; None where a version of kd recorded it that did not say.

        Raises:
          KdError: it is damaged.
        """
        told = self.owner.get("lineage")
        try:
            return None if told is None else Lineage.from_json(told)
        except ValueError as error:
            raise KdError(
                f"{self.path / 'run.json'} is damaged: {error}; restore that file"
            ) from error

    @property
    def splits(self) -> dict[str, str]:
        """The fingerprint of every split that the run looked at, or that somebody has looked at
        since: the first one counts.
        """
        noted: dict[str, str] = {}
        for run, split, fingerprint in self._noted():
            if run == self.fingerprint:
                noted.setdefault(split, fingerprint)
        return noted if self.lineage is None else noted | self.lineage.splits

    def _noted(self) -> list[list[str]]:
        try:
            text = self._looks.read_text("utf-8") if self._looks.exists() else ""
            notes: list[Any] = [json.loads(line) for line in text.splitlines()]
        except ValueError:
            notes = [None]
        for note in notes:
            if not (isinstance(note, list) and [type(part) for part in note] == [str] * 3):
                raise KdError(f"{self._looks} is damaged; remove it, and splits are noted anew")
        return notes

    @property
    def _looks(self) -> pathlib.Path:
        return self.path / "splits.jsonl"

    def note_split(self, split: str, fingerprint: str) -> None:
        """Note the fingerprint of a split that is looked at for the first time, where the folder
        can be written.
        """
        if split in self.splits or not may_write(self.path):
            return
        note = json.dumps([self.fingerprint, split, fingerprint]) + "\n"
        with contextlib.suppress(BucketRefused), self._looks.open("a", encoding="utf-8") as file:
            file.write(note)

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The record of a run that has arrived at its last step, or None. It is written once.

        Raises:
          KdError: it is damaged.
        """
        record = self.read("evaluation.json")
        if record is None:
            return None
        members = record.get("members")
        if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
            raise KdError(
                f"{self.path / 'evaluation.json'} is damaged: it has no members; remove it and "
                "start that run again"
            )
        return record

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training here. Raises a `KdError` if one is."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(claimed(self.path, words.say))
            except OSError as error:
                raise _not_writable(self.path, error) from error
            yield

    @property
    def has_metrics(self) -> bool:
        """Whether a line of metrics was ever written here."""
        return self.metrics.exists() and self.metrics.stat().st_size > 0

    @property
    def has_evaluation(self) -> bool:
        """Whether a run has ended here."""
        return is_there(self.path / "evaluation.json")

    @property
    def has_checkpoint(self) -> bool:
        """Whether a checkpoint was ever finished here."""
        folder = self.path / "checkpoints"
        return any((folder / "checksums").glob("*.json")) or any((folder / "steps").glob("[0-9]*"))

    def checkpoints(self, *, read_only: bool = False) -> Checkpoints:
        """The run's checkpoints."""
        return checkpoints_in(self.path / "checkpoints", read_only=read_only)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file whole or not at all, with a digest of its content."""
        try:
            write_record(self.path / name, content)
        except OSError as error:
            raise _not_writable(self.path / name, error) from error

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run, or None.

        Raises:
          KdError: it is damaged, or was edited.
        """
        if not is_there(self.path / name):
            return None
        return read_record(self.path / name, "restore it, or remove it and start that run again")


def made(path: pathlib.Path) -> Workdir:
    """The folder `path`, made where it is not there yet. Raises a `KdError` where it cannot be, or
    where what has the name of a run's file is none.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(path, error) from error
    _check_files(path)
    return Workdir(path)


def _check_files(path: pathlib.Path) -> None:
    for name in _FILES:
        check_ordinary(path / name)


def _not_writable(path: pathlib.Path, error: OSError) -> KdError:
    passing = isinstance(error, BucketError) and error.errno == errno.EIO
    mend = "start again when the bucket answers" if passing else "choose another --workdir"
    return KdError(f"cannot write work directory {path}: {error.strerror}; {mend}")


def owner_of(
    spec: Spec, data: Examples, teacher_fingerprint: str, init_fingerprint: str = ""
) -> dict[str, Any]:
    """What run.json says of a run, besides its lineage."""
    who = identity(spec, teacher_fingerprint, init_fingerprint)
    who["data_fingerprint"] = data.fingerprint
    return {
        "fingerprint": fingerprint_of(who),
        "num_classes": data.num_classes,
        "class_names": data.class_names,
        "inputs": dataclasses.asdict(data.seen),
        "identity": who,
        "spec": json.loads(to_json(spec)),
    }


def claim(
    path: pathlib.Path,
    spec: Spec,
    data: Examples,
    teacher_fingerprint: str,
    lineage: Callable[[], Lineage],
    init_fingerprint: str = "",
) -> Workdir:
    """Make `path` the work directory of this run, or find that it is already. One that holds
    no step and no record is free. `lineage` is asked where the run begins, and recorded. One that
    differs in its length alone is let through: see `kd.runs.longer`. So is one whose code alone
    has changed since: `kd.runs.reading.verify` refuses it by name, or goes on.

    Raises:
      KdError: it belongs to another run (the first keys that differ are shown), or cannot be
        written.
    """
    owner = owner_of(spec, data, teacher_fingerprint, init_fingerprint)
    who = owner["identity"]
    # what the caller's own config names was typed by the caller
    workdir = dataclasses.replace(made(path), allow_code=code_names(spec))
    try:
        if not (workdir.has_metrics or workdir.has_checkpoint or workdir.has_evaluation):
            workdir.write("run.json", {**owner, "lineage": lineage().to_json()})
            return workdir
        if not (path / "run.json").exists():
            raise KdError(
                f"{path} holds a run but no run.json to say which; restore it, or choose another "
                "--workdir"
            )
        # edited ones are refused here
        recorded, *_ = workdir.owner, workdir.spec, workdir.evaluation
        if not may_write(path):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise _not_writable(path, error) from error
    before = recorded["identity"]
    same = recorded["fingerprint"] == owner["fingerprint"] or _of_another_length(before, who)
    if not same and (workdir.lineage is None or not is_of_other_code(before, who)):
        raise KdError(
            f"work directory {path} belongs to another run: {_difference(before, who)}; "
            "choose another --workdir, or go back to that config and code"
        )
    if recorded["num_classes"] != owner["num_classes"]:
        raise workdir._damaged(
            f"num_classes is {recorded['num_classes']} and the data has {owner['num_classes']}"
        )
    if not (path / "checkpoints").is_dir():
        raise KdError(
            f"{path} holds a run and no checkpoints/ to continue from; restore that folder, choose "
            "another --workdir, or remove metrics.jsonl and evaluation.json to start anew"
        )
    return workdir


def find(path: str | pathlib.Path, allow_code: str | Iterable[str] = ()) -> Workdir:
    """The work directory at `path`, or the experiment stage that ``RUN/stages/NAME`` names.

    `allow_code` are packages whose code its config may name: see `kd.config.allowed`.

    Raises:
      KdError: there is none, or several stages of that name (the experiment was run with several
        configs); `allow_code` names no packages.
    """
    path = anywhere(path, "a work directory")
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
    workdir = Workdir(stages[0].parent if stages else path, packages(allow_code))
    _check_files(workdir.path)
    if not (workdir.path / "run.json").is_file():
        raise KdError(
            f"{path} is not a work directory: it has no run.json; train into it first with 'kd "
            "train'"
        )
    return workdir


def _of_another_length(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether two identities differ in nothing but how long the run is."""
    a, b = ({k: v for k, v in _flat(who).items() if k not in _LENGTH} for who in (theirs, ours))
    return a == b


def is_of_other_code(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether two identities differ in nothing but what the modules that they name say."""
    a, b = _flat(theirs), _flat(ours)
    different = [key for key in {*a, *b} if a.get(key) != b.get(key)]
    return all(key.startswith("code.") and key in a and key in b for key in different)


def _difference(
    theirs: Mapping[str, Any],
    ours: Mapping[str, Any],
    there: str = "there",
    here: str = "here",
    most: int = 3,
) -> str:
    """The first keys that differ, in words; empty where none does."""
    a, b = _flat(theirs), _flat(ours)
    keys = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
    shown = [f"{key} is {a.get(key)!r} {there} and {b.get(key)!r} {here}" for key in keys[:most]]
    return ", ".join(shown) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in json.loads(json.dumps(tree)).items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
