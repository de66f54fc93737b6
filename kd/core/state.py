"""What a training run is, at one step: everything else is a function of (seed, step)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd.core import rng
from kd.core.heads import exported, trained
from kd.core.leaves import with_leaves
from kd.core.types import Model, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Best:
    """What early stopping keeps: the variables with the fewest validation errors so far, and the
    step they are from; `heads` are the exported ones, None where there are none. Where another
    metric is watched it stands in the place of the errors, its sign turned where more is better.

    Shapes: ``errors[]``, ``step[]``; in a population ``errors[m]``, ``step[m]``.
    """

    params: PyTree
    extra: PyTree
    errors: jax.Array | Any
    step: jax.Array | Any
    heads: PyTree = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Parameters, untrained variables, optimiser state, and the run's key; with a leading member
    axis in a population.

    `ema` is the exponential moving average of the parameters, without the bias of its start, None
    in a run without one; `best` is None in a run without early stopping. `heads` are what the
    terms of the objective own, by the name of the term, and `heads_opt_state` their part of the
    optimiser's; None where they own nothing.

    Shapes: ``step[]``, ``key[]`` (typed key of the seed); in a population ``step[m]``, ``key[m]``,
    ...
    """

    step: jax.Array | Any  # in a pytree JAX also puts shapes and axis numbers here
    params: PyTree
    extra: PyTree
    opt_state: PyTree
    key: jax.Array | Any
    best: Best | Any = None  # Orbax puts arguments of its own here too
    ema: PyTree = None
    heads: Any = None
    heads_opt_state: PyTree = None

    @property
    def student(self) -> PyTree:
        """The parameters that the run stands for at this step: their moving average, where one is
        kept.
        """
        return self.params if self.ema is None else self.ema


def init_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    seed: Any,
    inputs: Any,
    init_seed: Any = None,
    first: Mapping[str, Any] | None = None,
) -> State:
    """The state before the first step, a pure function of the seeds. `inputs` is a batch of any
    size.

    `init_seed`, where given, draws the parameters in place of `seed`, which everything that is
    random later comes from. `first` are weights that are not drawn, by name: ``params/...`` and
    ``extra/...``.
    """
    key = rng.key(seed)
    drawing = key if init_seed is None else rng.key(init_seed)
    params, extra = model.init(rng.stream(drawing, 0, "init"), inputs)
    if first:
        begun = with_leaves({"params": params, "extra": extra}, first)
        params, extra = begun["params"], begun["extra"]
    return State(jnp.zeros((), jnp.int32), params, extra, optimizer.init(params), key)


def with_heads(state: State, heads: Any, optimizer: optax.GradientTransformation) -> State:
    """`state` with what the terms own, which the same optimiser moves beside the parameters."""
    if heads is None:
        return state
    moved = optimizer.init(trained(heads))
    return dataclasses.replace(state, heads=heads, heads_opt_state=moved)


def with_ema(state: State) -> State:
    """`state` ready to average its parameters; what stands there before the first step does not
    count.
    """
    # donated apart from the parameters
    return dataclasses.replace(state, ema=jax.tree.map(jnp.copy, state.params))


def with_best(state: State) -> State:
    """`state` ready for early stopping: nothing has been kept yet, so anything is better."""
    params, extra = jax.tree.map(jnp.zeros_like, (state.params, state.extra))
    nothing = Best(
        params,
        extra,
        errors=jnp.full(state.step.shape, jnp.inf),
        step=jnp.zeros_like(state.step),
        heads=jax.tree.map(jnp.zeros_like, exported(state.heads)) or None,
    )
    return dataclasses.replace(state, best=nothing)


def keep_best(state: State, errors: Any, counts: Any = True) -> State:
    """`state` with its present variables as the best ones where they make fewer validation errors,
    member by member.

    Of equals the earlier stays, and so does what is kept where this look no longer `counts`.
    Shapes: ``errors[]``, or ``errors[m]`` in a population, and so `counts`.

    Source: Prechelt (1998), "Early stopping - but when?": the point of the lowest validation error.
    """
    assert state.best is not None
    better = (jnp.asarray(errors) < state.best.errors) & counts

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(better.reshape(better.shape + (1,) * (new.ndim - better.ndim)), new, old)

    now = Best(
        state.student,
        state.extra,
        jnp.asarray(errors, jnp.float32),
        state.step,
        exported(state.heads) or None,
    )
    return dataclasses.replace(state, best=jax.tree.map(choose, now, state.best))
