"""Training as pure functions: one step, a population of them, many of them in one dispatch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd.core import rng
from kd.core.gradients import Constraint, Kept, Metrics, Recipe, Trainable, View, gradients_of
from kd.core.heads import trained, with_trained
from kd.core.leaves import held, of_the_rest
from kd.core.objective import Objective
from kd.core.schedules import Shape
from kd.core.state import State
from kd.core.types import Batch, Hparams, Model, PyTree, Targets, Teacher

Step = Callable[[State, PyTree, Batch, Hparams], tuple[State, Metrics]]


def make_train_step(
    model: Model,
    teacher: Teacher | None,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    view: View | None = None,
    constraint: Constraint | None = None,
    learning_rate_shape: Shape | None = None,
    accumulate: int = 1,
    ema: float = 0.0,
    targets: Targets = "classes",
    freeze: Sequence[str] = (),
) -> Step:
    """``step(state, teacher_variables, batch, hparams) -> (state, metrics)``, pure and uncompiled.

    What is differentiated is ``sum(weight * value) / sum(weight)`` over the global batch, whether
    it is taken at once or, with `accumulate`, in that many parts whose sums are added up. The
    optimiser's update is multiplied by ``hparams["learning_rate"] * learning_rate_shape(step)``;
    `constraint` projects the new parameters; `view` augments the batch, and the teacher sees the
    same view. With `ema` above 0 the state's average moves after every step, see `moved_average`.
    Parameters whose names match `freeze` have no gradient and stay as they are, bit for bit.
    `targets` says what the labels are, which decides what is watched: see `kd.core.watch`.
    Only ``teacher.apply`` is used here: the weights come in as an argument, so they are neither
    baked into the program nor saved with the student. What the terms own is moved by the same
    optimiser, with a state of its own; `constraint` and `ema` are about the student alone.
    """

    recipe = Recipe(
        model,
        teacher,
        objective,
        optimizer,
        view,
        constraint,
        learning_rate_shape,
        accumulate,
        ema,
        targets,
        tuple(freeze),
    )

    def step(
        state: State, teacher_variables: PyTree, batch: Batch, hparams: Hparams
    ) -> tuple[State, Metrics]:
        if view is not None:
            batch = view(rng.stream(state.key, state.step, "view"), batch)
        gradients, kept, metrics = gradients_of(recipe, state, teacher_variables, batch, hparams)
        return _moved(recipe, state, gradients, kept, hparams), metrics

    return step


def _moved(
    recipe: Recipe, state: State, gradients: Trainable, kept: Kept, hparams: Hparams
) -> State:
    """The state after an update by these gradients."""
    extra, heads = kept
    shape = recipe.learning_rate_shape
    rate = hparams["learning_rate"] * (1.0 if shape is None else shape(state.step))
    free = of_the_rest(recipe.optimizer, recipe.freeze)
    params, opt_state = _updated(free, gradients[0], state.opt_state, state.params, rate)
    if recipe.constraint is not None:
        params = recipe.constraint(params)
    params = held(params, state.params, recipe.freeze)
    heads_opt_state = None
    if heads is not None:
        owned, heads_opt_state = _updated(
            recipe.optimizer, gradients[1], state.heads_opt_state, trained(heads), rate
        )
        heads = with_trained(heads, owned)
    count, average = state.step + 1, None
    if state.ema is not None:
        average = moved_average(state.ema, params, recipe.ema, count)
        average = held(average, state.ema, recipe.freeze)
    return State(
        count, params, extra, opt_state, state.key, state.best, average, heads, heads_opt_state
    )


def _updated(
    optimizer: optax.GradientTransformation,
    gradients: PyTree,
    opt_state: PyTree,
    params: PyTree,
    rate: jax.Array,
) -> tuple[PyTree, PyTree]:
    """Parameters after the optimiser's update at `rate`, and its state."""
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return optax.apply_updates(params, jax.tree.map(lambda u: u * rate, updates)), opt_state


def moved_average(average: PyTree, params: PyTree, decay: float, count: Any) -> PyTree:
    """The average of the parameters after each of `count` steps, the last of which are `params`.

    Formula: ``sum_i d^(t - i) p_i / sum_i d^(t - i)`` over the steps i = 1 to t = `count`, with
    ``d = decay``. It is moved by ``(1 - d) / (1 - d^t)`` of the way to `params`, which at t = 1 is
    all of it: nothing of the random start stays.

    Source: Kingma & Ba (2015), "Adam", section 3, on the correction of the bias.
    """
    way = (1 - decay) / -jnp.expm1(count * math.log(decay))

    def move(old: jax.Array, new: jax.Array) -> jax.Array:
        return (old + way * (new - old)).astype(old.dtype)

    return jax.tree.map(move, average, params)


