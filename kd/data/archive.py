"""The files of a folder, a .zip or a .tar(.gz, .bz2, .xz): one way to list and to read them.

What an archive declares is checked before anything is allocated for it, and nothing is unpacked to
disk.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import lzma
import os
import pathlib
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from kd.errors import KdError, reading
from kd.storage import is_address
from kd.system.copies import brought
from kd.system.memory import available_memory
from kd.system.paths import anywhere, check_ordinary

_ANEW = "give a folder, a .zip or a .tar.gz that is whole"
_MOST = 10_000_000
"""Members of an archive."""
_DEFLATE = 1032
"""Bytes that one deflated byte can stand for at most; no honest archive declares more."""
_BOMB = 200
"""Times its own size that a packed tar may unpack to."""
_SMALL = 2**20
Wanted = Callable[[tuple[str, ...]], bool]

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


@dataclasses.dataclass(frozen=True)
class Member:
    """A file of a folder or archive: its `name` with slashes, the bytes that it holds.

    `checksum` says which bytes these are, where the archive knows. Any thread may read, at any
    time.
    """

    name: str
    size: int
    checksum: str
    location: str
    content: Callable[[], bytes] = dataclasses.field(repr=False, compare=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders and file name."""
        return tuple(self.name.split("/"))

    def read(self) -> bytes:
        """The bytes.

        Raises:
          KdError: they cannot be read, are damaged, or are not as many as was declared.
        """
        with reading(self.location):
            content = self.content()
            if len(content) != self.size:
                raise ValueError(f"it holds {len(content)} bytes and {self.size} are declared")
        return content


