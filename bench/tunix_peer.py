"""tunix in an environment of its own: its trainer's teacher and step, and its trainer's loop.

The batches are float32 and on the device before it is timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix import distillation
from tunix.distillation.strategies.logit import LogitStrategy

from bench import problem as p
from bench.problem import Problem
from bench.tunix_problem import ALPHA, TEACHER_SEED, TEMPERATURE
from bench.worker import Case, serve, timed


class Network(nnx.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, params: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.layers = nnx.List([nnx.Linear(*w.shape, rngs=nnx.Rngs(0)) for w, _ in params])
        for layer, (weight, bias) in zip(self.layers, params, strict=True):
            layer.kernel[...], layer.bias[...] = jnp.asarray(weight), jnp.asarray(bias)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = images.reshape(len(images), -1)
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)

    def params(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights and biases, layer by layer."""
        return [(np.asarray(of.kernel[...]), np.asarray(of.bias[...])) for of in self.layers]


def trainer() -> Any:
    """A student's first parameters, a teacher, and the same loss and optimiser as kd's."""

    def forward(model: nnx.Module, images: jax.Array, labels: jax.Array) -> jax.Array:
        del labels
        return model(images)

    def labels_of(images: jax.Array, labels: jax.Array) -> jax.Array:
        del images
        return labels

    strategy = LogitStrategy(forward, forward, labels_of, TEMPERATURE, ALPHA)
    made = distillation.DistillationTrainer(
        Network(p.first_params()),
        Network(p.first_params(TEACHER_SEED)),
        strategy,
        optax.sgd(p.LEARNING_RATE, p.MOMENTUM),
        distillation.TrainingConfig(eval_every_n_steps=1_000_000, max_steps=1_000_000),
    )
    return made.with_gen_model_input_fn(
        lambda x: {"images": x.input_tokens, "labels": x.input_mask}
    )


def batches(problem: Problem, rows: np.ndarray) -> list[Any]:
    """What the trainer is given at each step."""
    images, labels, _ = problem.data()
    return [
        distillation.TrainingInput(
            input_tokens=jnp.asarray(images[row] * np.float32(p.SCALE)),
            input_mask=jax.nn.one_hot(labels[row], p.WIDTHS[-1]),
        )
        for row in rows
    ]


def step(problem: Problem, batch: int) -> Case:
    made, waiting = trainer(), batches(problem, problem.rows(problem.steps, batch))
    train, _ = made.jit_train_and_eval_step(cache_nnx_graph=True)

    def run() -> None:
        for inputs in waiting:
            loss, _, _ = train(made._prepare_inputs(inputs))
        loss.block_until_ready()

    run()
    return lambda: timed(run, problem.steps)


def train(problem: Problem, batch: int) -> Case:
    """The trainer's own loop, with its metrics, without checkpoints."""
    made, waiting = trainer(), batches(problem, problem.rows(problem.steps, batch))
    made.is_managed_externally = True  # or it is closed at the end

    def run() -> None:
        made.train(waiting)

    run()
    return lambda: timed(run, problem.steps)


def check(problem: Problem, batch: int) -> Mapping[str, np.ndarray]:
    """What the first step does to the parameters."""
    made, rows = trainer(), problem.checked_rows(batch)[:1]
    train, _ = made.jit_train_and_eval_step()
    train(made._prepare_inputs(batches(problem, rows)[0]))
    return {"update": p.flat(made.model.params()) - p.flat(p.first_params())}


if __name__ == "__main__":
    serve({"step": step, "train": train}, {"check": check})
