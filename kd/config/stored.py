"""A run's config as its folder holds it: read only where the code that it names is allowed."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from kd.config.allowed import packages, stored_object
from kd.config.spec import Spec, resolve
from kd.config.typed import build
from kd.data import is_code
from kd.errors import KdError


def stored_spec(config: Any, file: pathlib.Path, allow_code: Iterable[str] = ()) -> Spec:
    """The resolved config that `file` holds.

    Its own ``allow_code`` counts for nothing: the caller's takes its place.

    Raises:
      KdError: it names code that is not allowed, and all that `resolve` finds.
    """
    try:
        names = code_names(build(Spec, config, "config"))
    except KdError as error:
        raise _damaged(file, error) from error
    for name in names:
        stored_object(name, file, allow_code)
    try:
        spec = resolve(config)
    except KdError as error:
        raise _damaged(file, error) from error
    return dataclasses.replace(spec, allow_code=packages(allow_code))


def _damaged(file: pathlib.Path, error: KdError) -> KdError:
    return KdError(f"{file} is damaged: {error}; choose another folder, or restore that file")


def code_names(spec: Spec) -> tuple[str, ...]:
    """Every ``package.module:name`` that a config names."""
    terms = {name: term for name, term in spec.objective.items() if isinstance(term, Mapping)}
    named = [
        spec.student.get("name"),
        (spec.teacher.model or {}).get("name"),
        *(term.get("loss", name) for name, term in terms.items()),
    ]
    code = {name for name in named if isinstance(name, str) and ":" in name}
    if is_code(spec.data.source):
        code.add(spec.data.source)
    return tuple(sorted(code))
