"""A loss on logit maps: what a classifier answers for the regions of an image."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core import divergences
from kd.core.losses import maps
from kd.core.types import Batch, Hparams, Outputs
from kd.errors import KdError

SCALES = (1, 2, 4)
"""Cells along each axis of the map."""


def sdd(student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams) -> Float[Array, "*b"]:
    """Scale-decoupled distillation: the divergence in every cell of the logit map, at several
    scales; it counts for more where a cell's class is not that of the whole image.

    Formula: ``sum_{m, n} w_{m,n} T^2 KL(softmax(c_t / T) || softmax(c_s / T))`` over the scales m =
    1, 2, 4 that the maps allow and their cells n; c is the mean of the logit map over a cell, and w
    is ``hparams["beta"]`` where the teacher's largest logit there is another class than that of its
    whole map, else 1. Shapes: taps ``logit_map`` ``[*b h w v]``, of grids that may differ, ->
    ``[*b]``, in nats.

    A logit map is what a classifier answers for every place before the mean over places: a layer
    that answers so, or ``head@norm``, what the linear layer ``head`` answers for each place of
    ``norm``.

    Raises:
      KdError: a tap without a grid, or with another width than the classes.

    Source: Wei, Luo & Luo (2024), "Scale decoupled distillation", eq. 6 to 10.
    """
    del batch
    maps.check_has_grid(student, teacher, "logit_map")
    for who, outputs in (("student", student), ("teacher", teacher)):
        if outputs.taps["logit_map"].shape[-1] != outputs.width:
            raise KdError(
                f"the {who}'s logit_map is {list(outputs.taps['logit_map'].shape)} and it answers "
                f"for {outputs.width} classes; name the layer that answers for every place with "
                "logits"
            )
    smallest = min(maps.common_grid(student, teacher, "logit_map"))
    scales = [scale for scale in SCALES if scale <= smallest]
    return sum(
        (_at_scale(student, teacher, hparams, scale) for scale in scales),
        start=jnp.zeros(student.positions, jnp.float32),
    )


def _at_scale(
    student: Outputs, teacher: Outputs, hparams: Hparams, scale: int
) -> Float[Array, "*b"]:
    temperature = hparams["temperature"]
    cells_t, cells_s = _cells(teacher, scale), _cells(student, scale)
    log_p, log_q = (
        jax.nn.log_softmax(cells / temperature, axis=-1) for cells in (cells_t, cells_s)
    )
    consistent = cells_t.argmax(axis=-1) == _cells(teacher, 1).argmax(axis=-1)
    weight = jnp.where(consistent, 1.0, hparams["beta"])
    return temperature**2 * jnp.sum(weight * divergences.kl(log_p, log_q), axis=-1)


def _cells(outputs: Outputs, scale: int) -> Float[Array, "*b n v"]:
    """The mean logits of each of the ``scale x scale`` cells."""
    size = (scale,) * len(maps.grid(outputs, "logit_map"))
    ahead = maps.ahead(outputs)
    return maps.flat(maps.pooled(maps.hidden(outputs, "logit_map"), ahead, size), ahead)
