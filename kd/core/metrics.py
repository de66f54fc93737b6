"""Metrics as mergeable pairs (total, count): the mean is taken once, over everything that was
counted.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
    """A weighted mean in two parts. Merging adds them; ``total / count`` is the value."""

    total: Float[Array, "*m"] | Any  # in a pytree JAX also puts shapes and axis numbers here
    count: Float[Array, "*m"] | Any

    @property
    def value(self) -> Float[Array, "*m"]:
        """``total / count``; zero when nothing was counted."""
        return self.total / jnp.where(self.count == 0, 1.0, self.count)


def weighted_mean(values: Float[Array, "*b"], weight: Float[Array, "*b"]) -> Mean:
    """``sum(weight * values)`` and ``sum(weight)``; where the weight is zero the value is not
    looked at.

    Under ``jit`` the sums run over the global batch, whatever the devices. Shapes:
    ``[*b], [*b] -> [], []``.
    """
    return Mean(jnp.sum(jnp.where(weight > 0, weight * values, 0.0)), jnp.sum(weight))
