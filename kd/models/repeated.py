"""Blocks that a scan repeats, ``blocks`` with a leading axis, and the same one by one,
``blocks_0``, ``blocks_1``, ...
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from kd.core.types import PyTree

SCANNED = "blocks"
_ALONE = re.compile(r"blocks_(\d+)")


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


def _entry(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[i], tree)
