"""The paths that a user writes: one place says which of them this machine can have."""

from __future__ import annotations

import os
import pathlib

from kd.errors import KdError
from kd.storage import BucketPath, is_address, wrong_with


def anywhere(path: str | os.PathLike[str], what: str = "a path") -> pathlib.Path:
    """A path of this machine, as `local` gives it, or in a bucket.

    Raises:
      KdError: as `local`; an address that is no place in a bucket.
    """
    text = _text(path, what)
    if not is_address(text):
        return local(text, what)
    if wrong := wrong_with(text):
        raise KdError(f"{what}: {text} is an address, and {wrong}; give another, or a folder here")
    return BucketPath(text)


def local(path: str | os.PathLike[str], what: str = "a path") -> pathlib.Path:
    """The path with its ``~`` expanded; it need not be there yet.

    Raises:
      KdError: a bucket or another address, no such user, a zero byte or bytes that are no UTF-8, a
        name that no file system here takes, a circle of links.
    """
    text = _text(path, what)
    if is_address(text):
        raise KdError(f"{what}: {text} is an address; give a folder or file of this machine")
    expanded = pathlib.Path(text)
    try:
        text.encode()  # libraries in C take no other names
        expanded = expanded.expanduser()
        expanded.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # whoever opens it says so
    except (OSError, RuntimeError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise KdError(f"{what}: {text!r} is no path here: {cause}; choose another one") from error
    return expanded


def check_ordinary(path: pathlib.Path) -> None:
    """Raise a `KdError` where something has that name and is neither a file nor a folder: whoever
    opens a pipe waits for the other end, and some devices never end.
    """
    if isinstance(path, BucketPath) or not path.exists() or path.is_file() or path.is_dir():
        return
    raise KdError(f"{path} is no ordinary file; write what it gives into a file, and name that")


def _text(path: str | os.PathLike[str], what: str) -> str:
    try:
        text = os.fspath(path)
        if not isinstance(text, str):
            raise TypeError
    except TypeError:
        raise KdError(f"{what} must be a path, got {path!r}; give a folder or file") from None
    return text


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
