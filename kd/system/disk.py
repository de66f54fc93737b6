"""Files as the operating system has them: room for them, what went wrong, and checksums."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import re
import shutil
import zlib

# in what TensorStore raises, a ValueError
_CODE = re.compile(r"os_error_code='(\d+)'|OS error (\d+)")
_PROBED = 1 << 28  # bytes: what is larger is compared with the free space instead of claimed


def cause(error: Exception) -> str:
    """Why, in a few words: of a library's long text those of the operating system, which come
    last.
    """
    text = " ".join(str(error).split())
    number = _CODE.search(text)
    return getattr(error, "strerror", None) or (
        os.strerror(int(number[1] or number[2])) if number else text[:160]
    )


def is_cause(error: BaseException) -> bool:
    """Whether the operating system refused something, as a library tells it."""
    return isinstance(error, OSError) or _CODE.search(str(error)) is not None


def claim(probe: pathlib.Path, size: int) -> None:
    """Raise an OSError unless `size` bytes can be written beside `probe`."""
    if shutil.disk_usage(probe.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        with probe.open("wb") as file:
            if hasattr(
                os, "posix_fallocate"
            ):  # a file system without it writes every block: keep that short
                os.posix_fallocate(file.fileno(), 0, min(size, _PROBED))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot tell
            raise
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def checksums(folder: pathlib.Path) -> dict[str, int]:
    """CRC-32 of every file below a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): checksum(path) for path in files}


def checksum(path: pathlib.Path) -> int:
    """CRC-32 of a file of any size, a piece at a time."""
    total = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            total = zlib.crc32(piece, total)
    return total
