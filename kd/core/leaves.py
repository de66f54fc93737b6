"""Leaves of a tree by name: which of them are set from elsewhere, and which stay as they are."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd.core.types import PyTree
from kd.errors import KdError, unknown

_TRAINED, _FROZEN = "trained", "frozen"


def name_of(path: tuple[Any, ...]) -> str:
    """A leaf's name, such as ``Dense_0/kernel``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def by_name(tree: PyTree) -> dict[str, Any]:
    """Every leaf by its name."""
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def with_leaves(tree: PyTree, leaves: Mapping[str, Any]) -> PyTree:
    """`tree` with those of its leaves that `leaves` names, in the type that they have there."""

    def choose(path: tuple[Any, ...], leaf: Any) -> Any:
        name = name_of(path)
        return jnp.asarray(leaves[name], leaf.dtype) if name in leaves else leaf

    return jax.tree_util.tree_map_with_path(choose, tree)


def frozen(params: PyTree, patterns: Sequence[str]) -> PyTree:
    """For every leaf whether one of the `patterns` matches its name; ``*`` matches slashes too."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(fnmatch.fnmatchcase(name_of(path), pattern) for pattern in patterns),
        params,
    )


def check_frozen(params: PyTree, patterns: Sequence[str]) -> None:
    """Raise a `KdError` where a pattern matches no parameter, or nothing is left to train."""
    names = list(by_name(params))
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise unknown("parameter in optim.freeze:", pattern, names)
    if patterns and all(jax.tree.leaves(frozen(params, patterns))):
        raise KdError(
            f"optim.freeze={tuple(patterns)} matches every parameter, so nothing is trained; leave "
            "one out"
        )


def held(new: PyTree, old: PyTree, patterns: Sequence[str]) -> PyTree:
    """`new` with the frozen leaves of `old`, bit for bit."""
    if not patterns:
        return new
    return jax.tree.map(
        lambda stays, before, after: before if stays else after, frozen(old, patterns), old, new
    )


def without_gradient(params: PyTree, patterns: Sequence[str]) -> PyTree:
    """`params`, of which the frozen ones are constants."""
    return held(params, jax.tree.map(jax.lax.stop_gradient, params), patterns)


def of_the_rest(
    optimizer: optax.GradientTransformation, patterns: Sequence[str]
) -> optax.GradientTransformation:
    """`optimizer` for the leaves that are not frozen; it keeps no state of those that are."""
    if not patterns:
        return optimizer

    def kinds(params: PyTree) -> PyTree:
        return jax.tree.map(lambda stays: _FROZEN if stays else _TRAINED, frozen(params, patterns))

    return optax.partition({_TRAINED: optimizer, _FROZEN: optax.set_to_zero()}, kinds)
