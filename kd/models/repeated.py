"""Blocks that a scan repeats, ``blocks`` with a leading axis, and the same one by one,
``blocks_0``, ``blocks_1``, ...
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from kd.core.types import PyTree
from kd.errors import KdError
from kd.placement.mesh import is_whole

SCANNED = "blocks"
_ALONE = re.compile(r"blocks_(\d+)")
_SCANNED, _ALONE_AT = "params/blocks/", "params/blocks_{}/"
_OF_BLOCK = re.compile(r"params/blocks(?:_(\d+))?/")


def unrolled(params: PyTree) -> PyTree:
    """`params` whose repeated blocks are modules of their own; any other as they are."""
    if not isinstance(params, Mapping) or SCANNED not in params:
        return params
    stacked = params[SCANNED]
    depth = len(jax.tree.leaves(stacked)[0])
    alone = {f"{SCANNED}_{i}": _entry(stacked, i) for i in range(depth)}
    return {**{name: part for name, part in params.items() if name != SCANNED}, **alone}


def rolled(params: PyTree) -> PyTree:
    """The inverse of `unrolled`."""
    matches = {name: _ALONE.fullmatch(name) for name in params}
    order = sorted((int(match[1]), name) for name, match in matches.items() if match)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(params[name] for _, name in order))
    return {
        **{name: params[name] for name, match in matches.items() if not match},
        SCANNED: stacked,
    }


def check_layers(layers: Any, init: Any, path: str = "") -> tuple[int, ...] | None:
    """`layers`, which a caller gave beside `init`, as numbers; `path` is that of their keys.

    Raises:
      KdError: no numbers of blocks, or layers of no model.
    """
    if layers is None:
        return None
    listed = tuple(layers) if isinstance(layers, (tuple, list)) else ()
    if not listed or not all(is_whole(layer) and layer >= 0 for layer in listed):
        raise KdError(
            f"{path}layers must be the blocks of the first weights to begin with, from 0, got "
            f"{layers!r}; e.g. (0,2,4)"
        )
    if init is None:
        raise KdError(
            f"{path}layers={listed} changes nothing without {path}init, the model whose blocks "
            "they are; set it"
        )
    return tuple(int(layer) for layer in listed)


def is_of_block(name: str) -> bool:
    """Whether an array's name, ``params/...``, is that of a block's."""
    return _OF_BLOCK.match(name) is not None


def are_scanned(names: Iterable[str]) -> bool:
    """Whether arrays of these names are of blocks that a scan repeats."""
    return any(name.startswith(_SCANNED) for name in names)


def depth_of(names: Mapping[str, Any]) -> int:
    """How many blocks arrays or shapes by name have; 0 of a model without blocks."""
    scanned = [leaf.shape[0] for name, leaf in names.items() if name.startswith(_SCANNED)]
    numbers = [int(match[1]) + 1 for match in map(_OF_BLOCK.match, names) if match and match[1]]
    return max([*scanned, *numbers], default=0)


def apart(arrays: Mapping[str, Any], ahead: int) -> dict[str, Any]:
    """Arrays by name, those of repeated blocks by the block's own, whose axis is that after the
    `ahead` first.
    """
    alone: dict[str, Any] = {}
    for name, array in arrays.items():
        if not name.startswith(_SCANNED):
            alone[name] = array
            continue
        rest = name.removeprefix(_SCANNED)
        for i in range(array.shape[ahead]):
            alone[f"{_ALONE_AT.format(i)}{rest}"] = np.take(array, i, axis=ahead)
    return alone


def together(arrays: Mapping[str, Any], wanted: Mapping[str, Any], ahead: int) -> dict[str, Any]:
    """The inverse of `apart`, where `wanted` are arrays or shapes of repeated blocks: those of
    which every block is there.
    """
    whole = dict(arrays)
    for name, leaf in wanted.items():
        if not name.startswith(_SCANNED):
            continue
        rest = name.removeprefix(_SCANNED)
        blocks = [f"{_ALONE_AT.format(i)}{rest}" for i in range(leaf.shape[0])]
        if arrays.keys() >= set(blocks):
            whole[name] = np.stack([arrays[block] for block in blocks], axis=ahead)
    return whole


def chosen(arrays: Mapping[str, Any], layers: tuple[int, ...], depth: int) -> dict[str, Any]:
    """Arrays by name, of the blocks those that `layers` names, in that order from 0.

    Raises:
      KdError: layers that are not there, or not as many as the student's `depth`.
    """
    there = depth_of(arrays)
    if len(layers) != depth:
        raise KdError(
            f"layers={layers} name {len(layers)} blocks and the student has {depth}; name one for "
            "each"
        )
    outside = [layer for layer in layers if layer >= there]
    if outside:
        raise KdError(
            f"layers={layers} name block {outside[0]} and the first weights have {there} blocks, 0 "
            f"to {there - 1}; name some of these"
        )
    mapped = {name: array for name, array in arrays.items() if not is_of_block(name)}
    for i, layer in enumerate(layers):
        theirs, ours = _ALONE_AT.format(layer), _ALONE_AT.format(i)
        mapped |= {
            ours + name.removeprefix(theirs): array
            for name, array in arrays.items()
            if name.startswith(theirs)
        }
    return mapped


def _entry(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[i], tree)
