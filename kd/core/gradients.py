"""The gradient of a batch: what is differentiated, in parts or at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd.core import rng
from kd.core.heads import trained, with_trained
from kd.core.leaves import without_gradient
from kd.core.metrics import Mean, weighted_mean
from kd.core.objective import Objective
from kd.core.schedules import Shape
from kd.core.state import State
from kd.core.targets import with_label_share
from kd.core.types import Batch, Hparams, Model, Outputs, PyTree, Targets, Teacher
from kd.core.watch import watched

Metrics = dict[str, Mean]
View = Callable[[jax.Array, Batch], Batch]
Constraint = Callable[[PyTree], PyTree]
Trainable = tuple[PyTree, PyTree]
"""Parameters of the student, and what the terms own and train."""
Kept = tuple[PyTree, Any]
"""What a part of a batch hands to the next: untrained variables, and what the terms own."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training step is made of: see `kd.core.step.make_train_step`."""

    model: Model
    teacher: Teacher | None
    objective: Objective
    optimizer: optax.GradientTransformation
    view: View | None = None
    constraint: Constraint | None = None
    learning_rate_shape: Shape | None = None
    accumulate: int = 1
    ema: float = 0.0
    targets: Targets = "classes"
    freeze: tuple[str, ...] = ()


def gradients_of(
    recipe: Recipe, state: State, teacher_variables: PyTree, batch: Batch, hparams: Hparams
) -> tuple[Trainable, Kept, Metrics]:
    """Gradients of ``sum(weight * value) / sum(weight)`` over the whole batch, what the parts
    leave behind, and the metrics.
    """
    batch = with_label_share(batch)
    whole = jnp.sum(batch["weight"])
    # a batch that weighs nothing has the gradient zero
    whole = jnp.where(whole == 0, 1.0, whole)

    def part(kept: Kept, batch: Batch, number: jax.Array | int) -> tuple[Trainable, Kept, Metrics]:
        answer = _asked(recipe.teacher, teacher_variables, batch)
        dropout = rng.stream(state.key, state.step, "dropout")
        dropout = dropout if recipe.accumulate == 1 else jax.random.fold_in(dropout, number)

        def loss(moved: Trainable) -> tuple[jax.Array, tuple[Kept, Metrics]]:
            kept_next, metrics = _loss(recipe, state, moved, kept, answer, batch, hparams, dropout)
            return metrics["loss"].total / whole, (kept_next, metrics)

        moved = (state.params, trained(state.heads))
        (_, (kept_next, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(moved)
        return gradients, kept_next, metrics

    return _accumulated(part, (state.extra, state.heads), batch, recipe.accumulate)


def _loss(
    recipe: Recipe,
    state: State,
    moved: Trainable,
    kept: Kept,
    answer: Outputs | None,
    batch: Batch,
    hparams: Hparams,
    dropout: jax.Array,
) -> tuple[Kept, Metrics]:
    """The metrics of a part of a batch, its loss among them, and what it hands to the next."""
    extra, heads = kept
    student, updated = recipe.model.trained(
        without_gradient(moved[0], recipe.freeze),
        extra,
        batch["inputs"],
        batch["weight"],
        dropout,
    )
    total, terms, later = recipe.objective(
        student, answer, batch, hparams, state.step, with_trained(heads, moved[1]), state.key
    )
    # what is trained moves between steps, and buffers from part to part
    later = with_trained(later, trained(heads))
    metrics = {"loss": weighted_mean(total, batch["weight"])}
    metrics |= {
        f"loss/{name}": weighted_mean(value, batch["weight"]) for name, value in terms.items()
    }
    return (updated, later), metrics | watched(student, answer, batch, recipe.targets)


def _asked(teacher: Teacher | None, variables: PyTree, batch: Batch) -> Outputs | None:
    """What the teacher answers, in float32 whatever type it computes in, and not differentiated."""
    if teacher is None:
        return None
    return jax.lax.stop_gradient(teacher.apply(variables, batch).astype(jnp.float32))


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
