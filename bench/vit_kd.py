"""kd's ViT: its training step as it is streamed, one step a dispatch, and the parts of that
step.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench import problem as p
from bench import vit_problem as v
from bench.problem import Problem
from bench.worker import Case, timed
from kd import data as kd_data
from kd.core.members import make_members
from kd.core.optim import Optim, make_optimizer
from kd.core.state import State, init_state
from kd.core.terms import term
from kd.core.types import Model
from kd.models.precision import in_bfloat16
from kd.models.vit import MLP, Attention, parse_variant, vit
from kd.teachers import make as teacher
from kd.training import loop
from kd.training.task import make_step, make_task

PRODUCTS = 20
ADAM = Optim("adam")


def nested(params: v.Params) -> Any:
    return jax.tree.map(jnp.asarray, flax.traverse_util.unflatten_dict(params, sep="/"))


def task(problem: Problem, variant: str, batch: int, accumulate: int = 1) -> loop.Task:
    """Adam, and a teacher whose logits are cached."""
    images, labels, logits = v.data(problem)
    terms = [term("soft_targets", temperature=v.TEMPERATURE), term("hard", v.HARD_WEIGHT)]
    return make_task(
        _model(problem, variant),
        kd_data.arrays(images, labels, num_classes=v.CLASSES, scale=v.SCALE),
        terms,
        make_members(terms, {}, v.LEARNING_RATE),
        optimizer=make_optimizer(ADAM),
        steps=1000,
        batch_size=batch,
        teacher=teacher.precomputed(logits),
        accumulate=accumulate,
    )


def _model(problem: Problem, variant: str) -> Model:
    model = vit(v.CLASSES, variant)
    return in_bfloat16(model) if problem.dtype == "bfloat16" else model


class Runner:
    """A compiled step, its state, and the data on the device."""

    def __init__(self, task: loop.Task, params: v.Params) -> None:
        self._table, self._task, first = kd_data.to_device(task.data), task, nested(params)
        example = jnp.asarray(task.data.first)
        drawn, _ = jax.eval_shape(task.model.init, jax.random.key(0), example)
        if jax.tree.map(jnp.shape, first) != jax.tree.map(jnp.shape, drawn):
            raise SystemExit(
                "bench/vit_problem.py does not describe the parameters of kd's vit any more"
            )
        model = Model(lambda _key, _inputs: (first, {}), task.model.apply)
        self.state: State = init_state(model, task.optimizer, jnp.uint32(0), example, jnp.uint32(0))
        step = make_step(task)

        def run(state: State, variables: Any, table: Any, rows: Any, hparams: Any) -> Any:
            return step(state, variables, kd_data.gather(table, rows), hparams)

        self._program = jax.jit(run, donate_argnums=0)

    def step(self, rows: Any) -> jax.Array:
        """One step; the loss."""
        variables = None if self._task.teacher is None else self._task.teacher.variables
        self.state, metrics = self._program(
            self.state, variables, self._table, rows, self._task.members.hparams
        )
        return metrics["loss"].value

    def case(self, rows: np.ndarray) -> Case:
        """All these steps, ``[steps batch]``."""
        steps = list(jnp.asarray(rows))

        def run() -> None:
            for row in steps:
                self.step(row)
            jax.block_until_ready(self.state)

        return lambda: timed(run, len(steps))


def train_step(problem: Problem, batch: int) -> Case:
    runner = Runner(task(problem, problem.vit, batch), v.first_params(problem.vit))
    return runner.case(v.rows(problem.vit_steps, batch))


def accumulated(parts: int, problem: Problem, batch: int) -> Case:
    """The small model's step with its batch taken in so many parts."""
    runner = Runner(
        task(problem, problem.small_vit, batch, parts), v.first_params(problem.small_vit)
    )
    return runner.case(v.rows(problem.vit_steps, batch))


def distil(problem: Problem, batch: int) -> Case:
    """The student's step with a live teacher."""
    plain = task(problem, problem.vit, batch)
    params = nested(v.first_params(problem.teacher))
    if problem.dtype == "bfloat16":  # a teacher is never updated: no need of float32
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    live = teacher.live(_model(problem, problem.teacher), params)
    runner = Runner(dataclasses.replace(plain, teacher=live), v.first_params(problem.vit))
    return runner.case(v.rows(problem.vit_steps, batch))


