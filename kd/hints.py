"""Values against the types that a signature names: every element of every value."""

from __future__ import annotations

import functools
import inspect
import numbers
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from kd.errors import KdError

_F = typing.TypeVar("_F", bound=Callable[..., Any])


def checked(function: _F) -> _F:
    """`function`, which refuses (`KdError`) what is of another type than its signature says."""
    signature = inspect.signature(function)
    hints = functools.cache(lambda: typing.get_type_hints(function))

    @functools.wraps(function)
    def call(*positional: Any, **named: Any) -> Any:
        for name, value in signature.bind(*positional, **named).arguments.items():
            if not fits(value, hints().get(name, Any)):
                raise _other_type(f"{name} of {function.__name__}", hints()[name], value)
        return function(*positional, **named)

    return typing.cast(_F, call)


def check_type(value: Any, hint: Any, path: str) -> Any:
    """`value`, its lists as tuples. Raises a `KdError` where it, or any value in it, is not of the
    type `hint`.
    """
    value = check_plain(_tuples(value), path)
    if not fits(value, hint):
        raise _other_type(path, hint, value)
    return value


def _other_type(what: str, hint: Any, value: Any) -> KdError:
    wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    return KdError(f"{what} must be {wanted}, got {value!r} ({type(value).__name__})")


def check_plain(value: Any, path: str) -> Any:
    """`value`. Raises a `KdError` where a mapping in it has keys that are not text, or a whole
    number in it is larger than any float.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise KdError(f"{path} has the key {key!r}; keys are text, such as 'seed'")
            check_plain(inner, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_plain(inner, path)
    elif isinstance(value, int) and abs(value) > sys.float_info.max:
        raise KdError(f"{path} is a larger number than a float holds; give a smaller one")
    return value


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` and everything in it is of the type `hint`.

    A whole number is a float too; True and False are no numbers.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in inner)
    if origin is tuple and inner[-1:] != (...,):
        same = isinstance(value, tuple) and len(value) == len(inner)
        return same and all(map(fits, value, inner))
    if isinstance(origin, type) and issubclass(origin, Mapping) and inner:
        keys, values = inner
        return isinstance(value, origin) and all(
            fits(key, keys) and fits(item, values) for key, item in value.items()
        )
    if isinstance(origin, type) and issubclass(origin, Collection) and inner:
        return isinstance(value, origin) and all(fits(item, inner[0]) for item in value)
    if hint in (int, float):
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))
    return _is_bearable(value, hint)


def _is_bearable(value: Any, hint: Any) -> bool:
    from beartype.door import is_bearable

    return is_bearable(value, hint)


def _tuples(value: Any) -> Any:
    """`value` as JSON gives it back, but for tuples in place of lists."""
    if isinstance(value, Mapping):
        return {key: _tuples(inner) for key, inner in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return tuple(_tuples(inner) for inner in value) if isinstance(value, (list, tuple)) else value
