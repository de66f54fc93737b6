"""The same ResNets in PyTorch's plain idiom, and compiled."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import conv_layers_torch
from bench import conv_problem as c
from bench.problem import Problem
from bench.torch_compiled import compiled, compiling, warmed
from bench.torch_loss import distillation_loss
from bench.worker import Case, serve, timed

WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two convolutions; a shortcut A."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.stride, self.side = stride, (width - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.side:
            skipped = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(skipped, (0, 0, 0, 0, self.side, self.side))
        return F.relu(x + y)


class ResNet(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(WIDTHS[0])
        self.stages, inputs = nn.ModuleList(), WIDTHS[0]
        for i, width in enumerate(WIDTHS):
            blocks = nn.ModuleList()
            for j in range((depth - 2) // 6):
                blocks.append(Block(inputs, width, 2 if i and not j else 1))
                inputs = width
            self.stages.append(blocks)
        self.head = nn.Linear(WIDTHS[-1], c.CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(images)))
        for stage in self.stages:
            for block in stage:  # type: ignore[union-attr]
                x = block(x)
        return self.head(x.mean(dim=(2, 3)))


def student(depth: int) -> ResNet:
    """The model with the same first parameters as kd's."""
    model = ResNet(depth)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for path, array in c.first_params(depth).items():
            own[_name(path)].copy_(torch.from_numpy(_theirs(array)))
    return model


def _name(path: str) -> str:
    """PyTorch's name of a parameter: ``stages.0.0.conv1.weight``."""
    name = path.replace("stages_", "stages/").replace("blocks_", "").replace("/", ".")
    return name.replace("kernel", "weight").replace("scale", "weight")


def _theirs(array: np.ndarray) -> np.ndarray:
    """``[k k i o]`` as ``[o i k k]``, ``[i o]`` as ``[o i]``."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _ours(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


class Runner:
    """A training step as PyTorch users write it."""

    def __init__(
        self,
        problem: Problem,
        depth: int,
        *,
        by_compiler: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        images, labels, logits = (torch.from_numpy(array) for array in c.data(problem))
        self._data = images.permute(0, 3, 1, 2).contiguous(), labels, logits.to(dtype)
        self.model, self._dtype = student(depth).train().to(dtype), dtype
        self._optimizer = torch.optim.SGD(
            self.model.parameters(), lr=c.LEARNING_RATE, momentum=c.MOMENTUM
        )
        self._forward, self._update = self.model, self._optimizer.step
        if by_compiler:
            self._forward, self._update = compiled(self.model), compiled(self._optimizer.step)

    def step(self, rows: Tensor) -> Tensor:
        """One step; the loss."""
        images, labels, logits = self._data
        out = self._forward((images[rows].float() * c.SCALE).to(self._dtype))
        loss = distillation_loss(out, logits[rows], labels[rows], c.TEMPERATURE, c.HARD_WEIGHT)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._update()
        return loss.detach()


def train_step(by_compiler: bool, depth: int, problem: Problem, batch: int) -> Case:
    runner = Runner(problem, depth, by_compiler=by_compiler)
    steps = list(torch.from_numpy(c.rows(problem, problem.steps, batch)).long())
    if by_compiler:
        warmed(runner.step, steps[0])

    def run() -> None:
        for rows in steps:
            runner.step(rows)

    return lambda: timed(run, len(steps))


def check(depth: int, problem: Problem, batch: int, **options: Any) -> Mapping[str, np.ndarray]:
    """See the check of `bench.conv_kd`; `options` are a `Runner`'s."""
    runner = Runner(problem, depth, **options)
    own = dict(runner.model.named_parameters())
    before = c.first_params(depth)
    losses, updates = [], []
    with compiling():
        for rows in torch.from_numpy(c.rows(problem, c.CHECKED_STEPS, batch)).long():
            losses.append(runner.step(rows).item())
            after = {path: _ours(own[_name(path)].detach().numpy()) for path in before}
            updates.append(c.flat(after) - c.flat(before))
    return {"loss": np.asarray(losses), "update": updates[0]}


def smooth_check(depth: int, problem: Problem, batch: int, **options: Any) -> Any:
    with mock.patch.object(F, "relu", F.silu):
        return check(depth, problem, batch, **options)


WAYS = {"": False, " compiled": True}
CASES = {
    f"resnet {depth}{way}": functools.partial(train_step, by_compiler, depth)
    for depth in c.DEPTHS
    for way, by_compiler in WAYS.items()
}
CHECKS = {
    **{f"check {depth}": functools.partial(check, depth) for depth in c.DEPTHS},
    **{
        f"check {depth} in float64": functools.partial(check, depth, dtype=torch.float64)
        for depth in c.DEPTHS
    },
    **{
        f"check {depth} smooth{way}": functools.partial(
            smooth_check, depth, by_compiler=by_compiler
        )
        for depth in c.DEPTHS
        for way, by_compiler in WAYS.items()
    },
}

if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    serve(CASES | conv_layers_torch.CASES, CHECKS)
