"""Names in files that were stored, by whomever: which of them may become code.

What a caller types may name any code. A file under a work directory, a data directory or a results
folder may not: its names resolve in kd's tables, and ``package.module:name`` resolves only where
the caller allows that package and the object is defined there.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import sys
from collections.abc import Iterable
from typing import Any

from kd.core.losses import LossInfo
from kd.errors import KdError
from kd.names import lookup

ALLOW_CODE = "KD_ALLOW_CODE"
"""The environment variable that allows packages too, as ``--allow_code`` does."""

_PACKAGE = r"\w+(\.\w+)*"


def packages(allow_code: str | Iterable[str]) -> tuple[str, ...]:
    """What a caller allows: ``"a,b"``, or several names.

    A package allows what it defines; a whole name, ``package.module:name``, that object alone.

    Raises:
      KdError: what is no such name, or one of Python's standard library.
    """
    parts = allow_code.split(",") if isinstance(allow_code, str) else allow_code
    names = tuple(parts) if isinstance(parts, Iterable) else (parts,)
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(rf"\s*({_PACKAGE}(:\w+)?)?\s*", name):
            raise KdError(f"allow_code takes names of packages, got {name!r}; e.g. allow_code=mine")
        if _is_standard(name.strip()):
            raise KdError(
                f"allow_code names '{name}' of Python's standard library, which no stored file "
                "may call; name a package of your own"
            )
    return tuple(name.strip() for name in names if name.strip())


def stored_object(name: str, file: str | pathlib.Path, allow_code: Iterable[str] = ()) -> Any:
    """The object that ``package.module:name`` in `file` names, if the caller allows its code.

    Allowed are `allow_code` and what the environment variable ``KD_ALLOW_CODE`` names. Nothing is
    imported before that is known.

    Raises:
      KdError: code that is not allowed, or that the allowed package merely imports.
    """
    module = name.partition(":")[0]
    if not re.fullmatch(rf"{_PACKAGE}:\w+", name):
        raise KdError(
            f"{file} names {name[:80]!r}, which is not of the form package.module:name; "
            "restore that file"
        )
    if _is_standard(module):
        raise KdError(
            f"{file} names '{name}' of Python's standard library, which no stored file may call; "
            "restore that file"
        )
    allowed = packages([*allow_code, *os.environ.get(ALLOW_CODE, "").split(",")])
    if name not in allowed and not _lies_in(module, allowed):
        raise KdError(
            f"{file} names code of its own, '{name}'; if you trust it, add "
            f"--allow_code={module.partition('.')[0]}"
        )
    value = lookup("code", name, {})
    if name not in allowed and not _lies_in(_home(value), allowed):
        raise KdError(
            f"{file} names '{name}', which that module does not define itself but has from "
            f"{_home(value) or 'elsewhere'}; no stored file may call it"
        )
    return value


def _lies_in(module: str, allowed: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in allowed)


def _is_standard(name: str) -> bool:
    return re.split(r"[.:]", name)[0] in sys.stdlib_module_names


def _home(value: Any) -> str:
    """The module that defines a function, a class, or what a wrapper of them wraps."""
    if isinstance(value, functools.partial):
        return _home(value.func)
    if isinstance(value, LossInfo):
        return _home(value.loss)
    return str(getattr(value, "__module__", None) or "")
