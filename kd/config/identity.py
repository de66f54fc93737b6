"""Who a run is: what of its config makes it this run, and the fingerprint of that."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from kd.config.spec import Spec, option_types
from kd.config.typed import floats, plain
from kd.core.members import WHOLE
from kd.core.schedules import Schedule
from kd.data import is_code
from kd.fields import in_identity
from kd.system.records import digest_of
from kd.user_code import reached


def fingerprint_of(value: Any) -> str:
    """Hash of anything JSON can hold: 12 hexadecimal digits."""
    return digest_of(plain(value))


def identity(
    spec: Spec, teacher_fingerprint: str = "", init_fingerprint: str = ""
) -> dict[str, Any]:
    """What makes this run this run: its settings, and the code that they name."""
    told = settings(spec, teacher_fingerprint, init_fingerprint)
    own = _own_code(spec)
    told["code"] = {**{name: "" for name in _names(spec) if name not in own}, **code_of(spec)}
    return told


def code_of(spec: Spec) -> dict[str, str]:
    """Every module of the user's own that a run's model, losses, data source and teaching function
    are made of, and the hash of what it says.
    """
    return reached(name.partition(":")[0] for name in _own_code(spec))


def code_names(spec: Spec) -> tuple[str, ...]:
    """Every ``package.module:name`` that a config names: what the run is made of, and the networks
    of teachers that are not there yet, or arrays alone.
    """
    models = [spec.teacher.model, *(part.model for part in spec.parts.values())]
    declared: list[Any] = [(model or {}).get("name") for model in models]
    return tuple(sorted(_own_code(spec) | {name for name in declared if _is_code(name)}))


def _own_code(spec: Spec) -> set[str]:
    terms = {name: term for name, term in spec.objective.items() if isinstance(term, Mapping)}
    names = [spec.student.get("name"), *(term.get("loss", name) for name, term in terms.items())]
    sources = {spec.data.source} if is_code(spec.data.source) else set()
    return {name for name in names if _is_code(name)} | sources | _functions(spec)


def _functions(spec: Spec) -> set[str]:
    """The functions that teach."""
    return {origin.place for origin in spec.origins if origin.scheme == "function"}


def _is_code(name: Any) -> bool:
    return isinstance(name, str) and ":" in name


def _names(spec: Spec) -> list[str]:
    names = [
        spec.student.get("name"),
        spec.data.source,
        *((term or {}).get("loss") for term in spec.objective.values()),
    ]
    return [name for name in names if isinstance(name, str)]


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


def settings(
    spec: Spec, teacher_fingerprint: str = "", init_fingerprint: str = ""
) -> dict[str, Any]:
    """What the config says of the run, with its teacher and its first weights by fingerprint.

    Each field of the config says for itself whether it belongs here: see `kd.fields`.
    """
    told = _told(canonical(spec))
    told["teacher"]["workdir"] = teacher_fingerprint
    if told["student"].get("init") is not None:
        told["student"]["init"] = init_fingerprint
    if spec.early_stopping is not None:  # when it looks is part of what it selects
        told["eval_epochs"] = spec.eval_epochs
    return told


def _told(value: Any) -> Any:
    if not dataclasses.is_dataclass(value):
        return plain(value)
    fields = dataclasses.fields(value)
    values = {field.name: getattr(value, field.name) for field in fields}
    return {f.name: _told(values[f.name]) for f in fields if in_identity(f, values[f.name])}