def members(
    path: pathlib.Path,
    wanted: Wanted = lambda _: True,
    largest: int | None = None,
    fix: str = _ANEW,
) -> Iterator[Member]:
    """The members of a folder or archive whose parts are `wanted`, without those of some system
    (``.name``, ``__MACOSX``).

    `largest` is how many bytes one of them may have; memory sets a limit anyway. `fix` is what an
    error advises.

    Raises:
      KdError: no folder or archive, or one that is damaged, encrypted, or holds links, sparse
        files, names that lead outside, a name twice, or more than it can hold.
    """
    asked = _Asked(wanted, min(largest or sys.maxsize, available_memory()))
    seen: set[str] = set()
    with reading(path, fix):
        for member in _listed(path, asked):
            if member.name in seen:
                raise KdError(f"{path} holds {member.name} twice; keep one of them")
            if len(seen) == _MOST:
                raise KdError(f"{path} holds more than {_MOST:,} files; split it up")
            seen.add(member.name)
            yield member


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Which members, and the most bytes that one of them may have."""

    wanted: Wanted
    most: float

    def passes(self, parts: tuple[str, ...]) -> bool:
        foreign = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        return not foreign and self.wanted(parts)

    def check(self, location: str, size: int) -> None:
        if size > self.most:
            raise KdError(
                f"{location} declares {size:,} bytes, and {self.most:,.0f} is the most that one "
                "may have here; remove it"
            )


def _listed(path: pathlib.Path, asked: _Asked) -> Iterator[Member]:
    if path.is_dir():
        return _in_folder(path, path, asked, ())
    with path.open("rb") as file:
        magic = file.read(2)
    if magic == b"PK" or zipfile.is_zipfile(path):
        return _in_zip(path, asked)
    return _in_tar(path, asked)


def find_data(source: str, data_dir: str | None) -> pathlib.Path:
    """Where the file or folder `source` lies: in `data_dir`; without one in ``KD_DATA_DIR``, else
    here.

    An absolute path or address is itself, and ``~`` is the home folder. What is in a bucket is
    copied here.

    Raises:
      KdError: it is in none of them, or neither a file nor a folder.
    """
    source = os.path.expanduser(source)
    other = os.environ.get("KD_DATA_DIR")
    places = [data_dir] if data_dir else [place for place in (other, ".") if place]
    paths = [_path(place, source) for place in places]
    for path in paths:
        if source and os.path.exists(here := brought(path)):
            check_ordinary(here)
            return here
    if os.path.isabs(source) or data_dir or other:
        raise KdError(
            f"no {paths[0]}; point KD_DATA_DIR or --data_dir at the folder that holds {source}"
        )
    raise KdError(
        f"no {source} in this folder; set KD_DATA_DIR to the folder that holds it, or --data_dir"
    )


def _path(place: str, source: str) -> pathlib.Path:
    if is_address(source):
        return anywhere(source, "data")
    if is_address(place) and not os.path.isabs(source):
        return anywhere(f"{place}/{source}", "data_dir")
    return pathlib.Path(place).expanduser() / source


def _in_folder(
    top: pathlib.Path,
    folder: pathlib.Path,
    asked: _Asked,
    above: tuple[str, ...],
) -> Iterator[Member]:
    """Links are followed, but never round in a circle."""
    real = os.path.realpath(folder)
    if real in above:
        raise KdError(f"{folder} is a link to a folder that holds it; remove it")
    for path in sorted(folder.iterdir()):
        parts = path.relative_to(top).parts
        if path.is_dir() and not path.name.startswith("."):
            yield from _in_folder(top, path, asked, (*above, real))
        elif asked.passes(parts):
            status = path.stat()  # a link to nothing is an error
            if not stat.S_ISREG(status.st_mode):
                raise KdError(f"{path} is no ordinary file; remove it")
            asked.check(str(path), status.st_size)
            yield Member("/".join(parts), status.st_size, "", str(path), path.read_bytes)


def _parts(name: str, path: pathlib.Path) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or any(char < " " for char in name):
        raise KdError(f"{path} holds a name that is no safe one, {name!r:.80}; pack it anew")
    return parts


def _in_zip(path: pathlib.Path, asked: _Asked) -> Iterator[Member]:
    length, packed = path.stat().st_size, 0
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_directory(path, entries, archive.start_dir)
    with path.open("rb") as file:
        for entry in entries:
            location = f"{entry.filename} in {path}"
            parts = _parts(entry.orig_filename.replace("\\", "/"), path)
            packed += entry.compress_size
            _check_entry(entry, location)
            if packed > length:
                raise KdError(f"{path} declares more than its {length:,} bytes can hold; {_ANEW}")
            with reading(location, _ANEW):  # of what is not wanted too: its name may be damaged
                _local(file, entry)
            if entry.is_dir() or not asked.passes(parts):
                continue
            asked.check(location, entry.file_size)
            content = _ZipContent(path, entry)
            yield Member("/".join(parts), entry.file_size, f"{entry.CRC:08x}", location, content)


def _check_directory(path: pathlib.Path, entries: list[zipfile.ZipInfo], start: int) -> None:
    """zipfile takes a damaged length for the end, and the entries after it would be lost without a
    word.
    """
    lengths = [
        46 + len(_stored_name(entry)) + len(entry.extra) + len(entry.comment) for entry in entries
    ]
    with path.open("rb") as file:
        file.seek(start + sum(lengths))
        end = file.read(40)
    kind, counts = end[:4], {b"PK\x05\x06": end[10:12], b"PK\x06\x06": end[32:40]}  # zip64
    whole = kind in counts and int.from_bytes(counts[kind], "little") == len(entries)
    if not whole or (start and not entries):
        raise zipfile.BadZipFile("its list of files is damaged")


def _stored_name(entry: zipfile.ZipInfo) -> bytes:
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")


def _check_entry(entry: zipfile.ZipInfo, location: str) -> None:
    if entry.is_dir() and entry.file_size:
        raise KdError(f"{location} is a folder that declares content; {_ANEW}")
    if entry.flag_bits & 1:
        raise KdError(f"{location} is encrypted; unpack it, and pack it anew without a password")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise KdError(f"{location} is a link; pack the file that it leads to in its place")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise KdError(f"{location} is compressed in an unusual way; pack it anew with 'deflate'")
    if entry.file_size > _most(entry):
        raise KdError(
            f"{location} declares {entry.file_size:,} bytes, more than {entry.compress_size:,} "
            f"packed ones can hold; {_ANEW}"
        )


def _most(entry: zipfile.ZipInfo) -> int:
    packed = entry.compress_size
    return packed if entry.compress_type == zipfile.ZIP_STORED else _DEFLATE * packed


def _local(file: Any, entry: zipfile.ZipInfo) -> None:
    """Move to where the content of an entry begins; its name is there a second time."""
    file.seek(entry.header_offset)
    fields = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    name, extra = file.read(fields[-2]), fields[-1]
    if fields[0] != b"PK\x03\x04" or name != _stored_name(entry):
        raise ValueError("the header before its content is damaged")
    if fields[3] != entry.compress_type:
        raise ValueError("it is compressed in one of two ways")
    file.seek(extra, os.SEEK_CUR)


@dataclasses.dataclass(frozen=True)
class _ZipContent:
    """Holds no open file, so that any thread or process may read, and never unpacks more than was
    declared.
    """

    path: pathlib.Path
    entry: zipfile.ZipInfo

    def __call__(self) -> bytes:
        entry = self.entry
        with self.path.open("rb") as file:
            _local(file, entry)
            content = file.read(entry.compress_size)
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            content = inflate.decompress(content, entry.file_size + 1)
        if zlib.crc32(content) != entry.CRC:
            raise ValueError("its checksum is not that of its bytes")
        return content


_PACKED: dict[bytes, Callable[[pathlib.Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
}


def _in_tar(path: pathlib.Path, asked: _Asked) -> Iterator[Member]:
    with path.open("rb") as file:
        unpack = _PACKED.get(file.read(2))
    with path.open("rb") if unpack is None else unpack(path) as file:
        bounded: Any = _Bounded(file, path)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            for entry in archive:
                vars(archive)["members"].clear()  # tarfile would keep them all
                parts = _parts(entry.name, path)
                if not entry.isdir() and asked.passes(parts):
                    asked.check(f"{entry.name} in {path}", entry.size)
                    yield _tar_member(path, entry, parts, None if unpack is None else file)
            _check_end(archive, bounded)


class _Bounded:
    """A tar file for tarfile to read headers from: none is huge, and no archive is a bomb."""

    def __init__(self, file: Any, path: pathlib.Path) -> None:
        self._file, self._path = file, path
        self._end = 64 * _SMALL + _BOMB * path.stat().st_size

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int) -> int:
        if position > self._end:
            raise KdError(
                f"{self._path} declares {position:,} bytes or more, over {_BOMB} times its own "
                "size; pack it anew"
            )
        return self._file.seek(position)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _SMALL:
            raise KdError(f"{self._path} has a header of {size:,} bytes; pack it anew")
        self.seek(self.tell())
        return self._file.read(size)


def _tar_member(
    path: pathlib.Path, entry: tarfile.TarInfo, parts: tuple[str, ...], packed: Any | None
) -> Member:
    location = f"{entry.name} in {path}"
    if entry.issym() or entry.islnk():
        raise KdError(f"{location} is a link; pack the file that it leads to: tar --dereference")
    if entry.issparse():
        raise KdError(f"{location} is a sparse file; pack it whole, without --sparse")
    if not entry.isreg():
        raise KdError(f"{location} is no ordinary file; remove it")
    if packed is None:
        content = _TarContent(path, entry.offset_data, entry.size)
        if entry.offset_data + entry.size > path.stat().st_size:
            raise KdError(f"{location} declares {entry.size:,} bytes, more than are there; {_ANEW}")
        return Member("/".join(parts), entry.size, "", location, content)
    packed.seek(entry.offset_data)
    held = packed.read(entry.size)
    return Member("/".join(parts), entry.size, f"{zlib.crc32(held):08x}", location, lambda: held)


@dataclasses.dataclass(frozen=True)
class _TarContent:
    path: pathlib.Path
    offset: int
    size: int

    def __call__(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def _check_end(archive: tarfile.TarFile, file: _Bounded) -> None:
    """tarfile takes a damaged header for the end, and what comes after it would be lost without a
    word.
    """
    file.seek(archive.offset)
    if any(block.strip(b"\0") for block in iter(lambda: file.read(_SMALL), b"")):
        raise tarfile.ReadError("a header inside is damaged")
