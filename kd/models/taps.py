"""Inner features of a Linen module, taken by path from outside: the module does not know that it is
looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd.errors import KdError, unknown

COLLECTION = "intermediates"
"""Where Flax keeps what modules answer while they are looked into, and what they sow."""


def capturing(paths: tuple[str, ...]) -> Callable[[nn.Module, str], bool]:
    """Which answers to keep: those of the modules at `paths`, and no others, so that nobody pays
    for what is not asked for.
    """
    wanted = {_modules(path) for path in paths}
    return lambda module, method: method == "__call__" and _modules("/".join(module.path)) in wanted


def layers(paths: tuple[str, ...]) -> tuple[str, ...]:
    """The layers that `paths` look at: of ``head@norm`` that is ``norm``."""
    return tuple(dict.fromkeys(path.rpartition("@")[2] for path in paths))


def taken(paths: tuple[str, ...], kept: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """The taps at `paths` of what was kept, by path.

    A path names a module by the modules around it, ``blocks/mlp``, or what one of them sows. Of
    blocks that a scan repeats a number is one of them: ``blocks/3/mlp``. With ``head@norm`` it is
    what the linear layer ``head`` answers for every place of ``norm``: `params` are its model's.

    Raises:
      KdError: what stands before the @ is no linear layer that fits.
    """
    return {path: _answer(path, kept, params) for path in paths}


def known(module: nn.Module, variables: Any, *arguments: Any, **options: Any) -> list[str]:
    """Every path at which the module can be looked into. Nothing is computed."""

    def run() -> Any:
        return module.apply(
            variables, *arguments, capture_intermediates=True, mutable=[COLLECTION], **options
        )[1]

    return sorted(_paths(jax.eval_shape(run).get(COLLECTION, {}), ()))


def check(paths: tuple[str, ...], all_paths: list[str]) -> None:
    """Raise a `KdError` for a path that is not there; the nearest is shown."""
    there = {_modules(path) for path in all_paths}
    for part in "@".join(paths).split("@"):
        if _modules(part) not in there:
            raise unknown("tap", part, all_paths)


def _modules(path: str) -> str:
    """The path without the numbers of repeated blocks."""
    return "/".join(part for part in path.split("/") if not part.isdigit())


def _answer(path: str, kept: Mapping[str, Any], params: Any) -> Any:
    head, _, layer = path.rpartition("@")
    values = _at(layer, kept)
    if not head:
        return values
    own: Any = params
    for part in head.split("/"):
        own = own[part] if isinstance(own, Mapping) and part in own else {}
    kernel = own.get("kernel") if isinstance(own, Mapping) else None
    if kernel is None or kernel.ndim != 2 or kernel.shape[0] != values.shape[-1]:
        raise KdError(
            f"'{path}' asks what '{head}' answers for every place of '{layer}', which has "
            f"{values.shape[-1]} features, and '{head}' is no linear layer of so many; name the "
            "head, and the layer whose mean it reads"
        )
    mapped = values @ kernel.astype(values.dtype)
    bias = own.get("bias")
    if bias is None:
        return mapped
    return mapped + jnp.broadcast_to(bias.astype(values.dtype), mapped.shape)


def _at(path: str, kept: Mapping[str, Any]) -> Any:
    node: Any = kept
    layers = []
    for part in path.split("/"):
        if part.isdigit():
            layers.append(int(part))
        else:
            node = node[part]
    value = jax.tree.leaves(node["__call__"] if isinstance(node, Mapping) else node)[0]
    for layer in layers:
        value = value[layer]
    return value


def _paths(kept: Any, before: tuple[str, ...]) -> set[str]:
    if not isinstance(kept, Mapping):
        return {"/".join(before)}
    inside = [
        _paths(value, before if name == "__call__" else (*before, name))
        for name, value in kept.items()
    ]
    return set().union(*inside) - {""}
