"""Checkpoints: written by Orbax, verified by checksum, the one before taken when the newest is damaged."""

from __future__ import annotations

import errno
import json
import logging
import os
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from kd.errors import KdError
from kd.types import PyTree


class Checkpoints:
    """The checkpoints in a folder; the two newest are kept.

    Orbax writes each one atomically. Beside it lies a checksum of its every file, written last, so that files that
    were cut short, have flipped bits or are missing are noticed before anything reads them.
    """

    def __init__(self, folder: pathlib.Path, say: Callable[[str], None] = print, *, read_only: bool = False) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._steps, self._sums, self._say = folder.resolve() / "steps", folder / "checksums", say
        self._damaged: set[int] = set()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, create=not read_only, read_only=read_only
        )
        try:
            if not read_only:
                self._sums.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self._steps, options=options)
        except OSError as error:
            raise KdError(
                f"cannot write checkpoints in {folder}: {error.strerror}; choose another --workdir"
            ) from error

    def save(self, step: int, tree: PyTree) -> None:
        """Write `tree` as the checkpoint of `step`; does nothing if that step is there already.

        Raises:
          KdError: it cannot be written, for example because the disk is full; earlier checkpoints stay.
        """
        if step in set(self._manager.all_steps()) - self._damaged:
            return
        arrays = jax.tree.map(np.asarray, _to_arrays(tree))
        try:
            self._drop_damaged()
            self._claim_room(jax.tree.leaves(arrays))
            self._manager.save(step, args=ocp.args.StandardSave(arrays))
            self._manager.wait_until_finished()
            self._write_sums(step)
        except Exception as error:  # Orbax and TensorStore raise many kinds; each means that this step is not saved
            raise self._not_saved(step, error) from error

    def restore(self, example: PyTree | None = None) -> Any:
        """The newest checkpoint that is whole; None if there is none. A damaged one is reported and passed over.

        Placed and structured like `example`; without one, as nested dictionaries of arrays.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            fault = self._fault(step)
            if fault is None:
                return self._read(step, example)
            self._damaged.add(step)
            self._say(
                f"the checkpoint of step {step} in {self._steps.parent} is damaged ({fault}); taking the one before"
            )
        return None

    def close(self) -> None:
        """Release the manager's threads."""
        self._manager.close()

    def _read(self, step: int, example: PyTree | None) -> Any:
        if example is None:
            return self._manager.restore(step, args=ocp.args.StandardRestore())
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _to_arrays(example)
        )
        arrays = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        return jax.tree.map(lambda x, e: jax.random.wrap_key_data(x) if _is_key(e) else x, arrays, example)

    def _drop_damaged(self) -> None:
        # Orbax skips a step below its newest without a word, and would keep a damaged one in place of a whole one.
        for step in self._damaged & set(self._manager.all_steps()):
            self._manager.delete(step)
        self._damaged.clear()

    def _claim_room(self, arrays: list[np.ndarray]) -> None:
        # Orbax, out of space half-way, prints pages from its threads before it raises. It writes every array twice.
        size = 2 * sum(array.nbytes for array in arrays) + 4096 * (2 * len(arrays) + 16)
        probe = self._sums / "room.unfinished"
        try:
            with probe.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot tell
                raise
        finally:
            probe.unlink(missing_ok=True)

    def _write_sums(self, step: int) -> None:
        text = json.dumps(_checksums(self._steps / str(step)), indent=0)
        unfinished = self._sums / f"{step}.unfinished"
        unfinished.write_text(text, "utf-8")
        os.replace(unfinished, self._sums / f"{step}.json")
        kept = {str(s) for s in self._manager.all_steps()}
        for path in self._sums.iterdir():
            if path.stem not in kept:
                path.unlink()

    def _fault(self, step: int) -> str | None:
        path = self._sums / f"{step}.json"
        try:
            expected = dict(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError):
            return "its checksums were never finished"
        found = _checksums(self._steps / str(step))
        for name, value in expected.items():
            if found.get(name) != value:
                return f"{name} is {'missing' if name not in found else 'not what was written'}"
        return None

    def _not_saved(self, step: int, error: Exception) -> KdError:
        kept = max((s for s in self._manager.all_steps() if s != step and s not in self._damaged), default=None)
        last = "there is no earlier one" if kept is None else f"the one of step {kept} stays"
        cause = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
        return KdError(
            f"cannot save the checkpoint of step {step} in {self._steps.parent}: {cause}; {last}; "
            "free some space and start again"
        )


def _checksums(folder: pathlib.Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): zlib.crc32(path.read_bytes()) for path in files}


def _to_arrays(tree: PyTree) -> PyTree:
    """Typed keys become plain integers; everything else stays."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
