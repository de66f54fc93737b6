"""kd's step with a live teacher, as tunix's is measured beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from bench import problem as p
from bench.problem import Problem
from bench.steps import seconds_of_a_step
from bench.tunix_problem import ALPHA, TEACHER_SEED, TEMPERATURE
from bench.worker import Case, serve
from kd import data as kd_data
from kd.core.members import make_members
from kd.core.optim import Optim, make_optimizer
from kd.core.terms import term
from kd.models.mlp import mlp
from kd.placement.mesh import MeshSpec
from kd.teachers import make
from kd.training import loop
from kd.training.task import make_step, make_task

Tree = dict[str, dict[str, jax.Array]]


def tree(seed: int | None = None) -> Tree:
    """`first_params` as kd's mlp has them."""
    layers = p.first_params() if seed is None else p.first_params(seed)
    return {
        f"Dense_{i}": {"kernel": jnp.asarray(weight), "bias": jnp.asarray(bias)}
        for i, (weight, bias) in enumerate(layers)
    }


def task(problem: Problem, batch: int) -> loop.Task:
    images, labels, _ = problem.data()
    data = kd_data.arrays(images, labels, num_classes=p.WIDTHS[-1], scale=p.SCALE)
    model = mlp(p.WIDTHS[-1], p.WIDTHS[1:-1])
    terms = [term("soft_targets", ALPHA, temperature=TEMPERATURE), term("hard", 1 - ALPHA)]
    return make_task(
        model,
        data,
        terms,
        make_members(terms, {}, p.LEARNING_RATE),
        optimizer=make_optimizer(Optim(momentum=p.MOMENTUM)),
        steps=problem.steps,
        batch_size=batch,
        teacher=make.live(model, tree(TEACHER_SEED), {}),
        mesh=MeshSpec(devices=1),
    )


def step(problem: Problem, batch: int) -> Case:
    seconds = seconds_of_a_step(task(problem, batch))
    return lambda: {"seconds": seconds()}


def check(problem: Problem, batch: int) -> Mapping[str, np.ndarray]:
    """What the first step does to the parameters."""
    made = task(problem, batch)
    assert isinstance(made.data, kd_data.Dataset)
    assert made.teacher is not None
    start = dataclasses.replace(loop.initial_state(made), params=tree())
    rows = jnp.asarray(problem.checked_rows(batch)[0])
    examples = kd_data.gather(kd_data.to_device(made.data), rows)
    state, _ = jax.jit(make_step(made))(
        start, made.teacher.variables, examples, made.members.hparams
    )
    params = [(np.asarray(of["kernel"]), np.asarray(of["bias"])) for of in state.params.values()]
    return {"update": p.flat(params) - p.flat(p.first_params())}


if __name__ == "__main__":
    serve({"step": step}, {"check": check})
