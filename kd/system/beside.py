"""Files that only a disk takes, of a run in a bucket: dashboards append to theirs, a profiler
writes into a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib

from kd.storage import BucketPath
from kd.system import kept


class Beside:
    """`path` is where such files of a work directory are written: in itself, or of one in a bucket
    in a folder of this machine, ``KD_CACHE_DIR/beside/*/NAME``, the same for each of its starts.
    """

    def __init__(self, workdir: pathlib.Path) -> None:
        self.path = self._workdir = workdir
        if isinstance(workdir, BucketPath):
            self.path = kept.place("beside") / kept.key_of(str(workdir)) / workdir.name

    def make(self) -> None:
        """The folder is there from now on; those that were unused longest may go."""
        if self.path == self._workdir:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        os.utime(self.path.parent)
        kept.trim(self.path.parent.parent, kept.LIMITS["beside"])

    def bring(self, name: str) -> None:
        """Take a file from the bucket where it is not the one that this machine had there last."""
        if self.path == self._workdir or not (self._workdir / name).is_file():
            return
        content, same = (self._workdir / name).read_bytes(), self._same()
        if _digest(content) != same.get(name):
            (self.path / name).write_bytes(content)
            self._note({**same, name: _digest(content)})

    def send(self) -> int:
        """Copy into the bucket what is not there yet, or has changed here. The number of files.

        Raises:
          OSError: it cannot be written there, or read here.
        """
        if self.path == self._workdir:
            return 0
        same, sent = self._same(), 0
        try:
            for file in sorted(self.path.rglob("*")):
                name = str(file.relative_to(self.path))
                content = file.read_bytes() if file.is_file() else None
                if content is None or _digest(content) == same.get(name):
                    continue
                (self._workdir / name).write_bytes(content)
                same[name], sent = _digest(content), sent + 1
        finally:
            if sent:
                self._note(same)
        return sent

    @property
    def _noted(self) -> pathlib.Path:
        return self.path.parent / "same.json"

    def _note(self, same: dict[str, str]) -> None:
        self._noted.write_text(json.dumps(same), "utf-8")

    def _same(self) -> dict[str, str]:
        """The digest of what was the same here and there, under each name."""
        try:
            told = json.loads(self._noted.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
