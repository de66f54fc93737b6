"""A run's config as its folder holds it: read only where the code that it names is allowed."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

from kd.config.allowed import packages, stored_object
from kd.config.identity import code_names
from kd.config.spec import Spec, resolve
from kd.config.typed import build
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
        raise damaged(file, error) from error
    for name in names:
        stored_object(name, file, allow_code)
    try:
        spec = resolve(config)
    except KdError as error:
        raise damaged(file, error) from error
    return dataclasses.replace(spec, allow_code=packages(allow_code))


def damaged(file: pathlib.Path, why: object) -> KdError:
    """A stored file that is not as it was written, and what to do about it."""
    return KdError(f"{file} is damaged: {why}; choose another folder, or restore that file")
