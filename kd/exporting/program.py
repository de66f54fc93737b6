"""A model as a program of its own: stored inputs in, logits out, in StableHLO."""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from kd.core.types import Model, PyTree
from kd.data import prepare
from kd.data.seen import Seen
from kd.errors import KdError
from kd.placement.ambient import pinned
from kd.system import words

PLATFORMS = ("cpu", "cuda", "tpu")


@pinned()
def lowered(
    model: Model, params: PyTree, extra: PyTree, seen: Seen
) -> tuple[bytes, tuple[str, ...]]:
    """A function ``stored[b ...] -> logits[b *p v]`` for any b, serialised, and its platforms.

    Its inputs are those of `seen` as they are stored: what makes them what a
    model sees is inside. So are the weights.
    It is for `PLATFORMS`, or for that of this process alone where the model asks for its own.

    Raises:
      KdError: a model that cannot be lowered for any number of examples.
    """
    # on one device: a program that holds parts of a mesh would run on that mesh alone
    params, extra = (jax.tree.map(_whole, tree) for tree in (params, extra))

    def logits(stored: jax.Array) -> jax.Array:
        answer, _ = model.apply(params, extra, prepare(stored, seen.unit), train=False)
        return answer.astype(jnp.float32).logits

    sizes = ", ".join(["b", *map(str, seen.shape)])
    form = jax.ShapeDtypeStruct(
        jax.export.symbolic_shape(sizes), jax.dtypes.canonicalize_dtype(seen.dtype)
    )

    def export(*platforms: str) -> Any:
        return jax.export.export(jax.jit(logits), platforms=platforms)(form)

    with words.doing(f"compiling for {', '.join(PLATFORMS)}"):
        try:
            exported = export(*PLATFORMS)
        except Exception:  # such as a kernel that one platform has
            exported = _here(export)
    return bytes(exported.serialize()), tuple(exported.platforms)


def _whole(leaf: Any) -> jax.Array:
    return jnp.asarray(np.asarray(leaf))


def _here(export: Any) -> Any:
    try:
        return export()
    except KdError:
        raise
    except Exception as error:  # a module that asks how many examples there are, for example
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KdError(
            f"this model cannot be written as a program for any number of examples ({cause}); "
            "where it asks how many there are, write x.reshape(x.shape[0], -1) and not len(x), or "
            "export its arrays alone: --format=safetensors (in Python format='safetensors')"
        ) from error
