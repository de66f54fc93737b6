"""Frozen dataclasses from nested mappings, every value checked against its type."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from kd.errors import KdError, unknown
from kd.hints import check_type


def build(cls: type, told: Any, path: str) -> Any:
    """The frozen dataclass `cls` from nested mappings.

    Raises a `KdError` for an unknown key or a wrong type.
    """
    if isinstance(told, ConfigDict):
        told = told.to_dict()
    if not isinstance(told, Mapping):
        raise KdError(f"{path} must be a mapping, got {told!r}")
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in told.items():
        if key not in hints:
            raise unknown(f"key in {path}:", key, hints)
        if dataclasses.is_dataclass(hints[key]):
            values[key] = build(typing.cast(type, hints[key]), value, f"{path}.{key}")
        else:
            value = _quotient(value, hints[key])
            values[key] = floats(check_type(value, hints[key], f"{path}.{key}"), hints[key])
    required = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is f.default_factory is dataclasses.MISSING
    ]
    missing = [key for key in required if key not in values]
    if missing:
        raise KdError(f"{path}.{missing[0]} is missing; it has no default")
    return cls(**values)


def _quotient(value: Any, hint: Any) -> Any:
    """``"1/255"`` as a number where a float is wanted."""
    if not isinstance(value, str) or float not in (hint, *typing.get_args(hint)):
        return value
    quotient = re.fullmatch(r"(\d{1,15})/([1-9]\d{0,14})", value)
    return value if quotient is None else int(quotient[1]) / int(quotient[2])


def floats(value: Any, hint: Any) -> Any:
    """Whole numbers become floats where floats are wanted: 30 epochs and 30.0 epochs are the same
    run.
    """
    inner = typing.get_args(hint)
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if hint is float or (float in inner and int not in inner) else value
    if isinstance(value, tuple) and typing.get_origin(hint) is tuple:
        hints = inner[:1] * len(value) if inner[-1] is ... else inner
        return tuple(floats(element, wanted) for element, wanted in zip(value, hints, strict=True))
    return value


def plain(value: Any) -> Any:
    """Dataclasses and mappings as dictionaries, sequences as tuples: what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(plain(inner) for inner in value)
    return value


def beyond_defaults(cls: type, told: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a mapping for the dataclass `cls` that say more than its defaults do.

    What names a computation by these is not renamed by a key that comes later: `build` makes the
    same of them as of all.
    """
    hints, kept = typing.get_type_hints(cls), {}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key, value in told.items():
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            value, default = beyond_defaults(typing.cast(type, hints[key]), value), {}
        else:
            value, default = floats(plain(value), hints[key]), plain(_default(fields[key]))
        if value != default:
            kept[key] = value
    return kept


def _default(field: dataclasses.Field[Any]) -> Any:
    """Of a field without one the class ``MISSING``, which no value equals."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
