"""Why a loss is not finite: the batch of that step again, piece by piece, beside the first weights.

Whatever is random is a function of (seed, step), so the batch, its view and the teacher's answers
are the very ones of the run. The weights of that step are gone; the first ones stand in for them:
what is not finite with those is not the step's doing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd import data as kd_data
from kd.core import rng
from kd.core.state import State
from kd.core.step import Step
from kd.core.types import Batch, Outputs
from kd.training.log import DIVERGED, NotFinite
from kd.training.task import Task, initial_state, make_step

_SHOWN = 5  # examples that a message names


def diagnosed(task: Task, error: NotFinite) -> NotFinite:
    """The same error with its cause: the first that is not finite of the inputs, the teacher's
    answers, the student's, the loss and the gradient; or else the steps that led there.
    """
    single = _single(task, error.member or 0)
    state, step = initial_state(single), jax.jit(make_step(single))
    # a loss comes from the batch of its step, parameters from that of the step before
    last = error.step if error.what == "loss" else error.step - 1
    cause = _answers(single, state, last) or _loss(step, single, state, last)
    if cause is None and error.step > 0:
        cause = _gradient(step, single, state, error.step - 1)
    return error.because(cause or DIVERGED)


def _single(task: Task, member: int) -> Task:
    """The run of one member, by itself."""
    if not task.is_population:
        return task
    teacher, pairs = task.teacher, None if task.teacher is None else task.teacher.pairs
    if teacher is not None and pairs is not None:
        variables = jax.tree.map(lambda leaf: leaf[pairs[member]], teacher.variables)
        teacher = dataclasses.replace(teacher, variables=variables, pairs=None)
    first = task.first and task.first.member(member)
    data = task.data.member(member) if isinstance(task.data, kd_data.Dataset) else task.data
    return dataclasses.replace(
        task, data=data, members=task.members.member(member), teacher=teacher, first=first
    )


def _batch(task: Task, step: int) -> Batch:
    """The batch of a step before augmentation, as the step is given it."""
    seed: Any = task.members.seeds
    if isinstance(task.data, kd_data.Stream):
        feed = kd_data.batches(
            task.data, seed, task.batch_size, start=step, stop=step + 1, threads=0
        )
        batch = jax.tree.map(jnp.asarray, next(feed))
        feed.close()
        return kd_data.as_seen(batch, task.data.unit)
    order = task.data.order((seed,), task.batch_size)
    batch = kd_data.gather(kd_data.to_device(task.data), jnp.asarray(order.rows(step)[0]))
    return kd_data.shortened(batch, order.length(step), bool(task.data.positions))


def _answers(task: Task, state: State, step: int) -> str | None:
    """The first that is not finite of inputs, teacher and student in the batch of a step."""
    batch, teacher = _batch(task, step), task.teacher
    if task.view is not None:
        batch = task.view(rng.stream(state.key, step, "view"), batch)
    dropout = rng.stream(state.key, step, "dropout")
    pieces: dict[str, tuple[Callable[[Batch], Any], str]] = {
        "the inputs of": (
            lambda part: part["inputs"],
            "mend the data, or the view that made them",
        ),
        "the teacher's answers to": (
            lambda part: None if teacher is None else teacher.apply(teacher.variables, part),
            "look at the teacher, and at the range of inputs that it was trained on",
        ),
        "the student's answers to": (
            lambda part: task.model.trained(
                state.params, state.extra, part["inputs"], part["weight"], dropout
            )[0],
            "it is not so for its first weights either; look at the model",
        ),
    }
    parts = [
        jax.tree.map(lambda leaf, i=i: leaf[i :: task.accumulate], dict(batch))
        for i in range(task.accumulate)
    ]
    for what, (compute, fix) in pieces.items():
        answer = jax.jit(compute)
        rows = [row for part in parts for row in _not_finite(answer(part), part)]
        if rows:
            shown = ", ".join(map(str, rows[:_SHOWN])) + (", ..." if len(rows) > _SHOWN else "")
            return f"{what} examples {shown} are not finite; {fix}"
    return None


def _not_finite(values: Any, batch: Batch) -> list[int]:
    """Which examples of a batch have values that are not finite; an answer may rule out classes by
    -inf.
    """
    if values is None:
        return []
    if isinstance(values, Outputs):  # [*b v], or [e *b v] of an ensemble
        best = jnp.max(values.logits, axis=-1)
        values = best if values.average is None else jnp.moveaxis(best, 0, -1)
    good = np.asarray(jnp.isfinite(values)).reshape(len(values), -1).all(axis=1)
    return np.asarray(batch["index"])[~good].tolist()


def _loss(step: Step, task: Task, state: State, number: int) -> str | None:
    _, metrics = _stepped(step, task, state, number)
    bad = [name for name, mean in metrics.items() if not np.isfinite(mean.total)]
    if not bad:
        return None
    terms = [name.removeprefix("loss/") for name in bad if name.startswith("loss/")]
    return (
        f"the answers are finite, and {' and '.join(terms) or 'their sum'} of config.objective is "
        "not, for the first weights either; look at that term"
    )


def _gradient(step: Step, task: Task, state: State, number: int) -> str | None:
    new, _ = _stepped(step, task, state, number)
    if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(new.params))):
        return None
    return (
        f"the gradient of step {number} is not finite, for the first weights either; look at "
        "where the model or the loss has none"
    )


def _stepped(step: Step, task: Task, state: State, number: int) -> tuple[State, Any]:
    """A training step from the first weights at rate 0, which only what is not finite survives."""
    hparams = {**task.members.hparams, "learning_rate": jnp.float32(0)}
    variables = None if task.teacher is None else task.teacher.variables
    state = dataclasses.replace(state, step=jnp.int32(number))
    return step(state, variables, _batch(task, number), hparams)
