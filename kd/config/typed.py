"""Frozen dataclasses from nested mappings, every value checked against its type."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from kd.errors import KdError, unknown


def build(cls: type, given: Any, path: str) -> Any:
    """The frozen dataclass `cls` from nested mappings.

    Raises a `KdError` for an unknown key or a wrong type.
    """
    if isinstance(given, ConfigDict):
        given = given.to_dict()
    if not isinstance(given, Mapping):
        raise KdError(f"{path} must be a mapping, got {given!r}")
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in given.items():
        if key not in hints:
            raise unknown(f"key in {path}:", key, hints)
        if dataclasses.is_dataclass(hints[key]):
            values[key] = build(typing.cast(type, hints[key]), value, f"{path}.{key}")
        else:
            values[key] = _floats(check_type(value, hints[key], f"{path}.{key}"), hints[key])
    required = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is f.default_factory is dataclasses.MISSING
    ]
    missing = [key for key in required if key not in values]
    if missing:
        raise KdError(f"{path}.{missing[0]} is missing; it has no default")
    return cls(**values)


def check_type(value: Any, hint: Any, path: str) -> Any:
    """`value`, its lists as tuples. Raises a `KdError` where it, or any value in it, is not of the
    type `hint`.
    """
    value = check_keys(_tuples(value), path)
    if not _fits(value, hint):
        wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise KdError(f"{path} must be {wanted}, got {value!r} ({type(value).__name__})")
    return value


def check_keys(value: Any, path: str) -> Any:
    """`value`. Raises a `KdError` where a mapping in it has keys that are not text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise KdError(f"{path} has the key {key!r}; keys are text, such as 'seed'")
            check_keys(inner, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_keys(inner, path)
    return value


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` and everything in it is of the type `hint`; a whole number is a float too, and
    True and False are no numbers.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple and inner[-1:] != (...,):
        same = isinstance(value, tuple) and len(value) == len(inner)
        return same and all(map(_fits, value, inner))
    if isinstance(origin, type) and issubclass(origin, Mapping) and inner:
        keys, values = inner
        return isinstance(value, origin) and all(
            _fits(key, keys) and _fits(one, values) for key, one in value.items()
        )
    if isinstance(origin, type) and issubclass(origin, Collection) and inner:
        return isinstance(value, origin) and all(_fits(one, inner[0]) for one in value)
    if isinstance(value, bool):
        return _is_bearable(value, hint) and hint not in (int, float, complex)
    return _is_bearable(value, hint)


def _is_bearable(value: Any, hint: Any) -> bool:
    from beartype import BeartypeConf
    from beartype.door import is_bearable

    return is_bearable(value, hint, conf=BeartypeConf(is_pep484_tower=True))


def _floats(value: Any, hint: Any) -> Any:
    """Whole numbers become floats where floats are wanted: 30 epochs and 30.0 epochs are the same
    run.
    """
    inner = typing.get_args(hint)
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if hint is float or (float in inner and int not in inner) else value
    if isinstance(value, tuple) and typing.get_origin(hint) is tuple:
        hints = inner[:1] * len(value) if inner[-1] is ... else inner
        return tuple(_floats(one, wanted) for one, wanted in zip(value, hints, strict=True))
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, (list, tuple)) else value


def plain(value: Any) -> Any:
    """Dataclasses and mappings as dictionaries, sequences as tuples: what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(plain(inner) for inner in value)
    return value
