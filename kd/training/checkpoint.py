"""Checkpoints: written in the background, verified by checksum, the one before taken when the
newest is damaged.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from kd.core import rng
from kd.core.types import PyTree
from kd.errors import KdError
from kd.processes import group
from kd.storage import BucketError
from kd.system import disk
from kd.training import late_writes
from kd.training.saving import Saving, abstract, is_key, to_arrays

STEP = re.compile(r"0|[1-9]\d{0,9}")


class Checkpoints:
    """The checkpoints in a folder; the two newest are kept.

    Orbax writes each one atomically, every process its own shards. Beside it lies a checksum of its
    every file, written last and by process 0, so that files that were cut short, have flipped bits
    or are missing are noticed before anything reads them. All processes of a run share the folder
    and make the same calls in the same order.
    """

    _mend = "free some space and start again"

    def __init__(
        self, folder: pathlib.Path, say: Callable[[str], None] = print, *, read_only: bool = False
    ) -> None:
        late_writes.silence()
        self._steps, self._sums, self._say = (
            folder.resolve() / "steps",
            folder.resolve() / "checksums",
            say,
        )
        self._folder, self._read_only, self._damaged = folder, read_only, set[int]()
        self._saving: Saving | None = None
        self._failed = False
        self.last_position: dict[str, Any] | None = None
        """The position that was saved with the checkpoint that `restore` gave."""
        self._opened: ocp.CheckpointManager | None = None
        if not read_only:
            group.first_does("checkpoints", self._make)

    def save(self, step: int, tree: PyTree, position: Mapping[str, Any] | None = None) -> None:
        """Write `tree` and a JSON-able `position` as the checkpoint of `step`; nothing if that step
        is there already.

        Returns when the arrays are copied off the devices; the rest is done in the background, and
        `wait` ends it.

        Raises:
          KdError: this one, or the one before, cannot be written, for example because the disk is
            full; earlier checkpoints stay.
        """
        self.wait()
        arrays = to_arrays(tree)
        try:
            group.first_does("aside", self._set_aside)
            self._damaged.clear()
            if not self._begin(step, arrays, position):
                return
        except BucketError as error:
            raise self._not_saved(step, error) from error
        except KdError:
            raise
        # Orbax and TensorStore raise many kinds; each means that this step is not saved
        except Exception as error:
            raise self._not_saved(step, error) from error
        self._saving = Saving(step, self._finish)

    def _begin(self, step: int, arrays: PyTree, position: Mapping[str, Any] | None) -> bool:
        """Copy the arrays off the devices, for `_finish`; False where the step is there."""
        if step in self._manager.all_steps():
            return False
        group.first_does("room", lambda: self._claim_room(step, jax.tree.leaves(arrays)))
        items: dict[str, Any] = {"state": ocp.args.PyTreeSave(arrays)}
        if position is not None:
            items["position"] = ocp.args.JsonSave({"position": dict(position)})
        self._manager.save(step, args=ocp.args.Composite(**items))
        return True

    def wait(self) -> None:
        """Block until everything is on disk. Raises a `KdError` if it could not be written."""
        saving, self._saving = self._saving, None
        if saving is None:
            return
        error = saving.error()
        self._failed = self._failed or error is not None

        def outcome() -> None:
            if error is not None:
                raise self._not_saved(saving.step, error) from error

        group.first_does("saved", outcome)
        outcome()

    def restore(self, example: PyTree | None = None) -> Any:
        """The newest checkpoint that is whole; None if there is none. A damaged one is reported and
        passed over.

        Structured and placed like `example`, arrays or ``jax.ShapeDtypeStruct`` with a sharding,
        from whatever devices it was saved; without one, nested dictionaries of NumPy arrays. Its
        position is in `last_position`.

        Raises:
          KdError: it was written by a version of kd whose checkpoints hold no position, or holds
            other arrays than `example`, such as keys of another implementation.
        """
        self.wait()
        chosen = group.first_does("restore", self._choose)
        self._damaged |= set(chosen["damaged"])
        step = chosen["step"]
        self.last_position = None if step is None else self.position(step)
        return None if step is None else self._read(step, example)

    @property
    def newest(self) -> int:
        """The step of the newest one, whole or not; -1 if there is none."""
        return max(self._there(), default=-1)

    def position(self, step: int) -> dict[str, Any] | None:
        """The position that was saved with the checkpoint of `step`; None if there was none."""
        if not (self._steps / str(step) / "position").is_dir():
            return None
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            return reader.restore(self._steps / str(step) / "position")["position"]

    def close(self) -> None:
        """Wait until everything is on disk and release the manager's threads.

        Raises what `wait` raises.
        """
        try:
            self.wait()
        finally:
            self._release()

    def _release(self) -> None:
        if self._failed:  # Orbax would raise once more what `wait` has raised
            with contextlib.suppress(Exception):
                self._manager.wait_until_finished()
        if self._opened is not None:
            self._opened.close()

    @property
    def _manager(self) -> ocp.CheckpointManager:
        """Orbax's, opened when something is saved: it trips over a damaged checkpoint that it
        finds.
        """
        if self._opened is None:
            handlers = {
                "state": ocp.PyTreeCheckpointHandler(
                    use_compression=False
                ),  # weights and moments hardly get smaller
                "position": ocp.JsonCheckpointHandler(),
            }
            options = ocp.CheckpointManagerOptions(
                max_to_keep=2, create=False, async_options=ocp.AsyncOptions(timeout_secs=3600)
            )
            self._opened = ocp.CheckpointManager(
                self._steps, options=options, item_handlers=handlers
            )
        return self._opened

    def _there(self) -> set[int]:
        """Steps of the checkpoints that are there, whole or not; what is half-written has another
        name.
        """
        names = [p.name for p in self._steps.iterdir()] if self._steps.is_dir() else []
        return {int(name) for name in names if STEP.fullmatch(name)}

    def _choose(self) -> dict[str, Any]:
        damaged = []
        sums = [p.stem for p in self._sums.glob("*.json")] if self._sums.is_dir() else []
        gone = {int(name) for name in sums if STEP.fullmatch(name)} - self._there()
        for step in sorted(self._there() | gone, reverse=True):
            if self._read_only and not (self._sums / f"{step}.json").exists():
                continue  # that run is still writing it, or was stopped then
            fault = self._fault(step)
            if fault is None:
                return {"step": step, "damaged": damaged}
            if self._read_only and step not in gone and not (self._steps / str(step)).is_dir():
                raise FileNotFoundError(
                    errno.ENOENT, "removed while it was read", str(self._steps / str(step))
                )
            damaged.append(step)
            self._pass_over(step, fault)
        return {"step": None, "damaged": damaged}

    def _pass_over(self, step: int, fault: str) -> None:
        self._say(
            f"the checkpoint of step {step} in {self._steps.parent} is damaged ({fault}); "
            f"taking the one before{self._what_becomes_of_it(step)}"
        )

    def _what_becomes_of_it(self, step: int) -> str:
        if self._read_only or step not in self._there():
            return ""
        return f", and keeping it as {self._aside(step)} when the next one is saved"

    def _read(self, step: int, example: PyTree | None) -> Any:
        if example is None:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                saved = reader.metadata(self._steps / str(step) / "state")
            wanted = jax.tree.map(_in_memory, saved.item_metadata.tree)
            return self._restored(step, wanted)
        try:
            arrays = self._restored(step, jax.tree.map(abstract, example))
        except ValueError as error:  # keys written under another default of JAX, for example
            raise KdError(
                f"the checkpoint of step {step} in {self._steps.parent} holds other arrays than "
                f"this run, whose keys are {rng.IMPLEMENTATION} ({disk.cause(error)}); choose "
                "another --workdir"
            ) from error
        return jax.tree.map(lambda x, e: rng.wrapped(x) if is_key(e) else x, arrays, example)

    def _restored(self, step: int, wanted: PyTree) -> PyTree:
        how = ocp.checkpoint_utils.construct_restore_args(wanted)
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            return reader.restore(
                self._steps / str(step) / "state",
                args=ocp.args.PyTreeRestore(wanted, restore_args=how),
            )

    def _finish(self, step: int) -> None:
        """In the background: Orbax ends its writing, then process 0 the checksums."""
        self._manager.wait_until_finished()
        if group.is_first():
            self._write_sums(step)

    def _set_aside(self) -> None:
        # Orbax skips a step below its newest without a word, and would keep a damaged one in place
        # of a whole one. It is not deleted: the fault may lie in its checksums alone.
        for step in self._damaged & self._there():
            aside = self._aside(step)
            aside.parent.mkdir(exist_ok=True)
            (self._steps / str(step)).rename(aside)

    def _aside(self, step: int) -> pathlib.Path:
        """A free name for a damaged checkpoint."""
        folder, number = self._steps.parent / "set-aside", 1
        while (folder / f"{step}.{number}").exists():
            number += 1
        return folder / f"{step}.{number}"

    def _claim_room(self, step: int, arrays: list[Any]) -> None:
        # Orbax, out of space half-way, prints pages from its threads before it raises. It writes
        # every array twice.
        size = 2 * sum(array.nbytes for array in arrays) + 4096 * (2 * len(arrays) + 24)
        try:
            disk.claim(self._sums / "room.unfinished", size)
        except OSError as error:
            raise self._not_saved(step, error) from error

    def _write_sums(self, step: int) -> None:
        text = json.dumps(disk.checksums(self._steps / str(step)), indent=0)
        unfinished = self._sums / f"{step}.unfinished"
        unfinished.write_text(text, "utf-8")
        os.replace(unfinished, self._sums / f"{step}.json")
        kept = {str(s) for s in self._manager.all_steps()}
        for path in self._sums.iterdir():
            if path.stem not in kept and path.is_file():
                path.unlink()

    def _fault(self, step: int) -> str | None:
        path = self._sums / f"{step}.json"
        if (self._steps / str(step) / "default").is_dir():
            raise KdError(
                f"the checkpoints in {self._steps.parent} were written by an earlier version of "
                "kd, without a position "
                "in the data, and cannot be continued; choose another --workdir"
            )
        try:
            expected = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            expected = None
        if not isinstance(expected, dict) or not expected:
            return "its checksums were never finished"
        sums = disk.checksums(self._steps / str(step))
        for name, value in expected.items():
            if sums.get(name) != value:
                return f"{name} is {'missing' if name not in sums else 'not what was written'}"
        return None

    def _not_saved(self, step: int, error: Exception) -> KdError:
        if not isinstance(error, OSError):  # Orbax's barriers fail too when another process is lost
            group.explain(error)
        kept = self._newest_but(step)
        last = "there is no earlier one" if kept is None else f"the one of step {kept} stays"
        return KdError(
            f"cannot save the checkpoint of step {step} in {self._steps.parent}: "
            f"{disk.cause(error)}; {last}; {self._mend}"
        )

    def _newest_but(self, step: int) -> int | None:
        return max((s for s in self._there() - self._damaged if s != step), default=None)

    def _make(self) -> None:
        try:
            self._steps.mkdir(parents=True, exist_ok=True)
            self._sums.mkdir(exist_ok=True)
        except OSError as error:
            raise _not_writable(self._folder, error) from error


def _not_writable(folder: pathlib.Path, error: OSError) -> KdError:
    return KdError(
        f"cannot write checkpoints in {folder}: {error.strerror}; choose another --workdir"
    )


def _in_memory(form: Any) -> np.ndarray:
    """An array of the form that was saved, which takes no room: it asks Orbax for NumPy."""
    return np.broadcast_to(np.zeros((), form.dtype), form.shape)
