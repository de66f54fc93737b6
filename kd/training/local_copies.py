"""Copies of the newest state on a disk of each machine: fast to write, and first to be read.

The checkpoints of the work directory stay what a run rests on. A copy is taken where every process
has its own part of it, whole and of the layout that the run has now; else it is as if there were
none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from kd.core import rng
from kd.core.types import PyTree
from kd.errors import KdError
from kd.processes import group
from kd.processes.handover import fetch, offered
from kd.system import disk
from kd.system.records import digest_of, read_record, write_record
from kd.training.checkpoint import Checkpoints
from kd.training.saving import Ends, abstract, ends_of, is_key, to_arrays

_KEPT = 2  # processes stop at moments of their own: the step before may be the newest that all have
_STEP = re.compile(r"(\d{1,10})\.json")
_FORM = 1  # of the files: other ones are none of ours

Part = tuple[np.ndarray, Ends]


class Copies:
    """The copies of one process, in `folder`, which is its own; a copy is due after `every` steps.

    A copy that cannot be written is said once, and training goes on without copies.
    """

    def __init__(
        self, folder: pathlib.Path, every: int, say: Callable[[str], None] = print
    ) -> None:
        self._folder, self._every, self._say = folder, every, say
        self._last = 0
        self._writing: threading.Thread | None = None
        self._broken = False

    def begin(self, step: int) -> None:
        """The run is at `step`, whose state is safe: the next copy is due so much later."""
        self._last = step

    def due(self, step: int) -> bool:
        """Whether there should be a copy now."""
        return step - self._last >= self._every and not self._broken

    def save(self, step: int, tree: PyTree, position: Mapping[str, Any] | None = None) -> None:
        """Copy this process's part of `tree`, and a JSON-able `position`.

        Returns when the arrays are copied off the devices; files are written in the background.
        """
        self.wait()
        self.begin(step)
        parts = [list(_parts(leaf)) for leaf in jax.tree.leaves(to_arrays(tree))]
        arguments = (step, parts, None if position is None else dict(position))
        self._writing = threading.Thread(target=self._write, args=arguments, name="kd-copy")
        self._writing.start()

    def wait(self) -> None:
        """Until the copy under way is on the disk."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None

    def newest(self, example: PyTree) -> int | None:
        """The newest step of which every process has a whole copy, of the layout of `example`;
        None if there is none.

        A process that has none takes that of another which keeps the same parts: of data parallel
        processes each does, or its like in another slice.
        """
        layout = _layout(example)
        whole = [step for step in self._steps() if self._is_whole(step, layout)]
        told = {"steps": whole, "layout": digest_of(layout)}
        chosen = group.first_judges("copies", told, _chosen)
        if chosen is None or not chosen["sources"]:
            return chosen and chosen["step"]
        step = chosen["step"]
        with self._offering(step, chosen["sources"]):
            self._fetch(step, chosen["sources"])
            there = self._is_whole(step, layout)
            complete = group.first_judges("copies handed over", there, all)
        return step if complete else None

    @contextlib.contextmanager
    def _offering(self, step: int, sources: Mapping[str, int]) -> Iterator[None]:
        """While inside, the processes that are sources offer the files of a step."""
        peers, mine = group.peers(), group.index()
        if peers is None or mine not in sources.values():
            yield
            return
        files, address = [self._folder / name for name in _names(step)], ""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # whoever asks for it then is told so
                host = peers.place.address.rpartition(":")[0].strip("[]")
                address = stack.enter_context(offered(files, host))
            peers.put(self._key(step, mine), address)
            yield

    def _key(self, step: int, source: int) -> str:
        return f"kd/copies/{self._folder.parent.name}/{step}/{source}"

    def _fetch(self, step: int, sources: Mapping[str, int]) -> None:
        """Take the files of a step from this process's source, where it has one."""
        peers, mine = group.peers(), str(group.index())
        if peers is None or mine not in sources:
            return
        address = peers.wait(self._key(step, sources[mine]))
        with contextlib.suppress(OSError):  # then the copy is not whole, which all are told
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in _names(step):
                fetch(address, name, self._folder)

    def read(self, step: int, example: PyTree) -> tuple[Any, dict[str, Any] | None]:
        """The state of `step`, placed like `example`, and its position."""
        record = self._record(step)
        leaves, structure = jax.tree.flatten(example)
        pieces = iter(self._pieces(record, (self._folder / f"{step}.arrays").read_bytes()))
        state = [_placed(leaf, [next(pieces) for _ in _indices(leaf)]) for leaf in leaves]
        return jax.tree.unflatten(structure, state), record["position"]

    def remove(self) -> None:
        """The run has arrived: nothing is left to lose."""
        self.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()  # the last process of this machine

    def _write(self, step: int, parts: list[list[Part]], position: dict[str, Any] | None) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = self._folder / f"{step}.arrays"
            total = 0
            with file.open("wb") as out:
                for piece, _ in (part for leaf in parts for part in leaf):
                    data = piece.tobytes()
                    total = zlib.crc32(data, total)
                    out.write(data)
                out.flush()
                os.fsync(out.fileno())
            layout = [_described(leaf) for leaf in parts]
            content = {"form": _FORM, "position": position, "layout": layout, "crc": total}
            write_record(self._folder / f"{step}.json", content)
            self._clear()
        except OSError as error:
            self._broken = True
            self._say(
                f"cannot keep a local copy in {self._folder} ({disk.cause(error)}): training goes "
                "on without copies; free some space, or choose another config.local_copy.folder"
            )

    def _clear(self) -> None:
        """Keep the newest copies alone."""
        for step in self._steps()[_KEPT:]:
            for name in _names(step):
                (self._folder / name).unlink(missing_ok=True)

    def _steps(self) -> list[int]:
        """Those that were written to the end, the newest first."""
        names = os.listdir(self._folder) if self._folder.is_dir() else []
        steps = [match[1] for match in map(_STEP.fullmatch, names) if match]
        return sorted(map(int, steps), reverse=True)

    def _is_whole(self, step: int, layout: Any) -> bool:
        try:
            record = self._record(step)
            if record.get("form") != _FORM or record.get("layout") != layout:
                return False
            return record.get("crc") == disk.checksum(self._folder / f"{step}.arrays")
        except (KdError, OSError):
            return False

    def _record(self, step: int) -> dict[str, Any]:
        return read_record(self._folder / f"{step}.json", "remove it")

    def _pieces(self, record: Mapping[str, Any], data: bytes) -> Iterator[np.ndarray]:
        start = 0
        for leaf in record["layout"]:
            kind = np.dtype(leaf["dtype"])
            for index in leaf["parts"]:
                shape = [stop - begin for begin, stop in index]
                size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
                yield np.frombuffer(data[start : start + size], kind).reshape(shape)
                start += size


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a run goes on from: its state, and the position that was saved with it."""

    state: Any
    position: Mapping[str, Any]


def restored(checkpoints: Checkpoints, copies: Copies | None, example: PyTree) -> Restored:
    """The newest state that is whole, of copies and checkpoints; `example` itself if there is none.

    A copy that is at least as new as the newest checkpoint is read without asking for that one.
    """
    copied = None if copies is None else copies.newest(example)
    if copies is None or copied is None:
        return _from_checkpoints(checkpoints, example)
    if copied >= group.first_does("newest", lambda: checkpoints.newest):
        return Restored(*_read(copies, copied, example))
    saved = _from_checkpoints(checkpoints, example)
    if saved.state is example or copied > int(np.max(np.asarray(saved.state.step))):
        return Restored(*_read(copies, copied, example))
    return saved


def _chosen(of_each: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The newest step that every process has, or can take from another of its layout, and who takes
    it from whom.
    """
    for step in sorted({step for told in of_each for step in told["steps"]}, reverse=True):
        holders = {told["layout"]: i for i, told in enumerate(of_each) if step in told["steps"]}
        without = {i: told["layout"] for i, told in enumerate(of_each) if step not in told["steps"]}
        if all(layout in holders for layout in without.values()):
            return {"step": step, "sources": {str(i): holders[at] for i, at in without.items()}}
    return None


