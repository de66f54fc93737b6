"""ResNets on small images, for both sides: sizes, data, first parameters and the order of examples,
all of it from NumPy.
"""

from __future__ import annotations

import dataclasses
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

FORWARD, INTO_INPUTS, INTO_WEIGHTS = "forward", "into the inputs", "into the weights"
NORM = "normalisation and ReLU, both ways"
WAYS = (FORWARD, INTO_INPUTS, INTO_WEIGHTS, NORM)
"""What is timed of a layer."""
CALLS = 4
"""Of a layer, timed at once."""

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


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution 3x3 of a stage's, or of the step into it; `number` is the stage's."""

    number: int
    stride: int = 1

    @property
    def inputs(self) -> int:
        return self.outputs // self.stride

    @property
    def outputs(self) -> int:
        return 16 << self.number

    @property
    def pixels(self) -> int:
        """A side of its inputs."""
        return (PIXELS >> self.number) * self.stride

    def flops(self, batch: int) -> float:
        """Forward, and as many into its inputs, or its weights."""
        return 18.0 * batch * (self.pixels // self.stride) ** 2 * self.inputs * self.outputs

    def arrays(self, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs ``[b h w c]``, kernel ``[3 3 c o]`` and the gradient of the answer."""
        rng, side = np.random.default_rng(3), self.pixels // self.stride
        shapes = (
            (batch, self.pixels, self.pixels, self.inputs),
            (3, 3, self.inputs, self.outputs),
            (batch, side, side, self.outputs),
        )
        images, kernel, gradient = (rng.normal(size=s).astype(np.float32) for s in shapes)
        return images, kernel, gradient


@dataclasses.dataclass(frozen=True)
class Part:
    """Of a layer what is timed, one of `WAYS`."""

    layer: Layer
    way: str

    @property
    def name(self) -> str:
        layer = self.layer
        if layer.stride == 1:
            return f"{layer.pixels} pixels, {layer.outputs} channels, {self.way}"
        return f"{layer.pixels} pixels, {layer.inputs} to {layer.outputs} channels, {self.way}"

    @property
    def other(self) -> str | None:
        """Another form of it, which kd does not use: see `bench.conv_forms`."""
        if self.way == NORM:
            return None
        if self.layer.stride == 1 or self.way == FORWARD:
            return "by oneDNN"
        return "four pixels at once" if self.way == INTO_INPUTS else "products of 8 images"

    def count(self, depth: int) -> int:
        """How often a step of a ResNet has it, its first convolution left out."""
        blocks, first = (depth - 2) // 6, self.layer.number == 0
        if self.way == NORM:
            return 2 * blocks + first
        if self.layer.stride == 2:
            return 1
        return 2 * blocks - (not first)


LAYERS = (Layer(0), Layer(1, 2), Layer(1), Layer(2, 2), Layer(2))
PARTS = {
    part.name: part
    for layer in LAYERS
    for way in WAYS
    if way != NORM or layer.stride == 1
    for part in (Part(layer, way),)
}
"""By their names: the cases."""
