"""ResNets on small images, for both sides: sizes, data, first parameters and the order of examples,
all of it from NumPy.
"""

from __future__ import annotations

import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from bench.problem import Problem
from kd.core.types import Model
from kd.models import resnet

DEPTHS = (8, 20)
CLASSES, PIXELS = 10, 32
MEMBERS = 3
LEARNING_RATE, MOMENTUM = 0.05, 0.9
TEMPERATURE, HARD_WEIGHT = 4.0, 0.5
SCALE = 1 / 255
CHECKED_STEPS = 3

Params = dict[str, np.ndarray]
"""Arrays by kd's paths: ``stages_0/blocks_0/conv1/kernel``."""


@functools.cache
def data(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images ``[n 32 32 3]`` uint8, labels ``[n]``, and cached logits ``[n v]``."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(problem.examples, PIXELS, PIXELS, 3), dtype=np.uint8)
    labels = rng.integers(CLASSES, size=problem.examples)
    return images, labels, rng.normal(size=(problem.examples, CLASSES)).astype(np.float32)


def rows(problem: Problem, steps: int, batch: int) -> np.ndarray:
    """The examples of each step, ``[steps batch]``."""
    rng = np.random.default_rng(1)
    return rng.integers(problem.examples, size=(steps, batch), dtype=np.int32)


def model(depth: int) -> Model:
    return resnet(CLASSES, depth)


@functools.cache
def first_params(depth: int) -> Params:
    """He-normal kernels ``[k k i o]``, scales around one and small biases."""
    rng = np.random.default_rng(2)
    image = jax.ShapeDtypeStruct((1, PIXELS, PIXELS, 3), jnp.float32)
    shapes = jax.eval_shape(model(depth).init, jax.random.key(0), image)[0]
    drawn = {}
    for path, leaf in sorted(flax.traverse_util.flatten_dict(shapes, sep="/").items()):
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if path.endswith("kernel") else 0.1
        mean = 1.0 if path.endswith("scale") else 0.0
        drawn[path] = rng.normal(mean, scale, leaf.shape).astype(np.float32)
    return drawn


def flat(params: Params) -> np.ndarray:
    return np.concatenate([params[path].ravel() for path in sorted(params)])


def flops(depth: int, batch: int) -> float:
    """Of a step: the products of convolutions and of the head, forward, gradients of the weights,
    and gradients of every layer's inputs but the images.
    """
    params, total, first = first_params(depth), 0, 0
    for path, array in params.items():
        if not path.endswith("kernel"):
            continue
        stage = int(path[len("stages_")]) if path.startswith("stages_") else 0
        pixels = 1 if path.startswith("head") else (PIXELS >> stage) ** 2
        total += pixels * array.size
        first += pixels * array.size if path.startswith("stem") else 0
    return 2.0 * batch * (3 * total - first)
