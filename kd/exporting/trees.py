"""Arrays by name, and back into the trees that a model takes."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.core.leaves import by_name, name_of
from kd.core.types import Model, PyTree
from kd.data import prepare
from kd.data.seen import Seen
from kd.errors import KdError, reading
from kd.exporting.files import Kept
from kd.models import MODELS, as_model, made_again
from kd.models.abstract import Shapes, shapes
from kd.models.made import as_computed
from kd.placement.ambient import pinned

_HEADS = "heads/"


def arrays_of(
    params: PyTree, extra: PyTree, heads: Mapping[str, PyTree] | None = None
) -> dict[str, np.ndarray]:
    """Every array by its name, such as ``params/Dense_0/kernel``; `heads` are what losses have
    trained to stay.

    Raises:
      KdError: two of one name.
    """
    whole = {"params": params, "extra": extra, "heads": heads or {}}
    leaves = jax.tree_util.tree_leaves_with_path(whole)
    arrays = {name_of(path): np.ascontiguousarray(leaf) for path, leaf in leaves}
    if len(arrays) < len(leaves):
        raise KdError("two arrays of this model have one name; let no layer's name have a slash")
    return arrays


def declared(model: Model, seen: Seen) -> Shapes:
    """What `model` holds and answers for one example of the inputs that it has `seen`."""
    stored = jax.ShapeDtypeStruct((1, *seen.shape), jax.dtypes.canonicalize_dtype(seen.dtype))
    return shapes(model, jax.eval_shape(lambda inputs: prepare(inputs, seen.unit), stored))


@pinned()
def model_of(kept: Kept, module: Any, folder: pathlib.Path) -> Model:
    """The model that a folder is of: one of kd's own, or the caller's `module`.

    Raises:
      KdError: a model of the user's own and none is given, or one of kd's own and one is given.
    """
    name = "a model of your own" if kept.made is None else kept.made.name
    own = kept.made is not None and ":" not in kept.made.name
    if module is None and not own:
        raise KdError(
            f"{folder} holds arrays of {name}, and reading it runs no code; give the module: "
            "kd.load(DIR, model=MyModule(10))"
        )
    if module is not None and own:
        raise KdError(f"{folder} says which model it is of, {name}; leave model out")
    if module is not None:
        compute = "float32" if kept.made is None else kept.made.compute
        return as_computed(as_model(module), compute, folder / "config.json")
    with reading(folder / "config.json", "save that model again"):
        assert kept.made is not None
        return made_again(kept.made, MODELS, folder / "config.json")


@pinned()
def trees_of(
    model: Model, kept: Kept, arrays: Mapping[str, np.ndarray], folder: pathlib.Path
) -> tuple[PyTree, PyTree, dict[str, PyTree]]:
    """Parameters and untrained variables of `model`, and heads, from arrays by name; bit for bit.

    Raises:
      KdError: the model holds other arrays; the first that differs is shown.
    """
    try:
        wanted = declared(model, kept.seen)
    except KdError:
        raise
    except Exception as error:  # a module for other inputs fails in its own words
        cause = (str(error).strip().splitlines() or [""])[0]
        raise KdError(
            f"the model cannot be applied to inputs of shape {kept.seen.shape}, which those of "
            f"{folder} were ({cause}); give the module that was trained"
        ) from error
    members = () if kept.members is None else (kept.members,)
    tree = {"params": wanted.params, "extra": wanted.extra}
    shaped = {name: (*members, *leaf.shape) for name, leaf in by_name(tree).items()}
    there = {n: array.shape for n, array in arrays.items() if not n.startswith(_HEADS)}
    for name in sorted({*shaped, *there}):
        if shaped.get(name) != there.get(name):
            raise KdError(
                f"{folder} holds {_shown(there.get(name))} for {name} and the model "
                f"{_shown(shaped.get(name))}; give the module that was trained"
            )
    filled = jax.tree_util.tree_map_with_path(
        lambda path, _: jnp.asarray(arrays[name_of(path)]), tree
    )
    return filled["params"], filled["extra"], _heads(arrays)


def _heads(arrays: Mapping[str, np.ndarray]) -> dict[str, PyTree]:
    """What losses own is of no model: it is read as it is named."""
    heads: dict[str, Any] = {}
    for name, array in arrays.items():
        if name.startswith(_HEADS):
            *parents, leaf = name.removeprefix(_HEADS).split("/")
            here = heads
            for parent in parents:
                here = here.setdefault(parent, {})
            here[leaf] = jnp.asarray(array)
    return heads


def _shown(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else f"[{' '.join(map(str, shape))}]"
