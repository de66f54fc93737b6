"""What a Linen module asks for by name while it is applied: random streams and axes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax

from kd import rng
from kd.errors import KdError

Rngs = Mapping[str, jax.Array]


def supplied(apply: Callable[..., Any], key: jax.Array | None) -> Any:
    """``apply(rngs=...)`` with a key for every random stream that it asks for, within every axis
    that it reduces over.

    The stream ``dropout`` is `key` itself, any other one `rng.named`. An axis is of size 1: the
    batch is not split, so that a mean over devices is the value as it is.

    Raises:
      KdError: it draws random numbers, and there is no key: in evaluation.
    """
    rngs: dict[str, jax.Array] = {} if key is None else {"dropout": key}
    axes: list[str] = []
    while True:  # a module says what it lacks one by one
        try:
            return _within(axes, apply)(rngs)
        except flax.errors.InvalidRngError as error:
            name = _asked(r'PRNG for "(.+?)"', error, rngs)
            if key is None:
                raise KdError(
                    f"the model draws random numbers '{name}' in evaluation; let it draw in "
                    "training only"
                ) from error
            rngs[name] = rng.named(key, name)
        except NameError as error:
            axes.append(_asked(r"unbound axis name: (\w+)", error, axes))


def _within(axes: list[str], apply: Callable[..., Any]) -> Callable[[Rngs], Any]:
    def run(rngs: Rngs) -> Any:
        return apply(rngs=rngs)

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
