"""Optimisers by name, from Optax, and the max-norm constraint."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from kd.core.schedules import Schedule
from kd.core.step import Constraint
from kd.core.types import PyTree
from kd.errors import KdError
from kd.fields import later

Path = tuple[Any, ...]
"""Keys from the root of a tree of parameters to a leaf."""


@dataclasses.dataclass(frozen=True)
class Optim:
    """An optimiser. `learning_rate` is the base value and `learning_rate_schedule` its shape over
    the run.

    `max_norm` bounds the Euclidean norm of each unit's incoming weights after every step,
    `clip_norm` that of the whole gradient before every step; 0 switches them off. Parameters whose
    names match one of the patterns of `freeze`, such as ``Dense_0/*``, stay as they are: no decay,
    no momentum, no norm. The other rules are about the rest.
    """

    name: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    learning_rate_schedule: Schedule = Schedule()
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    max_norm: float = 0.0
    clip_norm: float = later(0.0)
    freeze: tuple[str, ...] = later(())


def make_optimizer(spec: Optim) -> optax.GradientTransformation:
    """The optimiser at unit learning rate; the step multiplies by the rate, which may differ
    between members.

    Weight decay is decoupled: ``p -= rate * (direction + weight_decay * p)``, on matrices only,
    never on biases. The gradient is clipped first of all: ``g *= min(1, clip_norm / |g|)`` over all
    parameters together.

    Raises:
      KdError: a momentum outside [0, 1), a rate of 0 or less, a negative weight decay, max-norm or
        clip-norm, or True or False for a number.
    """
    for name in ("learning_rate", "momentum", "weight_decay", "max_norm", "clip_norm"):
        if isinstance(getattr(spec, name), bool):
            raise KdError(f"optim.{name} must be a number, got {getattr(spec, name)}")
    if not 0 <= spec.momentum < 1:
        raise KdError(f"optim.momentum must lie in [0, 1), got {spec.momentum}")
    if not 0 < spec.learning_rate < math.inf:
        raise KdError(
            f"optim.learning_rate must be finite and more than 0, got {spec.learning_rate}; at 0 "
            "nothing is learnt"
        )
    for name in ("weight_decay", "max_norm", "clip_norm"):
        if not 0 <= getattr(spec, name) < math.inf:
            raise KdError(f"optim.{name} must be 0 or more and finite, got {getattr(spec, name)}")
    if spec.name == "sgd":
        direction = optax.sgd(1.0, momentum=spec.momentum or None, nesterov=spec.nesterov)
    else:
        direction = optax.adam(1.0, b1=spec.momentum, nesterov=spec.nesterov)
    steps: list[optax.GradientTransformation] = [direction]
    if spec.clip_norm:
        steps.insert(0, optax.clip_by_global_norm(spec.clip_norm))
    if spec.weight_decay:
        steps.append(optax.add_decayed_weights(-spec.weight_decay, mask=_matrices))
    return optax.chain(*steps) if len(steps) > 1 else direction


def max_norm(limit: float) -> Constraint | None:
    """Projection of every kernel's columns onto the ball of radius `limit`:
    ``w *= min(1, limit / |w|)``.

    Shapes: kernels ``[..., inputs, units]``; the norm runs over all axes but the last, and of
    layers that are stacked for a scan (parameters under ``blocks``) not over the first one either.
    Biases stay. None when `limit` is 0.

    Source: Srivastava et al. (2014), "Dropout", section 5.1.
    """
    if limit == 0:
        return None

    def clip(path: Path, leaf: jax.Array) -> jax.Array:
        if not _is_matrix(path, leaf):
            return leaf
        # a module of that name may be one layer
        first = 1 if "blocks" in _names(path) and leaf.ndim > 2 else 0
        norm = jnp.sqrt(jnp.sum(leaf**2, axis=tuple(range(first, leaf.ndim - 1)), keepdims=True))
        return leaf * jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))

    return lambda params: jax.tree_util.tree_map_with_path(clip, params)


def _matrices(params: PyTree) -> PyTree:
    return jax.tree_util.tree_map_with_path(_is_matrix, params)


def _is_matrix(path: Path, leaf: Any) -> bool:
    # By name too: the biases of layers that are stacked for a scan have two dimensions.
    return leaf.ndim > 1 and _names(path)[-1:] not in (["bias"], ["scale"])


def _names(path: Path) -> list[Any]:
    return [getattr(key, "key", None) for key in path]
