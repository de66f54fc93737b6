"""Models that say what they were made of, and are made again from that."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from kd.core.types import Made, Model
from kd.errors import KdError, unknown
from kd.hints import check_type
from kd.models.normalised import normalised
from kd.models.precision import in_bfloat16

_F = typing.TypeVar("_F", bound=Callable[..., Model])
_TYPES = {"float32": lambda model: model, "bfloat16": in_bfloat16}


def named(function: _F) -> _F:
    """`function`, whose models say that they are made by its name, and with which arguments."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def make(*positional: Any, **options: Any) -> Model:
        told = signature.bind(*positional, **options).arguments
        model = function(*positional, **options)
        return dataclasses.replace(model, made=Made(function.__name__, dict(told)))

    return typing.cast(_F, make)


def made_again(made: Made, table: Mapping[str, Callable[..., Model]], file: object) -> Model:
    """The model that `made`, which `file` holds, is of: one of `table`, and no other code.

    Raises:
      KdError: a name that is not in `table`, options that this model does not take.
    """
    if made.name not in table:
        raise unknown("model", made.name, table)
    function = table[made.name]
    accepted, hints = inspect.signature(function).parameters, typing.get_type_hints(function)
    options = {}
    for key, value in made.options.items():
        if key not in accepted:
            raise unknown(f"option of {made.name} in {file}:", key, accepted)
        options[key] = check_type(value, hints.get(key, Any), f"{key} in {file}")
    return as_told(function(**options), made, file)


def as_told(model: Model, made: Made, file: object) -> Model:
    """`model` as it computes and is shown its inputs: what `made`, which `file` holds, says of it.

    Raises:
      KdError: an unknown type, or what its inputs cannot be normalised by.
    """
    if made.compute not in _TYPES:
        raise KdError(f"{file} is damaged: it computes in {made.compute!r}; restore that file")
    model = _TYPES[made.compute](model)
    if made.mean is None and made.deviation is None:
        return model
    return normalised(model, tuple(made.mean or ()), tuple(made.deviation or ()))
