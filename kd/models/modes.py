"""Training and evaluation mode of Linen modules: the names that say which, and the check that they
arrive.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax

from kd.core.types import PyTree
from kd.errors import KdError

MODES = ("train", "training", "is_training", "deterministic", "use_running_average")
"""Arguments and attributes that say whether a module trains; the last two mean that it does not."""

_EVALUATING = MODES[-2:]
_LAYERS: tuple[tuple[type[nn.Module], str, str | None], ...] = (
    (nn.BatchNorm, "use_running_average", None),
    (nn.Dropout, "deterministic", "rate"),
    (nn.MultiHeadDotProductAttention, "deterministic", "dropout_rate"),
)
"""Layers that training changes: the flag that they read, and the rate that may be 0."""

_REMEDY = (
    f"let the module take one of {', '.join(MODES)}, as an argument of __call__ or as an "
    "attribute, and pass it on"
)
_WHILE_TRAINING = (
    f"while the model trains; {_REMEDY}, or, if that is meant, give kd.linen(module, frozen=True)"
)


def flags(names: Iterable[str], train: bool) -> dict[str, Any]:
    """What each of these names of `MODES` is set to."""
    return {name: train != (name in _EVALUATING) for name in names}


def layers_in(train: bool) -> AbstractContextManager[None]:
    """A context that refuses layers of another mode than the module's, as they are called.

    Raises:
      KdError: the layer is named, and what the module must take.
    """

    def check(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        if context.method_name == "__call__":
            _check_layer(context.module, args, kwargs, train)
        return call(*args, **kwargs)

    return nn.intercept_methods(check)


def _check_layer(layer: nn.Module, args: Any, kwargs: Any, train: bool) -> None:
    for kind, flag, rate in _LAYERS:
        if not isinstance(layer, kind) or (rate is not None and getattr(layer, rate) == 0.0):
            continue
        evaluates, name = _told(layer, flag, args, kwargs), "/".join(layer.path)
        if evaluates is None:
            raise KdError(f"the layer {name} is not told whether the model trains; {_REMEDY}")
        if train and evaluates:
            raise KdError(f"the layer {name} is in evaluation mode {_WHILE_TRAINING}")
        if not train and not evaluates:
            raise KdError(f"the layer {name} is in training mode in evaluation; {_REMEDY}")


def check_statistics(before: PyTree, after: PyTree) -> None:
    """Raise a `KdError` unless a training step writes all batch statistics.

    It looks at traced values, and computes nothing: what was not written is the very same object.
    """
    old, new = before.get("batch_stats", {}), after.get("batch_stats", {})
    still = jax.tree_util.tree_leaves_with_path(
        jax.tree.map(lambda before, other: before is other, old, new)
    )
    for path, same in still:
        if same:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise KdError(f"the batch statistics {name} stay what they are {_WHILE_TRAINING}")


def _told(layer: nn.Module, flag: str, args: Any, kwargs: Any) -> bool | None:
    passed = inspect.signature(type(layer).__call__).bind_partial(layer, *args, **kwargs).arguments
    value = passed.get(flag)
    return getattr(layer, flag) if value is None else value
