"""Batches made on the device: rows in, examples out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from kd.data.dataset import Dataset
from kd.types import Batch


def to_device(data: Dataset, put: Any = jnp.asarray) -> dict[str, jax.Array]:
    """The data set's arrays on the device, as `gather` wants them; `put` places one array."""
    table = {"inputs": put(data.inputs), "scale": put(jnp.float32(data.scale))}
    return table if data.labels is None else {**table, "labels": put(data.labels)}


def gather(table: dict[str, jax.Array], rows: jax.Array) -> Batch:
    """The batch of `rows`; a negative row is padding, of weight 0.

    Shapes: ``rows[*b]`` -> inputs ``[*b ...]`` float32, labels, weight and index ``[*b]``.
    """
    safe = jnp.maximum(rows, 0)
    batch = {
        "inputs": table["inputs"][safe].astype(jnp.float32) * table["scale"],
        "weight": (rows >= 0).astype(jnp.float32),
        "index": safe,
    }
    return batch if "labels" not in table else {**batch, "labels": table["labels"][safe]}
