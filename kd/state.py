"""What a training run is, at one step: everything else is a function of (seed, step)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd import rng
from kd.types import Model, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Parameters, untrained variables, optimiser state, and the run's key; with a leading member axis in a population.

    Shapes: ``step[]``, ``key[]`` (typed key of the seed); in a population ``step[m]``, ``key[m]``, ...
    """

    step: jax.Array | Any  # in a pytree JAX also puts shapes and axis numbers here
    params: PyTree
    extra: PyTree
    opt_state: PyTree
    key: jax.Array | Any


def init_state(
    model: Model, optimizer: optax.GradientTransformation, seed: Any, inputs: Any, init_seed: Any = None
) -> State:
    """The state before the first step, a pure function of the seeds. `inputs` is a batch of any size.

    `init_seed`, where given, draws the parameters in place of `seed`, which everything that is random later comes from.
    """
    key = jax.random.key(seed)
    first = key if init_seed is None else jax.random.key(init_seed)
    params, extra = model.init(rng.stream(first, 0, "init"), inputs)
    return State(jnp.zeros((), jnp.int32), params, extra, optimizer.init(params), key)
