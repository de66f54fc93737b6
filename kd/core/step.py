"""Training as pure functions: one step, a population of them, many of them in one dispatch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd.core import rng
from kd.core.heads import trained, with_trained
from kd.core.leaves import held, of_the_rest, without_gradient
from kd.core.metrics import Mean, weighted_mean
from kd.core.objective import Objective
from kd.core.schedules import Shape
from kd.core.state import State
from kd.core.targets import with_label_share
from kd.core.types import Batch, Hparams, Model, Outputs, PyTree, Targets, Teacher
from kd.core.watch import watched

Metrics = dict[str, Mean]
Step = Callable[[State, PyTree, Batch, Hparams], tuple[State, Metrics]]
View = Callable[[jax.Array, Batch], Batch]
Constraint = Callable[[PyTree], PyTree]


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

    def step(
        state: State, teacher_variables: PyTree, batch: Batch, hparams: Hparams
    ) -> tuple[State, Metrics]:
        if view is not None:
            batch = view(rng.stream(state.key, state.step, "view"), batch)
        batch = with_label_share(batch)
        whole = jnp.sum(batch["weight"])
        # a batch that weighs nothing has the gradient zero
        whole = jnp.where(whole == 0, 1.0, whole)

        def part(
            kept: tuple[PyTree, Any], batch: Batch, number: jax.Array | int
        ) -> tuple[PyTree, PyTree, Metrics]:
            extra, heads = kept
            answer = _asked(teacher, teacher_variables, batch)
            dropout = rng.stream(state.key, state.step, "dropout")
            dropout = dropout if accumulate == 1 else jax.random.fold_in(dropout, number)

            def loss(moved: tuple[PyTree, PyTree]) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
                student, updated = model.apply(
                    without_gradient(moved[0], freeze),
                    extra,
                    batch["inputs"],
                    train=True,
                    key=dropout,
                )
                total, terms, later = objective(
                    student, answer, batch, hparams, state.step, with_trained(heads, moved[1])
                )
                # what is trained moves between steps, and buffers from part to part
                later = with_trained(later, trained(heads))
                metrics = {"loss": weighted_mean(total, batch["weight"])}
                metrics |= {
                    f"loss/{name}": weighted_mean(value, batch["weight"])
                    for name, value in terms.items()
                }
                return metrics["loss"].total / whole, (
                    (updated, later),
                    metrics | watched(student, answer, batch, targets),
                )

            moved = (state.params, trained(state.heads))
            (_, (updated, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(moved)
            return gradients, updated, metrics

        kept = (state.extra, state.heads)
        gradients, (extra, heads), metrics = _accumulated(part, kept, batch, accumulate)
        rate = hparams["learning_rate"] * (
            1.0 if learning_rate_shape is None else learning_rate_shape(state.step)
        )
        free = of_the_rest(optimizer, freeze)
        params, opt_state = _moved(free, gradients[0], state.opt_state, state.params, rate)
        if constraint is not None:
            params = constraint(params)
        params = held(params, state.params, freeze)
        heads_opt_state = None
        if heads is not None:
            owned, heads_opt_state = _moved(
                optimizer, gradients[1], state.heads_opt_state, trained(heads), rate
            )
            heads = with_trained(heads, owned)
        count = state.step + 1
        average = None
        if state.ema is not None:
            average = held(moved_average(state.ema, params, ema, count), state.ema, freeze)
        moved = State(
            count, params, extra, opt_state, state.key, state.best, average, heads, heads_opt_state
        )
        return moved, metrics

    return step


def _moved(
    optimizer: optax.GradientTransformation,
    gradients: PyTree,
    opt_state: PyTree,
    params: PyTree,
    rate: jax.Array,
) -> tuple[PyTree, PyTree]:
    """Parameters after the optimiser's update at `rate`, and its state."""
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return optax.apply_updates(params, jax.tree.map(lambda u: u * rate, updates)), opt_state


def _asked(teacher: Teacher | None, variables: PyTree, batch: Batch) -> Outputs | None:
    """What the teacher answers, in float32 whatever type it computes in, and not differentiated."""
    if teacher is None:
        return None
    return jax.lax.stop_gradient(teacher.apply(variables, batch).astype(jnp.float32))


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


def _accumulated(
    part: Callable[[PyTree, Batch, Any], tuple[PyTree, PyTree, Metrics]],
    extra: PyTree,
    batch: Batch,
    parts: int,
) -> tuple[PyTree, PyTree, Metrics]:
    """Gradients and metrics of a batch, summed over its `parts`, one after another; `extra` goes
    from part to part.
    """
    if parts == 1:
        return part(extra, batch, 0)

    def body(
        carry: tuple[PyTree, PyTree, Metrics], numbered: tuple[Any, Batch]
    ) -> tuple[Any, None]:
        gradients, extra, metrics = carry
        more, extra, seen = part(extra, numbered[1], numbered[0])
        return (
            jax.tree.map(jnp.add, gradients, more),
            extra,
            jax.tree.map(jnp.add, metrics, seen),
        ), None

    # Every parts-th example and not a run of them: each device then holds its share of every part
    # already.
    split = jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1), dict(batch)
    )
    first = jax.tree.map(lambda x: x[0], split)
    shapes = jax.eval_shape(part, extra, first, jnp.int32(0))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (shapes[0], shapes[2]))
    carry, _ = jax.lax.scan(body, (nothing[0], extra, nothing[1]), (jnp.arange(parts), split))
    return carry


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