def check(problem: Problem, batch: int) -> dict[str, np.ndarray]:
    """The losses of a few steps, and the first gradient: Adam's first average of them is
    ``(1 - b1)`` times it.

    Not the first update: the gradient of a key's bias is zero but for rounding, and Adam scales
    that up to one.
    """
    runner = Runner(task(problem, problem.vit, batch), v.first_params(problem.vit))
    losses, averages = [], []
    for row in v.rows(v.CHECKED_STEPS, batch):
        losses.append(float(runner.step(row)))
        averages.append(jax.tree.map(np.array, optax.tree.get(runner.state.opt_state, "mu")))
    average = flax.traverse_util.flatten_dict(averages[0], sep="/")
    return {
        "loss": np.asarray(losses),
        "gradient": v.flat(v.torch_layout(average)) / (1 - ADAM.momentum),
    }


def part(name: str, problem: Problem, batch: int) -> Case:
    """One kind of layer of the student, forward and backward, as often as the model has it; or the
    optimiser's step.
    """
    if name == "update":
        return _update(problem)
    size, patch = parse_variant(problem.vit)
    x = jnp.asarray(
        np.random.default_rng(6).normal(size=(batch, (problem.pixels // patch) ** 2, size.width)),
        "f4",
    )
    layers: dict[str, tuple[nn.Module, tuple[Any, ...], int]] = {
        "attention": (Attention(size.heads), (), size.depth),
        "mlp": (MLP(size.mlp, 0.0), (True,), size.depth),
        "norms": (nn.LayerNorm(epsilon=1e-6), (), 2 * size.depth + 1),
    }
    layer, more, times = layers[name]
    params = layer.init(jax.random.key(0), x, *more)

    def loss(params: Any, x: Any) -> Any:
        return (layer.apply(params, x, *more) * x).sum()

    program = jax.jit(jax.grad(loss, argnums=(0, 1)))
    return lambda: timed(
        lambda: [jax.block_until_ready(program(params, x)) for _ in range(times)], 1
    )


def _update(problem: Problem) -> Case:
    optimizer, params = make_optimizer(ADAM), nested(v.first_params(problem.vit))
    state = params, optimizer.init(params)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: Any, gradients: Any) -> Any:
        updates, kept = optimizer.update(gradients, state[1], state[0])
        return jax.tree.map(lambda p, u: p + v.LEARNING_RATE * u, state[0], updates), kept

    gradients = jax.tree.map(lambda leaf: 0.1 * leaf, params)

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(update(state, gradients))

    return lambda: timed(run, 1)


def peak(problem: Problem, size: int) -> Case:
    """A product of square matrices in float32, several in a row."""
    del problem
    keys = jax.random.split(jax.random.key(0))
    x, w = (jax.random.normal(key, (size, size)) * size**-0.5 for key in keys)
    program = jax.jit(jnp.matmul)

    def run() -> None:
        y = x
        for _ in range(p.PRODUCTS):
            y = program(y, w)
        y.block_until_ready()

    return lambda: timed(run, p.PRODUCTS)


def matmul(problem: Problem, size: int) -> Case:
    """A product of square matrices in bfloat16, many in a row: the rate that nothing on this device
    exceeds.
    """
    del problem
    keys = jax.random.split(jax.random.key(0))
    x, w = (jax.random.normal(key, (size, size), jnp.bfloat16) * size**-0.5 for key in keys)
    program = jax.jit(lambda x, w: jax.lax.fori_loop(0, PRODUCTS, lambda _, x: x @ w, x))
    return lambda: timed(lambda: jax.block_until_ready(program(x, w)), PRODUCTS)


CASES = {
    "matmul": matmul,
    "peak": peak,
    "vit": train_step,
    "distil": distil,
    **{f"vit, batch in {parts}": functools.partial(accumulated, parts) for parts in (1, 4)},
    **{f"vit {name}": functools.partial(part, name) for name in v.PARTS},
}
CHECKS = {"check vit": check}
