"""Which parameter is split how: rules by path, for the student and, independently, for the
teacher.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kd.core.state import State
from kd.core.types import PyTree, Teacher
from kd.errors import KdError, unknown
from kd.placement.mesh import AXES, replicated

_SMALL = 4096  # elements: gathering a smaller array costs more time than splitting it saves memory

RULES = ("replicate", "fsdp")
_EXAMPLE = "{'*/kernel': (None, 'fsdp')}"

Axes = str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the parameters of one model are split over the mesh.

    `rule` is ``replicate`` (whole on every device) or ``fsdp``: the largest dimension that divides
    over the mesh's axis ``fsdp``; where none does, and for arrays of less than 4,096 elements,
    whole. `paths` are the exceptions: a glob on a parameter's path, such as ``*/mlp/up/kernel``,
    and for each dimension an axis of the mesh, several, or None, as in a
    `jax.sharding.PartitionSpec`; e.g. ``{"*/mlp/up/kernel": (None, "fsdp", "tensor")}``.

    Source: Rajbhandari et al. (2020), "ZeRO", for ``fsdp``; Shoeybi et al. (2019), "Megatron-LM",
    for ``tensor``.
    """

    rule: Literal["replicate", "fsdp"] = "replicate"
    paths: Mapping[str, tuple[Axes, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Sharding:
    """One rule for the student, one for the teacher."""

    student: Rule = Rule()
    teacher: Rule = Rule()


def specs(
    rule: Rule,
    tree: PyTree,
    mesh: Mesh,
    *,
    who: str = "student",
    leading: tuple[str | None, ...] = (),
) -> PyTree:
    """A `PartitionSpec` for every leaf of `tree` (arrays or their shapes), whose first axes are
    split as `leading`.

    Raises:
      KdError: what is no rule, a glob that matches no parameter (nearest path shown), two that
        match the same one and differ, an axis that is not there or used twice, more axes than
        dimensions, or a dimension that does not divide.
    """
    check_rule(rule, who)
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = [path_of(path) for path, _ in leaves]
    for glob in rule.paths:
        if not fnmatch.filter(paths, glob):
            raise unknown(f"path in sharding.{who}.paths: no parameter matches", glob, paths)
    split = []
    for path, (_, leaf) in zip(paths, leaves, strict=True):
        shape = tuple(leaf.shape)[len(leading) :]
        axes = _by_path(rule, path, who)
        chosen = (
            _fsdp(rule, shape, mesh)
            if axes is None
            else _checked(axes, path, shape, mesh, who, leading)
        )
        split.append(PartitionSpec(*leading, *chosen))
    return jax.tree_util.tree_unflatten(structure, split)


def check_rule(rule: Any, who: str) -> None:
    """Raise a `KdError` unless `rule` is a `Rule` of a known kind whose paths are globs, each with
    a tuple of axes.
    """
    if not isinstance(rule, Rule):
        raise KdError(f"sharding.{who} must be a kd.Rule, got {rule!r}; e.g. kd.Rule('fsdp')")
    if rule.rule not in RULES:
        raise unknown(f"sharding.{who}.rule", rule.rule, RULES)
    if not isinstance(rule.paths, Mapping):
        raise KdError(
            f"sharding.{who}.paths must map globs to axes, got {rule.paths!r}; e.g. {_EXAMPLE}"
        )
    for glob, axes in rule.paths.items():
        if not isinstance(glob, str) or not isinstance(axes, (tuple, list, PartitionSpec)):
            raise KdError(
                f"sharding.{who}.paths must map globs to tuples of axes, got {glob!r}: {axes!r}; "
                f"e.g. {_EXAMPLE}"
            )


def path_of(path: tuple[Any, ...]) -> str:
    """A leaf's path as rules name it: ``blocks/mlp/up/kernel``."""
    return "/".join(
        str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path
    )


def _by_path(rule: Rule, path: str, who: str) -> tuple[Axes, ...] | None:
    matches = {
        glob: tuple(tuple(axis) if isinstance(axis, list) else axis for axis in axes)
        for glob, axes in rule.paths.items()
        if fnmatch.fnmatchcase(path, glob)
    }
    if len(set(matches.values())) > 1:
        raise KdError(
            f"sharding.{who}.paths: {' and '.join(repr(glob) for glob in matches)} both match "
            f"{path} and say different "
            "things; make one of them narrower"
        )
    return next(iter(matches.values()), None)


def _fsdp(rule: Rule, shape: tuple[int, ...], mesh: Mesh) -> tuple[Axes, ...]:
    size = mesh.shape["fsdp"]
    if rule.rule == "replicate" or size == 1 or math.prod(shape) < _SMALL:
        return ()
    splittable = [i for i, length in enumerate(shape) if length % size == 0]
    if not splittable:
        return ()
    largest = max(splittable, key=lambda i: shape[i])
    return tuple("fsdp" if i == largest else None for i in range(largest + 1))


def _checked(
    axes: tuple[Axes, ...],
    path: str,
    shape: tuple[int, ...],
    mesh: Mesh,
    who: str,
    leading: tuple[str | None, ...],
) -> tuple[Axes, ...]:
    key = f"sharding.{who}.paths for {path}"
    if len(axes) > len(shape):
        raise KdError(
            f"{key}: {len(axes)} axes are given and its shape is {list(shape)}; give one each "
            "at most"
        )
    used: list[str] = []
    for length, axis in zip(shape, axes, strict=False):
        names = _names(axis)
        for name in names:
            if name not in AXES:
                raise unknown(f"axis in {key}:", name, AXES)
            if name in leading:
                raise KdError(
                    f"{key}: the axis '{name}' splits the members of a population; choose "
                    "another axis"
                )
            if name in used:
                raise KdError(
                    f"{key}: the axis '{name}' is used twice in {axes}; an axis splits one "
                    "dimension"
                )
            used.append(name)
        parts = math.prod(mesh.shape[name] for name in names)
        if length % parts:
            raise KdError(
                f"{key}: a dimension of {length} does not divide over {'x'.join(names)} = "
                f"{parts}; choose another "
                "dimension, or another size of that axis"
            )
    return axes


def _names(axis: Any) -> tuple[str, ...]:
    """The mesh's axes that one dimension is split over."""
    if axis is None:
        return ()
    return axis if isinstance(axis, tuple) else (axis,)


def state_shardings(state: State, rule: Rule, mesh: Mesh, *, population: bool) -> State:
    """A `NamedSharding` for every leaf of `state` (arrays or shapes).

    Optimiser state, averages and the best so far follow the parameters. What losses own follows
    the kind of the rule, without its paths. In a population every leaf's first axis is split over
    ``member``.
    """
    leading = ("member",) if population else ()
    by_path = {
        **_by_paths(Rule(rule.rule), state.heads, mesh, leading),
        **_by_paths(rule, state.params, mesh, leading),
    }

    def follow(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        names = [path_of((key,)) for key in path]
        for start in range(len(names)):  # the longest end of the path that is a parameter's
            shape, spec = by_path.get("/".join(names[start:]), (None, None))
            if spec is not None and shape == tuple(leaf.shape):
                return NamedSharding(mesh, spec)
        return NamedSharding(mesh, PartitionSpec(*leading))

    return jax.tree_util.tree_map_with_path(follow, state)


def _by_paths(
    rule: Rule, tree: PyTree, mesh: Mesh, leading: tuple[str | None, ...]
) -> dict[str, tuple[tuple[int, ...], PartitionSpec]]:
    """Shape and spec of every leaf, by its path."""
    plain = jax.tree.leaves(specs(rule, tree, mesh, leading=leading), is_leaf=_is_spec)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        path_of(path): (tuple(leaf.shape), spec)
        for (path, leaf), spec in zip(leaves, plain, strict=True)
    }


def teacher_shardings(teacher: Teacher | None, variables: PyTree, rule: Rule, mesh: Mesh) -> PyTree:
    """A `NamedSharding` for every leaf of the teacher's `variables`.

    Rules name paths below its parameters. Members of an ensemble are whole or split like one model;
    of paired teachers each lies where its student does; logits computed beforehand are on every
    device.

    Raises:
      KdError: as `specs` does.
    """
    if teacher is None or not isinstance(variables, Mapping) or "params" not in variables:
        return jax.tree.map(lambda _: replicated(mesh), variables)
    leading = ("member",) if teacher.pairs is not None else (None,) * teacher.stacked
    of_params = specs(rule, variables["params"], mesh, who="teacher", leading=leading)
    rest = {name: part for name, part in variables.items() if name != "params"}
    return {
        "params": jax.tree.map(lambda spec: NamedSharding(mesh, spec), of_params, is_leaf=_is_spec),
        **jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec(*leading)), rest),
    }


def bytes_per_device(tree: PyTree, shardings: PyTree) -> int:
    """How much of `tree` (arrays or shapes) one device holds under `shardings`."""
    return sum(jax.tree.leaves(jax.tree.map(leaf_bytes, tree, shardings)))


def leaf_bytes(leaf: Any, layout: NamedSharding) -> int:
    """How much of one array a device holds."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
        return math.prod(leaf.shape) * leaf.dtype.itemsize
    return math.prod(layout.shard_shape(tuple(leaf.shape))) * leaf.dtype.itemsize


def _is_spec(leaf: Any) -> bool:
    return isinstance(leaf, PartitionSpec)
