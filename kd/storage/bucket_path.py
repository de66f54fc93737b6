"""A path in a bucket that is read, written and listed as a path of this machine is."""

from __future__ import annotations

import fnmatch
import io
import os
import pathlib
import re
import stat
from collections.abc import Generator, Iterator
from typing import Any

from kd.storage import parts, store

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_BUCKET = re.compile(r"(gs|s3)://(?P<name>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?P<key>/.*)?")
_GROWING = (".jsonl", ".damaged")  # what is appended to
_MOST = 900  # bytes of a name, which may be 1,024


def is_address(text: str) -> bool:
    """Whether a text names something by scheme, a bucket or anything else."""
    return _ADDRESS.match(text) is not None


def wrong_with(text: str) -> str:
    """What keeps an address from naming a place in a bucket; "" where nothing does."""
    if not text.startswith(("gs://", "s3://")):
        return "of buckets gs://BUCKET/… and s3://BUCKET/… are known"
    match = _BUCKET.fullmatch(text)
    if match is None:
        return "that names no bucket: small letters, digits, dashes, dots, three of them or more"
    key = (match["key"] or "").strip("/")
    if any(part in ("", ".", "..") for part in key.split("/")) and key:
        return "a name in a bucket has no empty part, and neither . nor .."
    if not key.isprintable() or any(sign in key for sign in "*?[]#"):
        return "a name in a bucket has none of *?[]# and nothing that cannot be printed"
    if len(key.encode(errors="replace")) > _MOST:
        return f"a name in a bucket has {_MOST} bytes at most"
    return ""


class BucketPath(pathlib.PosixPath):
    """``gs://BUCKET/KEY`` or ``s3://BUCKET/KEY``.

    A folder is there where something is in it, and need not be made. A write is whole or not at
    all. Nothing can be appended to: a file of lines (``.jsonl``) is kept in numbered parts, which
    are read as one.
    """

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    @property
    def bucket(self) -> str:
        """``gs://BUCKET``."""
        return f"{self.parts[0]}//{self.parts[1]}"

    @property
    def key(self) -> str:
        """The name in the bucket; "" of the bucket itself."""
        return "/".join(self.parts[2:])

    @property
    def _lines(self) -> bool:
        return self.suffix in _GROWING

    @property
    def _inside(self) -> str:
        """What the names of everything in this folder begin with."""
        return f"{self.key}/" if self.key else ""

    def _content(self) -> bytes:
        content = (
            parts.read(self.bucket, self.key)
            if self._lines
            else store.get(self.bucket, self.key).content
        )
        if content is None:
            raise FileNotFoundError(2, os.strerror(2), str(self))
        return content

    def _write(self, content: bytes, append: bool = False) -> None:
        if self._lines:
            write = parts.append if append else parts.rewrite
            write(self.bucket, self.key, content)
        elif append:
            raise io.UnsupportedOperation(f"nothing can be appended to {self}")
        else:
            store.put(self.bucket, self.key, content)

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """As of `pathlib.Path`; what is written arrives when it is closed."""
        del buffering
        kind = mode.replace("b", "").replace("t", "")
        if kind not in ("r", "w", "a"):
            raise io.UnsupportedOperation(f"no mode {mode!r} in a bucket")
        file = io.BytesIO(self._content()) if kind == "r" else _Written(self, kind == "a")
        return file if "b" in mode else io.TextIOWrapper(file, encoding or "utf-8", errors, newline)

    def exists(self, **_: Any) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self, **_: Any) -> bool:
        if self._lines:
            return bool(parts.listed(self.bucket, self.key))
        return bool(self.key) and store.has(self.bucket, self.key)

    def is_dir(self, **_: Any) -> bool:
        return not self._lines and bool(store.names(self.bucket, self._inside))

    def stat(self, **_: Any) -> os.stat_result:
        """Kind and size; a bucket has no owners and kd asks for no times."""
        if not self._lines and self.is_dir():
            return os.stat_result((stat.S_IFDIR | 0o777, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        size = len(self._content())
        return os.stat_result((stat.S_IFREG | 0o666, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def iterdir(self) -> Generator[BucketPath, None, None]:
        inside = self._starting("")
        if not inside:
            raise FileNotFoundError(2, os.strerror(2), str(self))
        yield from inside

    def _starting(self, letters: str) -> list[BucketPath]:
        """What is in this folder under names that begin with these letters."""
        start = len(self._inside)
        keys = store.names(self.bucket, self._inside + letters)
        first = dict.fromkeys(key[start:].partition("/")[0] for key in keys)
        return [self / name for name in first if name]

    def glob(self, pattern: str, **__: Any) -> Iterator[BucketPath]:  # type: ignore[override]
        """Paths in this folder that fit a pattern of one or more parts."""
        first, _, rest = str(pattern).partition("/")
        plain = re.split(r"[*?[]", first, maxsplit=1)[0]
        if plain != first:
            paths = [path for path in self._starting(plain) if fnmatch.fnmatch(path.name, first)]
        else:
            paths = [self / first] if rest or (self / first).exists() else []
        return (below for path in paths for below in path.glob(rest)) if rest else iter(paths)

    def rglob(self, pattern: str, **_: Any) -> Iterator[BucketPath]:  # type: ignore[override]
        """All files below whose own names fit a pattern."""
        start = len(self._inside)
        below = (self / key[start:] for key in store.names(self.bucket, self._inside))
        return (path for path in below if fnmatch.fnmatch(path.name, str(pattern)))

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Nothing: a folder is there when something is in it."""

    def rmdir(self) -> None:
        """Nothing: a folder goes with what was in it."""

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(2, os.strerror(2), str(self))
        if self._lines:
            parts.remove(self.bucket, self.key)
        else:
            store.put(self.bucket, self.key, None)

    def replace(self, target: Any) -> BucketPath:
        """Written there, then removed here: whoever is stopped between the two finds both."""
        moved = type(self)(target)
        moved._write(self._content())
        self.unlink(missing_ok=True)
        return moved

    rename = replace  # type: ignore[assignment]

    def resolve(self, strict: bool = False) -> BucketPath:
        del strict
        return self

    def absolute(self) -> BucketPath:
        return self

    def expanduser(self) -> BucketPath:
        return self

    def is_absolute(self) -> bool:
        return True


class _Written(io.BytesIO):
    """What is written to a path of a bucket, until it is closed."""

    def __init__(self, path: BucketPath, append: bool) -> None:
        super().__init__()
        self._path, self._append = path, append

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._path._write(content, self._append)
