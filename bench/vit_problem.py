"""What both sides compute for a ViT: images, labels, a teacher's logits, first parameters and
FLOPs, from NumPy.
"""

from __future__ import annotations

import numpy as np

from bench.problem import Problem
from kd.models.vit import Size, parse_variant

CLASSES = 1000
IMAGES = 64
TEMPERATURE, HARD_WEIGHT = 2.0, 0.5
LEARNING_RATE = 1e-4
SCALE = 1 / 255
CHECKED_STEPS = 3
PARTS = ("attention", "mlp", "norms", "update")
"""Kinds of layers that are timed alone, and the optimiser."""
Params = dict[str, np.ndarray]
"""By path, ``blocks/mlp/up/kernel``; what belongs to blocks has a leading axis, one entry per
block.
"""


def data(problem: Problem, images: int = IMAGES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images ``[n h w 3]`` uint8, labels ``[n]``, and the cached logits of a teacher ``[n v]``."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(256, size=(images, problem.pixels, problem.pixels, 3), dtype=np.uint8)
    logits = rng.normal(size=(images, CLASSES)).astype(np.float32)
    return pixels, rng.integers(CLASSES, size=images), logits


def rows(steps: int, batch: int, images: int = IMAGES) -> np.ndarray:
    """The examples of each step, ``[steps batch]``."""
    return np.random.default_rng(4).integers(images, size=(steps, batch), dtype=np.int32)


def first_params(variant: str) -> Params:
    """Kernels with a variance of 1 over their inputs, and biases and scales that are not all
    alike.
    """
    size, patch = parse_variant(variant)
    width, depth = size.width, size.depth
    rng = np.random.default_rng(5)
    params: Params = {}

    def dense(name: str, inputs: int, outputs: int, *stack: int) -> None:
        params[f"{name}/kernel"] = rng.normal(scale=inputs**-0.5, size=(*stack, inputs, outputs))
        params[f"{name}/bias"] = rng.normal(scale=0.02, size=(*stack, outputs))

    def norm(name: str, *stack: int) -> None:
        params[f"{name}/scale"] = 1 + rng.normal(scale=0.02, size=(*stack, width))
        params[f"{name}/bias"] = rng.normal(scale=0.02, size=(*stack, width))

    dense("patches", patch * patch * 3, width)
    norm("blocks/attention_norm", depth)
    for name in ("query", "key", "value", "out"):
        dense(f"blocks/attention/{name}", width, width, depth)
    norm("blocks/mlp_norm", depth)
    dense("blocks/mlp/up", width, size.mlp, depth)
    dense("blocks/mlp/down", size.mlp, width, depth)
    norm("norm")
    dense("head", width, CLASSES)
    return {name: array.astype(np.float32) for name, array in params.items()}


def torch_layout(params: Params) -> Params:
    """The same parameters under the names and in the shapes that PyTorch has for them; q, k and v
    are one matrix.
    """
    width = params["patches/bias"].size
    patch = round((params["patches/kernel"].shape[0] / 3) ** 0.5)
    convolution = params["patches/kernel"].reshape(patch, patch, 3, width).transpose(3, 2, 0, 1)
    layout = {"patches.weight": convolution, "patches.bias": params["patches/bias"]}
    for i in range(len(params["blocks/mlp/up/bias"])):
        block = {
            name.removeprefix("blocks/"): array[i]
            for name, array in params.items()
            if name.startswith("blocks/")
        }
        layout |= {f"blocks.{i}.{name}": array for name, array in _torch_block(block).items()}
    for name, leaf in (("norm", "scale"), ("head", "kernel")):
        layout |= {
            f"{name}.weight": params[f"{name}/{leaf}"].T,
            f"{name}.bias": params[f"{name}/bias"],
        }
    return {name: np.ascontiguousarray(array) for name, array in layout.items()}


def _torch_block(block: Params) -> Params:
    qkv = [f"attention/{name}" for name in ("query", "key", "value")]
    layout = {
        "attention.qkv.weight": np.concatenate([block[f"{name}/kernel"].T for name in qkv]),
        "attention.qkv.bias": np.concatenate([block[f"{name}/bias"] for name in qkv]),
    }
    names = {"attention/out": "attention.out", "mlp/up": "mlp.0", "mlp/down": "mlp.2"}
    for ours, theirs in names.items():
        layout |= {
            f"{theirs}.weight": block[f"{ours}/kernel"].T,
            f"{theirs}.bias": block[f"{ours}/bias"],
        }
    for name in ("attention_norm", "mlp_norm"):
        layout |= {f"{name}.weight": block[f"{name}/scale"], f"{name}.bias": block[f"{name}/bias"]}
    return layout


def flat(params: Params) -> np.ndarray:
    return np.concatenate([params[name].ravel() for name in sorted(params)])


def forward_flops(variant: str, pixels: int) -> float:
    """Multiplications and additions of the matrix products of one image's forward pass; a backward
    pass is twice that.

    Formula: ``2 l (p d + depth (4 d^2 + 2 d m + 2 l d)) + 2 d v``, with ``l`` tokens, ``p`` numbers
    in a patch.
    """
    size, patch = parse_variant(variant)
    tokens, d = (pixels // patch) ** 2, size.width
    block = attention_flops(size, tokens) + mlp_flops(size, tokens)
    return 2.0 * tokens * patch * patch * 3 * d + size.depth * block + 2.0 * d * CLASSES


def attention_flops(size: Size, tokens: int) -> float:
    """Of one block's attention, forward: ``2 l (4 d^2 + 2 l d)``."""
    return 2.0 * tokens * (4 * size.width**2 + 2 * tokens * size.width)


def mlp_flops(size: Size, tokens: int) -> float:
    """Of one block's hidden layer, forward: ``2 l (2 d m)``."""
    return 2.0 * tokens * 2 * size.width * size.mlp
