"""Populations: which numbers differ between members, as columns with one value per member."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kd.core.terms import Term, check_number
from kd.errors import KdError, unknown

Columns = Mapping[str, Any]
"""``seed``, ``init_seed``, ``teacher``, ``learning_rate``, or
``<term>: {weight | temperature | ...}``.

Each holds one value per member.
"""

WHOLE = ("seed", "init_seed", "teacher")
"""Columns of whole numbers; all others hold floats."""
_OF_THE_RUN = (*WHOLE, "learning_rate")


def product(**columns: Iterable[Any]) -> dict[str, Any]:
    """Population columns for every combination, the last varying fastest.

    ``product(seed=range(5), soft_targets__temperature=(1.0, 4.0))`` are ten members; a name with
    two underscores is nested, a term's name and its number.

    Raises:
      KdError: a column that is a single value.
    """
    held = {name: _several(column) for name, column in columns.items()}
    for name, column in columns.items():
        if not held[name]:
            raise KdError(
                f"population column {name} must be several values, got {column!r}; e.g. "
                f"{name}=(1, 2)"
            )
    points = list(itertools.product(*held.values()))
    nested: dict[str, Any] = {}
    for name, values in zip(columns, zip(*points, strict=True), strict=True):
        outer, _, inner = name.partition("__")
        if inner:
            nested.setdefault(outer, {})[inner] = tuple(values)
        else:
            nested[outer] = tuple(values)
    return nested


def _several(column: Any) -> tuple[Any, ...]:
    """The values of a column; none where it is a single value."""
    if isinstance(column, str):
        return ()
    try:
        return tuple(column)
    except TypeError:
        return ()


@dataclasses.dataclass(frozen=True)
class Members:
    """What the members of a run are, made once: seeds, teachers and numbers, checked and plain.

    `size` is None for a single run, whose values are numbers; those of a population are tuples with
    a value per member. `init_seeds` draw the first weights: members that share a seed and differ
    in it see the same batches, dropout and augmentation. `teachers` pairs each member with one of
    the teacher's, or is None where all learn from the whole of it. `settings` say in words what
    sets each member apart besides: ``soft_targets.temperature=4.0``.
    """

    size: int | None
    seeds: int | tuple[int, ...]
    init_seeds: int | tuple[int, ...]
    teachers: tuple[int, ...] | None
    learning_rate: float | tuple[float, ...]
    terms: Mapping[str, Mapping[str, float | tuple[float, ...]]]
    settings: tuple[str, ...] = ()

    @property
    def hparams(self) -> dict[str, Any]:
        """The numbers as arrays, as the step reads them: ``[]``, or ``[m]`` in a population."""
        numbers = {"learning_rate": self.learning_rate, "terms": self.terms}
        return jax.tree.map(
            lambda value: jnp.asarray(value, jnp.float32), numbers, is_leaf=_is_column
        )

    def member(self, i: int) -> Members:
        """Member `i` as a single run. A single run has only itself."""
        if self.size is None:
            return self
        chosen = jax.tree.map(lambda column: column[i], dict(self._columns), is_leaf=_is_column)
        return dataclasses.replace(self, size=None, teachers=None, settings=(), **chosen)

    @property
    def _columns(self) -> Mapping[str, Any]:
        names = ("seeds", "init_seeds", "learning_rate", "terms")
        return {name: getattr(self, name) for name in names}


def _is_column(value: Any) -> bool:
    return isinstance(value, tuple)


def make_members(
    terms: Sequence[Term], population: Columns, learning_rate: float, seed: int = 0
) -> Members:
    """The members of a run, from the columns of its population: one place for config and library.

    Raises:
      KdError: a column that names nothing that may vary, columns of unlike lengths, two members
        that are the same run, or a member whose terms all weigh nothing.
    """
    _check_population(population, terms)
    columns = dict(_columns(population))
    size = len(next(iter(columns.values()))) if columns else None
    repeated = (lambda value: value) if size is None else (lambda value: (value,) * size)
    seeds = columns.get(("seed",), repeated(seed))
    numbers = {
        t.name: {
            key: _floats(columns.get((t.name, key), repeated(value)))
            for key, value in t.numbers.items()
        }
        for t in terms
    }
    return Members(
        size,
        seeds,
        columns.get(("init_seed",), seeds),
        columns.get(("teacher",)),
        _floats(columns.get(("learning_rate",), repeated(learning_rate))),
        numbers,
        _settings(columns, size or 0),
    )


def _floats(values: Any) -> Any:
    return tuple(map(float, values)) if isinstance(values, tuple) else float(values)


def _settings(columns: Mapping[tuple[str, ...], Any], size: int) -> tuple[str, ...]:
    told = {".".join(path): values for path, values in columns.items() if path[0] not in WHOLE}
    return tuple(
        ", ".join(f"{name}={values[member]}" for name, values in told.items())
        for member in range(size)
    )


def _check_population(population: Columns, terms: Iterable[Term]) -> None:
    if not isinstance(population, Mapping):
        raise KdError(
            f"population must be a mapping from columns to values, got {population!r:.80}; see "
            "kd.product"
        )
    by_name = {t.name: t for t in terms}
    _check_columns(population, by_name)
    _check_distinct(population)
    _check_weights(population, by_name)


def _check_distinct(population: Columns) -> None:
    columns = [values for _, values in _columns(population)]
    seen: dict[tuple[Any, ...], int] = {}
    for member, values in enumerate(zip(*columns, strict=True)):
        if values in seen:
            raise KdError(
                f"members {seen[values]} and {member} of the population are the same run, and a "
                "copy is no second measurement; let a column tell them apart, e.g. seed"
            )
        seen[values] = member


def _check_weights(population: Columns, terms: Mapping[str, Term]) -> None:
    columns = dict(_columns(population))
    members = len(next(iter(columns.values()))) if columns else 1
    weights = [
        columns.get((name, "weight"), (t.numbers["weight"],) * members) for name, t in terms.items()
    ]
    for member, of_member in enumerate(zip(*weights, strict=True)):
        if not any(of_member):
            whose = f" of member {member}" if columns else ""
            raise KdError(
                f"the weights{whose} are all 0, so nothing is learnt; give a term of the objective "
                "a weight above 0"
            )


def _check_columns(population: Columns, by_name: Mapping[str, Term]) -> None:
    lengths = {}
    for path, values in _columns(population):
        key = ".".join(("population", *path))
        if not isinstance(values, (tuple, list)) or not values:
            raise KdError(f"{key} must be a tuple with one value per member, got {values!r}")
        lengths[key] = len(values)
        if path in (("seed",), ("init_seed",)):
            if not all(type(v) is int and 0 <= v < 2**31 for v in values):
                raise KdError(f"{key} must be whole numbers in [0, 2^31), got {values!r}")
        elif path == ("teacher",):
            if not all(type(v) is int and v >= 0 for v in values):
                raise KdError(
                    f"{key} must be members of the teacher, whole numbers from 0, got {values!r}"
                )
        elif path == ("learning_rate",):
            if not all(type(v) in (int, float) and 0 < v < math.inf for v in values):
                raise KdError(
                    f"{key} must be finite numbers of more than 0, got {values!r}; at 0 nothing "
                    "is learnt"
                )
        elif path[0] in by_name and len(path) == 2:
            for value in values:
                check_number(path[0], by_name[path[0]].info, path[1], value)
        else:
            known = [
                f"{t.name}.{number}"
                for t in by_name.values()
                for number in ("weight", *t.info.numbers)
            ]
            raise unknown("key in population:", ".".join(path), [*_OF_THE_RUN, *known])
    if len(set(lengths.values())) > 1:
        raise KdError(
            f"the columns of population differ in length: {lengths}; give one value per "
            "member: two seeds at two temperatures are (0,1,0,1) and (1.0,1.0,4.0,4.0)"
        )


def _columns(population: Columns) -> list[tuple[tuple[str, ...], Any]]:
    flat = []
    for key, value in population.items():
        if isinstance(value, Mapping):
            flat += [((key, inner), _plain(column)) for inner, column in value.items()]
        else:
            flat.append(((key,), _plain(value)))
    return flat


def _plain(column: Any) -> Any:
    """NumPy's numbers are numbers too, and its arrays are columns."""
    column = column.tolist() if hasattr(column, "tolist") else column
    if not isinstance(column, (tuple, list, range)):
        return column
    values: tuple[Any, ...] = tuple(column)
    return tuple(value.tolist() if hasattr(value, "tolist") else value for value in values)
