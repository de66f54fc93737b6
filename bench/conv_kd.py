"""kd's ResNets: a training step, a population of them, and a step with a loss of features."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import flax.linen
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from bench import conv_layers_kd
from bench import conv_problem as c
from bench.conv_onednn import by_onednn, check_callable
from bench.problem import Problem
from bench.steps import seconds_of_a_step
from bench.worker import Case, serve
from kd import data as kd_data
from kd.core.members import make_members
from kd.core.optim import Optim, make_optimizer
from kd.core.state import State
from kd.core.terms import Term, term
from kd.core.types import Teacher
from kd.placement.mesh import MeshSpec
from kd.teachers import make as teacher
from kd.training import loop
from kd.training.task import make_step, make_task

LAST = "stages_2"
"""The tap of the feature loss: what the last stage answers."""


def task(
    problem: Problem,
    depth: int,
    batch: int,
    terms: Sequence[Term] | None = None,
    taught: Teacher | None = None,
    **columns: Any,
) -> loop.Task:
    """SGD with momentum, and a teacher whose logits are cached unless another is given."""
    images, labels, logits = c.data(problem)
    usual = [term("soft_targets", temperature=c.TEMPERATURE), term("hard", c.HARD_WEIGHT)]
    terms = usual if terms is None else terms
    return make_task(
        c.model(depth),
        kd_data.arrays(images, labels, num_classes=c.CLASSES, scale=c.SCALE),
        terms,
        make_members(terms, columns, c.LEARNING_RATE),
        optimizer=make_optimizer(Optim(momentum=c.MOMENTUM)),
        steps=problem.steps,
        batch_size=batch,
        teacher=teacher.precomputed(logits) if taught is None else taught,
        mesh=MeshSpec(devices=1),
    )


def timed(made: loop.Task) -> Case:
    """The seconds of a step, see `bench.steps`."""
    seconds = seconds_of_a_step(made)
    return lambda: {"seconds": seconds()}


def student(depth: int, problem: Problem, batch: int) -> Case:
    return timed(task(problem, depth, batch))


def with_onednn(depth: int, problem: Problem, batch: int) -> Case:
    """Another way to compute the same: see `bench.conv_onednn`."""
    check_callable()
    made = task(problem, depth, batch)
    return timed(dataclasses.replace(made, model=by_onednn(made.model)))


def population(problem: Problem, batch: int) -> Case:
    """`MEMBERS` students of the smallest depth, computed as ``auto`` chooses."""
    return timed(task(problem, c.DEPTHS[0], batch, seed=range(c.MEMBERS)))


def features(with_loss: bool, problem: Problem, batch: int) -> Case:
    """A live teacher of the student's own form; with a loss of what their last stages answer."""
    depth = c.DEPTHS[0]
    model, (params, _) = c.model(depth), first(depth)
    extra = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, c.PIXELS, c.PIXELS, 3)))[1]
    terms = [term("soft_targets", temperature=c.TEMPERATURE), term("hard", c.HARD_WEIGHT)]
    terms += [term("hidden_mse", taps={"hidden": LAST})] if with_loss else []
    return timed(task(problem, depth, batch, terms, teacher.live(model, params, extra)))


def first(depth: int) -> tuple[Any, c.Params]:
    """The first parameters, as kd's tree and by path."""
    params = c.first_params(depth)
    tree = flax.traverse_util.unflatten_dict(params, sep="/")
    return jax.tree.map(jnp.asarray, tree), params


def check(
    depth: int, problem: Problem, batch: int, *, onednn: bool = False
) -> Mapping[str, np.ndarray]:
    """The losses of a few steps from `first_params`, and what the first of them does to the
    parameters.
    """
    made = task(problem, depth, batch)
    if onednn:
        check_callable()
        made = dataclasses.replace(made, model=by_onednn(made.model))
    assert isinstance(made.data, kd_data.Dataset)
    table, step, (tree, before) = kd_data.to_device(made.data), make_step(made), first(depth)
    start = loop.initial_state(made)

    def run(state: State, row: jax.Array) -> Any:
        assert made.teacher is not None
        batch = kd_data.gather(table, row)
        return step(state, made.teacher.variables, batch, made.members.hparams)

    program = jax.jit(run)
    state = dataclasses.replace(start, params=tree)
    losses, updates = [], []
    for row in jnp.asarray(c.rows(problem, c.CHECKED_STEPS, batch)):
        state, metrics = program(state, row)
        losses.append(float(metrics["loss"].value))
        after = flax.traverse_util.flatten_dict(state.params, sep="/")
        updates.append(c.flat({k: np.asarray(v) for k, v in after.items()}) - c.flat(before))
    return {"loss": np.asarray(losses), "update": updates[0]}


def smooth_check(depth: int, problem: Problem, batch: int, **way: bool) -> Any:
    """The same of a network with `jax.nn.silu` in the place of ReLU."""
    with mock.patch.object(flax.linen, "relu", jax.nn.silu):
        return check(depth, problem, batch, **way)


CASES = {
    **{f"resnet {depth}": functools.partial(student, depth) for depth in c.DEPTHS},
    **{f"resnet {depth} by oneDNN": functools.partial(with_onednn, depth) for depth in c.DEPTHS},
    "population": population,
    "features": functools.partial(features, True),
    "no features": functools.partial(features, False),
}
CHECKS = {
    **{f"check {depth}": functools.partial(check, depth) for depth in c.DEPTHS},
    **{f"check {depth} smooth": functools.partial(smooth_check, depth) for depth in c.DEPTHS},
    **{
        f"check {depth} smooth by oneDNN": functools.partial(smooth_check, depth, onednn=True)
        for depth in c.DEPTHS
    },
}

if __name__ == "__main__":
    serve(CASES | conv_layers_kd.CASES, CHECKS)
