"""Marks on the fields of a config: which of them say who a run is.

A field without a mark always does. Two kinds do not:

* `outside_identity`: cadence, folders, layout. It may change between two starts of one run.
* `later`: a switch that came after runs were recorded. At its default it is left out, so that
  every recorded fingerprint stays what it was.
"""

from __future__ import annotations

import dataclasses
from typing import Any

_MARK = "identity"


def outside_identity(default: Any) -> Any:
    """A field of a dataclass that changes nothing about who the run is."""
    return dataclasses.field(default=default, metadata={_MARK: "outside"})


def later(default: Any) -> Any:
    """A field of a dataclass that is part of the identity unless it is at its default."""
    return dataclasses.field(default=default, metadata={_MARK: "later"})


def in_identity(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether `value` of `field` is part of who a run is."""
    mark = field.metadata.get(_MARK)
    if mark == "outside":
        return False
    return mark != "later" or value != field.default
