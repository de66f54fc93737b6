"""Batches made on the device: rows in, examples out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from kd.core.types import Batch
from kd.data.dataset import Dataset
from kd.data.stored import prepare
from kd.data.stream import Stream


def to_device(data: Dataset, put: Any = jnp.asarray) -> dict[str, jax.Array]:
    """The data set's arrays on the device, as `gather` wants them; `put` places one array."""
    table = {"inputs": put(data.inputs), "scale": put(jnp.float32(data.scale))}
    if data.starts is not None:
        table |= {
            "starts": put(data.starts),
            "offsets": put(jnp.arange(data.window, dtype=jnp.int32)),
        }
    if data.weights is not None:
        table["weights"] = put(data.weights)
    if data.partly_labelled:
        table["labelled"] = put(data.has_label)
    return table if data.labels is None else {**table, "labels": put(data.labels)}


def gather(table: dict[str, jax.Array], rows: jax.Array) -> Batch:
    """The batch of `rows`; a negative row is padding, of weight 0.

    Shapes: ``rows[*b]`` -> inputs ``[*b ...]`` float32 (``[*b window ...]`` of windowed data),
    weight and index ``[*b]``, labels ``[*b]`` or ``[*b v]``; of data of which only a part has
    labels also labelled ``[*b]``.
    """
    safe = jnp.maximum(rows, 0)
    places = jnp.add.outer(table["starts"][safe], table["offsets"]) if "starts" in table else safe
    batch = {
        "inputs": prepare(table["inputs"][places], table["scale"]),
        "weight": (rows >= 0).astype(jnp.float32),
        "index": safe,
    }
    if "weights" in table:
        batch["weight"] = batch["weight"] * table["weights"][safe]
    told = [name for name in ("labels", "labelled") if name in table]
    return {**batch, **{name: table[name][safe] for name in told}}


def as_floats(batch: Batch, scale: Any) -> Batch:
    """A streamed batch as the model sees it: its inputs are prepared at the data's scale."""
    return {**batch, "inputs": prepare(batch["inputs"], scale)}


def example_batch(data: Dataset | Stream, batch_size: int) -> Batch:
    """The first example over and over, for its shapes: inputs ``[b ...]`` float32, labels ``[b]``
    or ``[b v]``, weight and index ``[b]``.
    """
    batch = {
        "inputs": jnp.repeat(jnp.asarray(data.first), batch_size, axis=0),
        "weight": jnp.ones(batch_size, jnp.float32),
        "index": jnp.zeros(batch_size, jnp.int32),
    }
    if not data.labelled:
        return batch
    if isinstance(data, Stream) or data.labels is None:
        return {**batch, "labels": jnp.zeros(batch_size, jnp.int32)}
    if data.partly_labelled:
        batch["labelled"] = jnp.ones(batch_size, bool)
    row = jnp.zeros(data.labels.shape[1:], data.labels.dtype)
    return {**batch, "labels": jnp.broadcast_to(row, (batch_size, *row.shape))}
