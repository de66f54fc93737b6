"""Populations: which numbers differ between members, as columns with one value per member."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kd.core.objective import Term, check_number, initial_numbers
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
    held = {
        name: () if isinstance(c, str) or not isinstance(c, Iterable) else tuple(c)
        for name, c in columns.items()
    }
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


def population_size(population: Columns) -> int | None:
    """Number of members, or None for a single run."""
    columns = [value for _, value in _columns(population)]
    return len(columns[0]) if columns else None


def check_population(population: Columns, terms: Iterable[Term]) -> None:
    """Raise a `KdError` unless every column names something that may vary, all are equally long,
    no two members are the same run, and every member has a term that weighs something.
    """
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
    members = population_size(population) or 1
    columns = dict(_columns(population))
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
        where = ".".join(("population", *path))
        if not isinstance(values, (tuple, list)) or not values:
            raise KdError(f"{where} must be a tuple with one value per member, got {values!r}")
        lengths[where] = len(values)
        if path in (("seed",), ("init_seed",)):
            if not all(type(v) is int and 0 <= v < 2**31 for v in values):
                raise KdError(f"{where} must be whole numbers in [0, 2^31), got {values!r}")
        elif path == ("teacher",):
            if not all(type(v) is int and v >= 0 for v in values):
                raise KdError(
                    f"{where} must be members of the teacher, whole numbers from 0, got {values!r}"
                )
        elif path == ("learning_rate",):
            if not all(type(v) in (int, float) and 0 < v < math.inf for v in values):
                raise KdError(
                    f"{where} must be finite numbers of more than 0, got {values!r}; at 0 nothing "
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
            f"the columns of population differ in length: {lengths}; give one value per member"
        )


def numbers(
    terms: Sequence[Term], learning_rate: float, population: Columns, seed: int = 0
) -> tuple[int | tuple[int, ...], dict[str, Any]]:
    """Seeds and ``hparams`` of a run: plain for a single run, with a leading member axis for a
    population.
    """
    hparams = {"learning_rate": jnp.float32(learning_rate), "terms": initial_numbers(terms)}
    members = population_size(population)
    if members is None:
        return seed, hparams
    hparams = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (members,)), hparams)
    for path, column in _columns(population):
        if path == ("learning_rate",):
            hparams["learning_rate"] = jnp.asarray(column, jnp.float32)
        elif len(path) == 2:
            hparams["terms"][path[0]][path[1]] = jnp.asarray(column, jnp.float32)
    return dict(_columns(population)).get(("seed",), (seed,) * members), hparams


def settings(population: Columns) -> list[str]:
    """What sets each member apart besides seeds and its own teacher, in words:
    ``soft_targets.temperature=4.0``.
    """
    columns = _columns(population)
    told = [
        (".".join(path), values)
        for path, values in columns
        if path not in (("seed",), ("init_seed",), ("teacher",))
    ]
    members = range(population_size(population) or 0)
    return [", ".join(f"{name}={values[member]}" for name, values in told) for member in members]


def paired_teachers(population: Columns) -> tuple[int, ...] | None:
    """Which member of the teacher each student learns from, or None where all learn from the whole
    of it.
    """
    return dict(_columns(population)).get(("teacher",))


def init_seeds(population: Columns) -> tuple[int, ...] | None:
    """Seeds of the first weights alone, one per member, where the population varies them; else
    None.

    Members that share a ``seed`` and differ in ``init_seed`` see the same batches, dropout and
    augmentation.
    """
    return dict(_columns(population)).get(("init_seed",))


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
