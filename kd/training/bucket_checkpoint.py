"""Checkpoints in a bucket, where nothing can be renamed: objects in a folder of their own for every
try, and a marker that is written when all of them are there.

``steps/STEP/TRY/`` holds the pieces of the arrays and ``index.json``, which says what they are, and
``checksums/STEP.json`` names the try and the CRC-32 of each of its objects. A step whose marker is
not there was never saved.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import pathlib
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from kd.core import rng
from kd.core.types import PyTree
from kd.errors import KdError
from kd.processes import group
from kd.storage import BucketPath, parts, store
from kd.system.copies import brought
from kd.system.records import read_record, write_record
from kd.training import chunks
from kd.training.checkpoint import STEP, Checkpoints
from kd.training.chunks import Damaged, Form
from kd.training.saving import abstract, is_key

_KEPT = 2
_INDEX = "index.json"
_MADE = ".pieces"  # a folder of such checkpoints


@dataclasses.dataclass(frozen=True)
class _Try:
    """A checkpoint that is being written: its folder, its pieces of this process, what they are."""

    name: str
    folder: pathlib.Path
    pieces: Mapping[str, np.ndarray]
    index: bytes


class BucketCheckpoints(Checkpoints):
    """`Checkpoints` in a bucket. Every process writes its own pieces, and reads those that its
    devices hold, each once.
    """

    _mend = "start again when the bucket can be written"
    _trying: _Try | None = None
    _last: int | None = None  # of those that are whole, as far as this process knows

    def _begin(self, step: int, arrays: PyTree, position: Mapping[str, Any] | None) -> bool:
        if step in group.first_does("steps", lambda: sorted(self._there())):
            return False
        name = group.first_does("try", lambda: uuid.uuid4().hex[:12])
        forms, leaves = chunks.leaves_of(arrays)
        pieces: dict[str, np.ndarray] = {}
        for form, leaf in zip(forms, leaves, strict=True):
            pieces |= chunks.owned(form, leaf)
        told = {"arrays": [dataclasses.asdict(form) for form in forms], "position": position}
        folder = self._folder.joinpath("steps", str(step), name)
        self._trying = _Try(name, folder, pieces, json.dumps(told).encode())
        return True

    def _finish(self, step: int) -> None:
        trying, self._trying = self._trying, None
        assert trying is not None
        sums = chunks.written(trying.folder, trying.pieces)
        if not group.is_first():
            _write_json(self._of_process(trying, group.index()), sums)
            return
        for other in range(1, group.count()):
            sums |= self._awaited(trying, other)
        (trying.folder / _INDEX).write_bytes(trying.index)
        sums[_INDEX] = zlib.crc32(trying.index)
        parts.settle(str(self._folder.parent))  # the metrics up to this step
        write_record(self._marker(step), {"try": trying.name, "sums": sums})
        self._last = step
        self._clean()

    def _of_process(self, trying: _Try, process: int) -> pathlib.Path:
        """Where a process says which pieces it has written."""
        return trying.folder / f"process-{process}.json"

    def _awaited(self, trying: _Try, process: int) -> dict[str, int]:
        path, begun = self._of_process(trying, process), time.monotonic()
        while not path.is_file():
            if time.monotonic() - begun > store.patience():
                raise TimeoutError(errno.ETIMEDOUT, f"process {process} has not written its part")
            time.sleep(0.2)
        return json.loads(path.read_text("utf-8"))

    def _clean(self) -> None:
        """Remove all but the newest checkpoints, and what was never finished; markers first."""
        steps = sorted(self._there())
        for step in steps[:-_KEPT]:
            self._marker(step).unlink(missing_ok=True)
        try:
            kept = {self._read_marker(step)["try"] for step in steps[-_KEPT:]}
        except Damaged:  # nothing says which objects are its own
            return
        for aside in self._folder.joinpath("set-aside").glob("*.json"):
            kept |= set(json.loads(aside.read_text("utf-8"))["tries"])
        top = self._folder.joinpath("steps")
        old = [path for path in top.rglob("*") if _try_of(path.relative_to(top)) not in kept]
        store.each(lambda path: path.unlink(missing_ok=True), old)

    def restore(self, example: PyTree | None = None) -> Any:
        self.wait()
        self.last_position = None
        for step in group.first_does("restore", lambda: sorted(self._there(), reverse=True)):
            fault, tree = self._tried(step, example)
            fault = _agreed(fault)
            if fault is None:
                self._last = step
                return tree
            self._damaged.add(step)
            if group.is_first():
                self._pass_over(step, fault)
        return None

    def _tried(self, step: int, example: PyTree | None) -> tuple[str | None, Any]:
        """What is wrong with a checkpoint, or its arrays."""
        try:
            folder, sums = self._whole(step)
            told = self._told(folder, sums)
            forms = [Form.from_json(form) for form in told["arrays"]]
            tree = self._placed(step, chunks.Reader(folder, sums), forms, example)
        except Damaged as damage:
            if self._read_only and not self._marker(step).is_file():
                marker = str(self._marker(step))
                raise FileNotFoundError(errno.ENOENT, "removed while it was read", marker) from None
            return str(damage), None
        self.last_position = told["position"]
        return None, tree

    def _placed(
        self, step: int, reader: chunks.Reader, forms: list[Form], example: PyTree | None
    ) -> Any:
        if example is None:
            return chunks.nested(forms, reader.arrays(forms, [None] * len(forms)))
        wanted = jax.tree.map(abstract, example)
        leaves = jax.tree_util.tree_leaves_with_path(wanted)
        like = {chunks.form_of(path, leaf).name: leaf for path, leaf in leaves}
        there = {form.name: form for form in forms}
        if difference := _difference(there, like):
            raise KdError(
                f"the checkpoint of step {step} in {self._steps.parent} holds other arrays than "
                f"this run, whose keys are {rng.IMPLEMENTATION} ({difference}); choose another "
                "--workdir"
            )
        arrays = reader.arrays([there[name] for name in like], list(like.values()))
        tree = jax.tree.unflatten(jax.tree.structure(wanted), arrays)
        return jax.tree.map(lambda x, e: rng.wrapped(x) if is_key(e) else x, tree, example)

    def position(self, step: int) -> dict[str, Any] | None:
        try:
            return self._told(*self._whole(step))["position"]
        except Damaged:
            return None

    def _whole(self, step: int) -> tuple[pathlib.Path, dict[str, int]]:
        marker = self._read_marker(step)
        return self._folder.joinpath("steps", str(step), marker["try"]), marker["sums"]

    def _told(self, folder: pathlib.Path, sums: Mapping[str, int]) -> dict[str, Any]:
        try:
            index = (folder / _INDEX).read_bytes()
        except FileNotFoundError:
            raise Damaged(f"{_INDEX} is missing") from None
        if zlib.crc32(index) != sums.get(_INDEX):
            raise Damaged(f"{_INDEX} is not what was written")
        return json.loads(index)

    def _read_marker(self, step: int) -> dict[str, Any]:
        try:
            marker = read_record(self._marker(step), "it is taken as damaged")
        except store.BucketError:
            raise
        except KdError as error:
            raise Damaged("its checksums are not what was written") from error
        if not (isinstance(marker.get("try"), str) and isinstance(marker.get("sums"), dict)):
            raise Damaged("its checksums are not what was written")
        return marker

    def _set_aside(self) -> None:
        for step in self._damaged & self._there():
            marker, folder = self._marker(step), self._folder.joinpath("steps", str(step))
            tries = [path.name for path in folder.iterdir()] if folder.is_dir() else []
            text = marker.read_text("utf-8", "replace")
            _write_json(self._aside(step), {"tries": tries, "marker": text})
            marker.unlink(missing_ok=True)

    def _aside(self, step: int) -> pathlib.Path:
        number = 1
        while (path := self._folder.joinpath("set-aside", f"{step}.{number}.json")).exists():
            number += 1
        return path

    def _there(self) -> set[int]:
        markers = self._folder.joinpath("checksums").glob("*.json")
        return {int(path.stem) for path in markers if STEP.fullmatch(path.stem)}

    def _newest_but(self, step: int) -> int | None:
        """Without asking the bucket, which may be what fails."""
        return self._last if self._last != step else None

    def _make(self) -> None:
        if not (self._folder / _MADE).is_file():
            (self._folder / _MADE).write_text("", "utf-8")

    def _release(self) -> None:
        """Nothing is held."""

    def _marker(self, step: int) -> pathlib.Path:
        return self._folder.joinpath("checksums", f"{step}.json")


def checkpoints_in(
    folder: pathlib.Path, say: Callable[[str], None] = print, *, read_only: bool = False
) -> Checkpoints:
    """The checkpoints in a folder of this machine or of a bucket. A run that was copied from one to
    the other is read as it is.

    Raises:
      KdError: such a run is to be continued.
    """
    remote, begun = isinstance(folder, BucketPath), folder.is_dir()
    pieces = (folder / _MADE).is_file()  # the first that is there: another process may begin now
    if not read_only and remote != pieces and begun:
        there = "on a disk and copied into a bucket" if remote else "in a bucket and copied"
        raise KdError(
            f"the run in {folder.parent} was trained {there}; it can be read, and goes on where it "
            "was: choose another --workdir"
        )
    if remote and begun and not pieces:
        return Checkpoints(brought(folder), say, read_only=True)
    kind = BucketCheckpoints if remote or pieces else Checkpoints
    return kind(folder, say, read_only=read_only)


def _agreed(fault: str | None) -> str | None:
    """The fault that keeps any process from reading a checkpoint."""
    try:
        group.check_same("read the same checkpoint", {"fault": fault or ""})
    except KdError:
        return fault or "another process cannot read it"
    return fault


def _difference(there: Mapping[str, Form], here: Mapping[str, Any]) -> str:
    for name in sorted({*there, *here}):
        if name not in there or name not in here:
            return f"{name} is {'there' if name in there else 'here'} alone"
        form, leaf = there[name], here[name]
        if form.shape != tuple(leaf.shape) or form.dtype != str(leaf.dtype):
            return f"{name} is {form.dtype}{list(form.shape)} there"
    return ""


def _try_of(path: pathlib.PurePath) -> str:
    """The second part of ``STEP/TRY/...``."""
    return (*path.parts, "", "")[1]


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=0), "utf-8")