def _names(step: int) -> tuple[str, str]:
    """The files of a copy, in the order in which they are written."""
    return f"{step}.arrays", f"{step}.json"


def _from_checkpoints(checkpoints: Checkpoints, example: PyTree) -> Restored:
    state = checkpoints.restore(example)
    return Restored(example if state is None else state, checkpoints.last_position or {})


def _read(copies: Copies, step: int, example: PyTree) -> tuple[Any, Mapping[str, Any]]:
    state, position = copies.read(step, example)
    return state, position or {}


def _parts(leaf: jax.Array) -> Iterator[Part]:
    """Its pieces on the devices of this process, each once, in order."""
    shards = {ends_of(shard.index, leaf.shape): shard.data for shard in leaf.addressable_shards}
    for ends in sorted(shards):
        # a copy: the device writes the next state over this one
        yield np.array(shards[ends]), ends


def _described(parts: list[Part]) -> dict[str, Any]:
    return _form(parts[0][0].dtype, [ends for _, ends in parts])


def _layout(example: PyTree) -> list[dict[str, Any]]:
    """What `_described` says of each leaf of a state that is placed like `example`."""
    leaves = jax.tree.leaves(example)
    return [_form(np.dtype(abstract(leaf).dtype), _indices(leaf)) for leaf in leaves]


def _form(kind: np.dtype, pieces: list[Ends]) -> dict[str, Any]:
    """As JSON keeps it."""
    return {"dtype": str(kind), "parts": [[list(pair) for pair in ends] for ends in pieces]}


def _indices(leaf: Any) -> list[Ends]:
    """The pieces of it on the devices of this process, each once, in order."""
    return sorted(set(_by_device(leaf).values()))


def _by_device(leaf: Any) -> dict[Any, Ends]:
    form = abstract(leaf)
    indices = form.sharding.addressable_devices_indices_map(form.shape)
    return {device: ends_of(index or (), form.shape) for device, index in indices.items()}


def _placed(leaf: Any, pieces: list[np.ndarray]) -> Any:
    """An array like `leaf` from its pieces, in the order of `_indices`."""
    form = abstract(leaf)
    by_ends = dict(zip(_indices(leaf), pieces, strict=True))
    arrays = [jax.device_put(by_ends[ends], device) for device, ends in _by_device(leaf).items()]
    whole = jax.make_array_from_single_device_arrays(form.shape, form.sharding, arrays)
    return rng.wrapped(whole) if is_key(leaf) else whole
