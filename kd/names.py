"""Names over tables: a name looks up a plain dict, and ``package.module:name`` reaches any function
of the user's.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from kd import shipped
from kd.calling import running
from kd.errors import KdError, unknown


def lookup(what: str, name: Any, table: Mapping[str, Any]) -> Any:
    """The entry `name` of `table`, or the object that ``package.module:name`` names.

    Raises:
      KdError: no such entry (nearest name shown), no such module, one that cannot be imported, no
        such attribute.
    """
    if not isinstance(name, str):
        raise KdError(f"a {what} has a name, got {name!r}; see 'kd list'")
    if ":" not in name:
        if name not in table:
            raise unknown(what, name, table)
        return table[name]
    module_name, _, attribute = name.partition(":")
    if not (re.fullmatch(r"\w+(\.\w+)*", module_name) and attribute.isidentifier()):
        raise KdError(f"{what} '{name}' is not of the form package.module:name")
    shipped.importable(module_name)
    module = _imported(f"{what} '{name}'", module_name)
    if not hasattr(module, attribute):
        raise unknown(
            f"{what} in module {module_name}",
            attribute,
            [n for n in vars(module) if not n.startswith("_")],
        )
    return getattr(module, attribute)


def _imported(what: str, module: str) -> ModuleType:
    with running(f"{what}: importing {module}"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise KdError(
                f"{what}: no module '{error.name}'; is its folder on PYTHONPATH?"
            ) from error


def first_line(entry: Any) -> str:
    """First paragraph of an entry's docstring as one line, for listings."""
    return " ".join((entry.__doc__ or "").strip().partition("\n\n")[0].split())
