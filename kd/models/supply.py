"""What a Linen module asks for by name while it is applied: random streams and axes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
from flax import errors

from kd.core import rng
from kd.errors import KdError

Rngs = dict[str, Any]


def supplied(apply: Callable[[Rngs], Any], rngs: Rngs) -> Any:
    """``apply(rngs)`` with a key for every random stream that it asks for, within every axis that
    it reduces over.

    A stream that `rngs` lacks is `rng.named` of the first that it has. An axis is of size 1: the
    batch is not split, so that a mean over devices is the value as it is.

    Raises:
      KdError: it draws random numbers and `rngs` is empty: in evaluation.
    """
    axes: list[str] = []
    while True:  # a module says what it lacks one by one
        try:
            return _within(axes, apply)(rngs)
        except errors.InvalidRngError as error:
            name = _asked(r'PRNG for "(.+?)"', error, rngs)
            if not rngs:
                raise KdError(
                    f"the model draws random numbers '{name}' in evaluation; let it draw in "
                    "training only"
                ) from error
            rngs = {**rngs, name: rng.named(next(iter(rngs.values())), name)}
        except NameError as error:
            axes.append(_asked(r"unbound axis name: (\w+)", error, axes))


def _within(axes: list[str], run: Callable[[Rngs], Any]) -> Callable[[Rngs], Any]:
    for axis in axes:
        run = _on_axis(axis, run)
    return run


def _on_axis(axis: str, run: Callable[[Rngs], Any]) -> Callable[[Rngs], Any]:
    over = jax.vmap(run, in_axes=None, axis_name=axis, axis_size=1)
    return lambda rngs: jax.tree.map(lambda leaf: leaf[0], over(rngs))


def _asked(pattern: str, error: Exception, supplied: Any) -> str:
    """The name that a complaint is about; the complaint itself where that is nothing new."""
    name = re.search(pattern, str(error))
    if name is None or name[1] in supplied:
        raise error
    return name[1]
