"""Who a run is: what of its config makes it this run, and the fingerprint of that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from typing import Any

from kd.config.spec import Spec, option_types
from kd.config.typed import floats, plain
from kd.core.members import WHOLE
from kd.core.schedules import Schedule
from kd.data import SOURCES
from kd.fields import in_identity
from kd.user_code import reached


def fingerprint_of(value: Any) -> str:
    """Hash of anything JSON can hold: 12 hexadecimal digits."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def identity(spec: Spec, teacher_fingerprint: str = "") -> dict[str, Any]:
    """What makes this run this run: its settings, and the code that they name."""
    told = settings(spec, teacher_fingerprint)
    told["code"] = {**{name: "" for name in _names(spec) if not _module(name)}, **code_of(spec)}
    return told


def code_of(spec: Spec) -> dict[str, str]:
    """Every module of the user's own that a run's model, losses and data source are made of, and
    the hash of what it says.
    """
    return reached(module for name in _names(spec) if (module := _module(name)))


def _names(spec: Spec) -> list[str]:
    names = [
        spec.student.get("name"),
        spec.data.source,
        *((term or {}).get("loss") for term in spec.objective.values()),
    ]
    return [name for name in names if isinstance(name, str)]


def _module(name: str) -> str:
    """The module that ``package.module:name`` names; "" for a name of a table."""
    module, colon, _ = name.partition(":")
    return module if colon and module not in SOURCES else ""


def canonical(spec: Spec) -> Spec:
    """`spec` with floats wherever floats are wanted: a temperature of 4 and of 4.0 are one run.

    The fields of a config have types of their own; here are those that a loss, a schedule, a column
    and a model's options say.
    """
    objective = {name: _numbers(term) for name, term in spec.objective.items()}
    student = option_types(spec.student)
    return dataclasses.replace(
        spec,
        objective=objective,
        population={name: _column(name, column) for name, column in spec.population.items()},
        student={key: floats(value, student.get(key)) for key, value in spec.student.items()},
    )


def _numbers(term: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if term is None:
        return None
    fields = typing.get_type_hints(Schedule)

    def number(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return floats(value, float)
        return {key: floats(inner, fields.get(key)) for key, inner in value.items()}

    return {key: number(value) for key, value in term.items()}


def _column(name: str, column: Any) -> Any:
    if isinstance(column, Mapping):
        return {key: _column(key, values) for key, values in column.items()}
    return column if name in WHOLE else floats(tuple(column), tuple[float, ...])


def settings(spec: Spec, teacher_fingerprint: str = "") -> dict[str, Any]:
    """What the config says of the run, with its teacher by fingerprint.

    Each field of the config says for itself whether it belongs here: see `kd.fields`.
    """
    told = _told(canonical(spec))
    told["teacher"]["workdir"] = teacher_fingerprint
    if spec.early_stopping is not None:  # when it looks is part of what it selects
        told["eval_epochs"] = spec.eval_epochs
    return told


def _told(value: Any) -> Any:
    if not dataclasses.is_dataclass(value):
        return plain(value)
    fields = dataclasses.fields(value)
    values = {field.name: getattr(value, field.name) for field in fields}
    return {f.name: _told(values[f.name]) for f in fields if in_identity(f, values[f.name])}
