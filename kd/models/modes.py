"""Training and evaluation mode of Linen modules: the names that say which, and the check that they
arrive.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax

from kd.errors import KdError
from kd.types import PyTree

MODES = ("train", "training", "is_training", "deterministic", "use_running_average")
"""Arguments and attributes that say whether a module trains; the last two mean that it does not."""

_EVALUATING = MODES[-2:]
_LAYERS: tuple[tuple[type[nn.Module], str, str | None], ...] = (
    (nn.BatchNorm, "use_running_average", None),
    (nn.Dropout, "deterministic", "rate"),
    (nn.MultiHeadDotProductAttention, "deterministic", "dropout_rate"),
)
"""Layers that training changes: the flag that they read, and the rate at which they do nothing."""


def flags(names: Iterable[str], train: bool) -> dict[str, bool]:
    """What each of these names of `MODES` is set to."""
    return {name: train != (name in _EVALUATING) for name in names}


def in_training(
    call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    """An interceptor of Flax's that refuses layers in evaluation mode, while a module trains.

    Raises:
      KdError: the layer is named, and what the module must take.
    """
    layer = context.module
    if context.method_name == "__call__":
        for kind, flag, rate in _LAYERS:
            idle = rate is not None and getattr(layer, rate, 0.0) == 0.0
            if isinstance(layer, kind) and not idle and _told(layer, flag, args, kwargs):
                raise _untold(f"the layer {'/'.join(layer.path)} is in evaluation mode")
    return call(*args, **kwargs)


def check_statistics(before: PyTree, after: PyTree) -> None:
    """Raise a `KdError` unless a training step writes all batch statistics.

    It looks at traced values, and computes nothing: what was not written is the very same object.
    """
    old, new = before.get("batch_stats", {}), after.get("batch_stats", {})
    still = jax.tree_util.tree_leaves_with_path(
        jax.tree.map(lambda one, other: one is other, old, new)
    )
    for path, same in still:
        if same:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise _untold(f"the batch statistics {name} stay what they are")


def _told(layer: nn.Module, flag: str, args: Any, kwargs: Any) -> bool:
    passed = inspect.signature(type(layer).__call__).bind_partial(layer, *args, **kwargs).arguments
    value = passed.get(flag)
    return bool(getattr(layer, flag) if value is None else value)


def _untold(what: str) -> KdError:
    return KdError(
        f"{what} while the model trains; let the module take one of {', '.join(MODES)}, as an "
        "argument of __call__ or as an attribute, and pass it on, or, if that is meant, give "
        "kd.linen(module, frozen=True)"
    )
