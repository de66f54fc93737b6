"""Any Flax Linen module as a `Model`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from kd.errors import KdError
from kd.types import Model, Outputs, PyTree


def linen(module: nn.Module, *, mixed: bool = False) -> Model:
    """Adapt a Flax Linen module that maps a batch of inputs to logits (or to `Outputs`).

    If its ``__call__`` takes `train`, `training` or `deterministic`, that is passed. Collections
    other than ``params``, such as batch statistics, travel in the state's `extra` and are updated
    in training only. `mixed` is as in `Model`: a module whose layers keep to the type of their
    inputs, as those of `kd.models.dense` do.
    """
    accepted = inspect.signature(type(module).__call__).parameters

    def mode(train: bool) -> dict[str, Any]:
        flags = {"train": train, "training": train, "deterministic": not train}
        return {name: value for name, value in flags.items() if name in accepted}

    def init(key: jax.Array, inputs: Any) -> tuple[PyTree, PyTree]:
        variables = dict(module.init(key, inputs, **mode(False)))
        return variables.pop("params", {}), variables

    def apply(
        params: PyTree,
        extra: PyTree,
        inputs: Any,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[Outputs, PyTree]:
        variables: Mapping[str, Any] = {"params": params, **extra}
        rngs = None if key is None else {"dropout": key}
        if not train or not extra:
            return _outputs(module.apply(variables, inputs, rngs=rngs, **mode(train))), extra
        answer, updated = module.apply(
            variables, inputs, rngs=rngs, mutable=list(extra), **mode(train)
        )
        return _outputs(answer), updated

    return Model(init, apply, mixed)


def as_model(given: Any) -> Model:
    """A `Model` as it is, or a Flax Linen module adapted. Raises a `KdError` for anything else."""
    if isinstance(given, Model):
        return given
    if isinstance(given, nn.Module):
        return linen(given)
    raise KdError(
        f"a model must be a kd Model or an instance of a Flax Linen module, got {given!r:.80}; "
        "e.g. MyModule(10)"
    )


def _outputs(answer: Any) -> Outputs:
    if isinstance(answer, (tuple, list, Mapping)):
        raise KdError(
            f"a model must answer with one array of logits, got a {type(answer).__name__}; return "
            "the logits"
        )
    return answer if isinstance(answer, Outputs) else Outputs(answer)
