"""Batches made on the device: rows in, examples out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.core.types import Batch
from kd.data.dataset import Dataset
from kd.data.examples import Examples
from kd.data.stored import prepare
from kd.data.stream import Stream
from kd.data.targets import has_label
from kd.data.windows import Windows


def to_device(data: Dataset, put: Any = jnp.asarray) -> dict[str, Any]:
    """The data set's arrays on the device, as `gather` wants them; `put` places one array."""
    table: dict[str, Any] = {}
    if isinstance(data.inputs, Windows):
        table["inputs"], table["starts"] = put(data.inputs.frames), put(data.inputs.starts)
        table["offsets"] = put(jnp.arange(data.inputs.width, dtype=jnp.int32))
    else:
        table["inputs"] = put(data.inputs)
    if data.unit is not None:
        table["scale"] = put(jnp.float32(data.unit))
    if data.weights is not None:
        table["weights"] = put(data.weights)
    elif data.positions:
        table["weights"] = put(np.ones((len(data), *data.positions), np.bool_))
    if data.labels is not None and data.partly_labelled:
        table["labelled"] = put(has_label(data.labels))
    if data.teacher_inputs is not None:
        table["teacher"] = to_device(data.teacher_inputs, put)
    return table if data.labels is None else {**table, "labels": put(data.labels)}


def gather(table: dict[str, Any], rows: jax.Array) -> Batch:
    """The batch of `rows`; a negative row is padding, of weight 0.

    Shapes: ``rows[*b]`` -> inputs ``[*b ...]`` float32, or int32 of identities, index ``[*b]``,
    weight ``[*b *p]``, labels ``[*b *p]`` or ``[*b v]``; of data of which only a part has labels
    also labelled ``[*b *p]``, and teacher_inputs ``[*b ...]`` where a teacher sees something else.
    """
    safe = jnp.maximum(rows, 0)
    places = jnp.add.outer(table["starts"][safe], table["offsets"]) if "starts" in table else safe
    batch = {
        "inputs": prepare(table["inputs"][places], table.get("scale")),
        "weight": (rows >= 0).astype(jnp.float32),
        "index": safe,
    }
    if "weights" in table:
        weights = table["weights"][safe].astype(jnp.float32)
        there = batch["weight"].reshape(rows.shape + (1,) * (weights.ndim - rows.ndim))
        batch["weight"] = there * weights
    if "teacher" in table:
        batch["teacher_inputs"] = gather(table["teacher"], rows)["inputs"]
    told = [name for name in ("labels", "labelled") if name in table]
    return {**batch, **{name: table[name][safe] for name in told}}


def shortened(batch: Batch, length: int | None, positions: bool) -> Batch:
    """The batch of text ``[b l 2]`` whose examples are `length` tokens long, in NumPy or in JAX;
    None: as it is. Where there is an answer for each of the `positions`, so are these.
    """
    if length is None:
        return batch
    told = ("labels", "weight", "labelled") if positions else ()
    cut = [name for name in ("inputs", "teacher_inputs", *told) if name in batch]
    return {**batch, **{name: batch[name][:, :length] for name in cut}}


def as_seen(batch: Batch, unit: Any) -> Batch:
    """A streamed batch as the models see it: its inputs are prepared in the data's unit, and those
    of a teacher too.
    """
    stored = [name for name in ("inputs", "teacher_inputs") if name in batch]
    return {**batch, **{name: prepare(batch[name], unit) for name in stored}}


def example_batch(data: Examples, batch_size: int) -> Batch:
    """The first example over and over, for its shapes: inputs ``[b ...]``, labels ``[b *p]`` or
    ``[b v]``, weight ``[b *p]`` and index ``[b]``.
    """
    positions = (batch_size, *data.positions)
    batch = {
        "inputs": jnp.repeat(jnp.asarray(data.first), batch_size, axis=0),
        "weight": jnp.ones(positions, jnp.float32),
        "index": jnp.zeros(batch_size, jnp.int32),
    }
    if data.teacher_inputs is not None:
        shown = jnp.asarray(data.teacher_inputs.first)
        batch["teacher_inputs"] = jnp.repeat(shown, batch_size, axis=0)
    if not data.labelled:
        return batch
    if data.partly_labelled:
        batch["labelled"] = jnp.ones(positions, bool)
    if isinstance(data, Stream) or data.labels is None:
        return {**batch, "labels": jnp.zeros(positions, jnp.int32)}
    row = jnp.zeros(data.labels.shape[1:], data.labels.dtype)
    return {**batch, "labels": jnp.broadcast_to(row, (batch_size, *row.shape))}
