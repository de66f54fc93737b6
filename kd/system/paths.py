"""The paths that a user writes: one place says which of them this machine can have."""

from __future__ import annotations

import os
import pathlib
import re

from kd.errors import KdError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def local(path: str | os.PathLike[str], what: str = "a path") -> pathlib.Path:
    """The path with its ``~`` expanded; it need not be there yet.

    Raises:
      KdError: a bucket or another address, no such user, a zero byte, a name that no file system
        here takes, a circle of links.
    """
    try:
        text = os.fspath(path)
        if not isinstance(text, str):
            raise TypeError
    except TypeError:
        raise KdError(f"{what} must be a path, got {path!r}; give a folder or file") from None
    if _ADDRESS.match(text):
        raise KdError(
            f"{what}: {text} is an address, and buckets are not supported yet; give a folder or "
            "file of this machine"
        )
    expanded = pathlib.Path(text)
    try:
        expanded = expanded.expanduser()
        expanded.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # whoever opens it says so
    except (OSError, RuntimeError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise KdError(f"{what}: {text!r} is no path here: {cause}; choose another one") from error
    return expanded


def split_file(text: str) -> tuple[str, str]:
    """``FILE[:ARGUMENT]`` as file and argument; both may hold colons.

    Of several readings the longest file that is there counts.
    """
    colons = [place for place, sign in enumerate(text) if sign == ":"]
    for place in [len(text), *reversed(colons)]:
        if local(text[:place], "config file").is_file():
            return text[:place], text[place + 1 :]
    file, _, argument = text.partition(":")
    return file, argument
