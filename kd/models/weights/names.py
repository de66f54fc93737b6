"""Parameters by the names that others gave them, in both directions, from one table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.core.leaves import by_name, name_of
from kd.core.types import PyTree
from kd.errors import KdError
from kd.models.abstract import Shapes

_LEAVES = {
    "kernel": "weight",
    "embedding": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
"""What PyTorch calls the arrays of a layer."""
_AXES = {2: (1, 0), 4: (2, 3, 1, 0)}
"""The axes of a kernel as PyTorch has them, in our order: ``[out in] -> [in out]`` of a linear
layer, ``[out in h w] -> [h w in out]`` of a convolution."""
_COUNTER = "num_batches_tracked"  # PyTorch counts steps there, and nothing reads it
_ONCE = {"gamma": "weight", "beta": "bias"}
"""What the arrays of a norm are called in files of the first years."""
_SHOWN = 4  # names in a line

Rename = str | Callable[..., str]
"""What a module of ours is called elsewhere; or a function of the numbers in its name that says."""


@dataclasses.dataclass(frozen=True)
class Naming:
    """How one library names the modules of a network: rows of a pattern of our name and of theirs.

    A row of a whole leaf, such as a token, names the array itself. `who` is the library. `idle` are
    patterns of their arrays that this network does not read, `tied` those of their arrays that are
    another one over again, by name.
    """

    who: str
    rows: Sequence[tuple[str, Rename]]
    idle: Sequence[str] = ()
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def theirs(self, leaf: str) -> str:
        """Their name of our leaf ``params/head/kernel``."""
        collection, _, inside = leaf.partition("/")
        inside = inside.removeprefix("batch_stats/") if collection == "extra" else inside
        whole = self._renamed(inside)
        if whole is not None:
            return whole
        module, _, last = inside.rpartition("/")
        renamed = self._renamed(module)
        if renamed is None or last not in _LEAVES:
            raise ValueError(f"{self.who} has no name for {leaf}")
        return f"{renamed}.{_LEAVES[last]}"

    def _renamed(self, name: str) -> str | None:
        for pattern, rename in self.rows:
            match = re.fullmatch(pattern, name)
            if match is not None:
                return rename if isinstance(rename, str) else rename(*map(int, match.groups()))
        return None


def written(params: PyTree, extra: PyTree, naming: Naming) -> dict[str, np.ndarray]:
    """Parameters and statistics as `naming` has them: the inverse of `read`."""
    leaves = by_name({"params": params, "extra": extra})
    return {naming.theirs(name): _turned_back(name, leaf) for name, leaf in leaves.items()}


def read(
    arrays: Mapping[str, Any], wanted: Shapes, naming: Naming, file: object
) -> tuple[PyTree, PyTree]:
    """Parameters and statistics of the form `wanted`, float32, from the `arrays` of a `file`.

    Raises:
      KdError: an array that the network has not, one that it has and the file has not, one of
        another shape, or of no floating numbers.
    """
    tree = {"params": wanted.params, "extra": wanted.extra}
    arrays = _once_each(_read_ones(arrays, naming), naming, file)
    _check(arrays, expected(tree, naming), file)

    def leaf(path: tuple[Any, ...], _: Any) -> jax.Array:
        name = name_of(path)
        theirs = np.asarray(arrays[naming.theirs(name)], np.float32)
        return jnp.array(_turned(name, theirs))  # a copy: the file may be written anew

    filled = jax.tree_util.tree_map_with_path(leaf, tree)
    return filled["params"], filled["extra"]


def _read_ones(arrays: Mapping[str, Any], naming: Naming) -> dict[str, Any]:
    """The arrays that the network reads, as they are called today."""
    today = {_today(name): array for name, array in arrays.items()}
    return {
        name: array
        for name, array in today.items()
        if name.split(".")[-1] != _COUNTER
        and not any(re.fullmatch(pattern, name) for pattern in naming.idle)
    }


def _today(name: str) -> str:
    module, _, last = name.rpartition(".")
    return f"{module}.{_ONCE[last]}" if module and last in _ONCE else name


def _once_each(arrays: dict[str, Any], naming: Naming, file: object) -> dict[str, Any]:
    """The arrays without those that are another one over again.

    Raises:
      KdError: one of these that is not.
    """
    for copy, name in naming.tied.items():
        if copy not in arrays or name not in arrays:
            continue
        if not np.array_equal(arrays[copy], arrays[name]):
            raise KdError(
                f"{file} holds {copy}, which is not {name}: kd's network has one array for both; "
                "get a file whose embeddings are tied"
            )
    return {name: array for name, array in arrays.items() if name not in naming.tied}


def shape_of(
    leaf: str, count: int, arrays: Mapping[str, Any], naming: Naming, file: object
) -> tuple[int, ...]:
    """The shape of our leaf, of `count` axes, as a file has it.

    Raises:
      KdError: it is not there, or has other axes.
    """
    name = naming.theirs(leaf)
    shape = tuple(arrays[name].shape) if name in arrays else None
    if shape is None or len(shape) != count:
        listed = [f"{name} {_shape(shape)}"] if shape is not None else list(arrays)
        raise KdError(
            f"{file} is of another network: it holds {some(listed)}, where this one has {name} of "
            f"{count} axes; name the network whose weights these are"
        )
    axes = _axes(leaf, count)
    return shape if axes is None else tuple(shape[axis] for axis in axes)


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    axes = _axes(name, array.ndim)
    return array if axes is None else np.ascontiguousarray(array.transpose(axes))


def _turned_back(name: str, leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    axes = _axes(name, array.ndim)
    return np.ascontiguousarray(array if axes is None else array.transpose(np.argsort(axes)))


def _axes(name: str, count: int) -> tuple[int, ...] | None:
    return _AXES[count] if name.endswith("/kernel") else None


def expected(tree: PyTree, naming: Naming) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a tree, ``{"params", "extra"}``, by their name."""
    return {
        naming.theirs(name): _their_shape(name, leaf.shape) for name, leaf in by_name(tree).items()
    }


def _their_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = _axes(name, len(shape))
    return shape if axes is None else tuple(shape[i] for i in np.argsort(axes))


def _check(
    arrays: Mapping[str, Any], wanted_shapes: Mapping[str, tuple[int, ...]], file: object
) -> None:
    there = {name: tuple(array.shape) for name, array in arrays.items()}
    if there != wanted_shapes:
        other = [f"{n} {_shape(s)}" for n, s in there.items() if wanted_shapes.get(n) != s]
        wanted = [f"{n} {_shape(s)}" for n, s in wanted_shapes.items() if there.get(n) != s]
        raise KdError(
            f"{file} is of another network: it holds {some(other)}, where this one has "
            f"{some(wanted)}; name the network whose weights these are"
        )
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise KdError(f"{file} holds {name} as {array.dtype}; weights are floating numbers")


def some(shown: Sequence[str]) -> str:
    """The first of several names, and how many more there are."""
    more = len(shown) - _SHOWN
    listed = ", ".join(shown[:_SHOWN]) or "nothing else"
    return listed if more <= 0 else f"{listed} and {more} more"


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{' '.join(map(str, shape))}]"