def population(
    step: Step, *, own_teachers: bool = False, at_once: int | None = None, parts: int = 1
) -> Step:
    """The same step for every member of a population: state, batch and hparams gain a leading
    member axis.

    The teacher is shared, unless `own_teachers`: then its variables have a member axis too. Member
    i computes what a run of its own with its seed, numbers and teacher computes. How members are
    computed changes rounding alone, see `of_members`.
    """

    def run(
        state: State, teacher_variables: PyTree, batch: Batch, hparams: Hparams
    ) -> tuple[State, Metrics]:
        def member(own: tuple[State, PyTree, Batch, Hparams]) -> tuple[State, Metrics]:
            state, variables, batch, hparams = own
            return step(state, variables if own_teachers else teacher_variables, batch, hparams)

        variables = teacher_variables if own_teachers else None
        return of_members(member, (state, variables, dict(batch), dict(hparams)), at_once, parts)

    return run


def of_members(
    function: Callable[[PyTree], PyTree], own: PyTree, at_once: int | None = None, parts: int = 1
) -> Any:
    """``function(own[i])`` of every member i, stacked: every leaf of `own` and of the answer has a
    leading member axis.

    All members at once, in one vmap, or with `at_once` so many at a time, group after group; 1 is
    a loop. `parts` is the size of the mesh's axis ``member``: each part of the members is computed
    in groups of its own, side by side with the others.
    """
    if at_once is None:
        return jax.vmap(function, spmd_axis_name="member")(own)
    members = len(jax.tree.leaves(own)[0])
    size = min(at_once, members // parts)

    def grouped(own: PyTree) -> PyTree:
        return jax.lax.map(function, own, batch_size=None if size == 1 else size)

    if parts == 1:
        return grouped(own)
    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), own)
    answer = jax.vmap(grouped, spmd_axis_name="member")(split)
    return jax.tree.map(lambda x: x.reshape(members, *x.shape[2:]), answer)


def many(
    step: Step, gather: Callable[[PyTree, jax.Array], Batch], capacity: int
) -> Callable[..., Any]:
    """Up to `capacity` steps in one dispatch:
    ``(state, teacher, data, rows, count, hparams) -> (state, metrics)``.

    ``rows[capacity ...]`` names the examples of each step and ``gather(data, rows[i])`` makes its
    batch on the device. `count` is traced, so that a run of any length, stopped and resumed
    anywhere, is one program that does the same arithmetic. Metrics come back per step,
    ``[capacity ...]``, of which the first `count` rows are filled.
    """

    def run(
        state: State,
        teacher_variables: PyTree,
        data: PyTree,
        rows: jax.Array,
        count: jax.Array,
        hparams: Hparams,
    ) -> tuple[State, Metrics]:
        def body(i: jax.Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
            state, log = carry
            state, metrics = step(state, teacher_variables, gather(data, rows[i]), hparams)
            return state, jax.tree.map(lambda table, value: table.at[i].set(value), log, metrics)

        shapes = jax.eval_shape(
            lambda: step(state, teacher_variables, gather(data, rows[0]), hparams)[1]
        )
        log = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, log))

    return run


def many_of_population(
    run: Callable[..., Any], members: Callable[[Step], Step]
) -> Callable[..., Any]:
    """`many` of one member, for a population: ``rows[capacity m ...]`` in, metrics
    ``[capacity m ...]`` out.

    `members` makes a population's step of a member's, see `population`. What is computed in groups
    takes all steps of a dispatch group after group, so that a group's arrays stay in the cache.
    """

    def swapped(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)

    def of_all(
        state: State,
        teacher_variables: PyTree,
        data: PyTree,
        rows: jax.Array,
        count: jax.Array,
        hparams: Hparams,
    ) -> tuple[State, Metrics]:
        def steps(
            state: State, variables: PyTree, batch: Batch, hparams: Hparams
        ) -> tuple[State, Metrics]:
            return run(state, variables, data, batch["rows"], count, hparams)

        batch = {"rows": swapped(rows)}
        state, metrics = members(steps)(state, teacher_variables, batch, hparams)
        return state, swapped(metrics)

    return of_all
