"""The same ViT in PyTorch's plain idiom: one product for q, k and v, its own attention, GELU and
Adam.
"""

from __future__ import annotations

import functools
import os

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import vit_problem as v
from bench.problem import Problem
from bench.torch_compiled import compiled, compiling, warmed
from bench.torch_loss import distillation_loss
from bench.worker import Case, timed
from kd.models.vit import parse_variant, positions

ON_GPU = os.environ.get("JAX_PLATFORMS") == "cuda"  # the same as kd's
DEVICE = "cuda" if ON_GPU else "cpu"


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        q, k, w = (
            self.qkv(x).reshape(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        return self.out(
            F.scaled_dot_product_attention(q, k, w).transpose(1, 2).reshape(b, n, width)
        )


def mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width)
    )


class Block(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = (
            nn.LayerNorm(width, eps=1e-6),
            nn.LayerNorm(width, eps=1e-6),
        )
        self.attention, self.mlp = Attention(width, heads), mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class ViT(nn.Module):
    def __init__(self, variant: str, pixels: int) -> None:
        super().__init__()
        size, patch = parse_variant(variant)
        self.patches = nn.Conv2d(3, size.width, patch, patch)
        side = pixels // patch
        self.register_buffer("positions", torch.from_numpy(positions(side, side, size.width)))
        self.blocks = nn.ModuleList(
            Block(size.width, size.mlp, size.heads) for _ in range(size.depth)
        )
        self.norm, self.head = nn.LayerNorm(size.width, eps=1e-6), nn.Linear(size.width, v.CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


def student(variant: str, pixels: int) -> ViT:
    """The model with the same first parameters as kd's."""
    model = ViT(variant, pixels)
    params = {
        name: torch.from_numpy(array.copy())
        for name, array in v.torch_layout(v.first_params(variant)).items()
    }
    model.load_state_dict({**params, "positions": model.positions})
    return model.to(DEVICE)


class Runner:
    """A training step as PyTorch users write it."""

    def __init__(self, problem: Problem, *, live: bool = False, by_compiler: bool = ON_GPU) -> None:
        images, labels, logits = (torch.from_numpy(array).to(DEVICE) for array in v.data(problem))
        self._data = images.permute(0, 3, 1, 2).contiguous(), labels, logits
        self.model = student(problem.vit, problem.pixels)
        self._teacher = student(problem.teacher, problem.pixels).eval() if live else None
        self._half = problem.dtype == "bfloat16"
        if self._teacher is not None and self._half:
            self._teacher.bfloat16()
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=v.LEARNING_RATE)
        self._forward, self._answer = self.model, self._teacher
        self._update, self._by_compiler = self._optimizer.step, by_compiler
        if by_compiler:
            self._compile()

    def _compile(self) -> None:
        self._forward = compiled(self.model)
        self._answer = None if self._teacher is None else compiled(self._teacher)
        if ON_GPU:
            torch.set_float32_matmul_precision("high")
        else:
            self._update = compiled(self._optimizer.step)

    def step(self, rows: Tensor) -> Tensor:
        """One step; the loss."""
        images, labels, logits = self._data
        x = images[rows].float() * v.SCALE
        if self._answer is not None:
            with torch.no_grad():
                logits = self._answer(x.bfloat16() if self._half else x).float()
        else:
            logits = logits[rows]
        with torch.autocast(DEVICE, torch.bfloat16, enabled=self._half):
            out = self._forward(x)
        out = out.float()
        loss = distillation_loss(out, logits, labels[rows], v.TEMPERATURE, v.HARD_WEIGHT)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._update()
        return loss.detach()

    def case(self, rows: np.ndarray) -> Case:
        steps = list(torch.from_numpy(rows).long().to(DEVICE))
        if self._by_compiler:
            warmed(self.step, steps[0])

        def run() -> None:
            for row in steps:
                self.step(row)
            _finish()

        return lambda: timed(run, len(steps))


def train_step(problem: Problem, batch: int, *, by_compiler: bool = ON_GPU) -> Case:
    return Runner(problem, by_compiler=by_compiler).case(v.rows(problem.vit_steps, batch))


def distil(problem: Problem, batch: int) -> Case:
    return Runner(problem, live=True).case(v.rows(problem.vit_steps, batch))


def check(problem: Problem, batch: int, *, by_compiler: bool = ON_GPU) -> dict[str, np.ndarray]:
    """See the check of `bench.vit_kd`."""
    runner, losses, gradients = Runner(problem, by_compiler=by_compiler), [], []
    with compiling():
        for row in torch.from_numpy(v.rows(v.CHECKED_STEPS, batch)).long().to(DEVICE):
            losses.append(runner.step(row).item())
            gradients.append(
                {name: p.grad.cpu().numpy().copy() for name, p in runner.model.named_parameters()}
            )
    return {"loss": np.asarray(losses), "gradient": v.flat(gradients[0])}


def part(name: str, problem: Problem, batch: int) -> Case:
    """See `bench.vit_kd.part`."""
    if name == "update":
        return _update(problem)
    size, patch = parse_variant(problem.vit)
    shape = (batch, (problem.pixels // patch) ** 2, size.width)
    x = (
        torch.from_numpy(np.random.default_rng(6).normal(size=shape))
        .float()
        .to(DEVICE)
        .requires_grad_()
    )
    layers: dict[str, tuple[nn.Module, int]] = {
        "attention": (Attention(size.width, size.heads), size.depth),
        "mlp": (mlp(size.width, size.mlp), size.depth),
        "norms": (nn.LayerNorm(size.width, eps=1e-6), 2 * size.depth + 1),
    }
    layer, times = layers[name]
    layer.to(DEVICE)
    wanted = [*layer.parameters(), x]

    def run() -> None:
        for _ in range(times):
            torch.autograd.grad((layer(x) * x).sum(), wanted)
        _finish()

    return lambda: timed(run, 1)


def _update(problem: Problem) -> Case:
    model = student(problem.vit, problem.pixels)
    optimizer = torch.optim.Adam(model.parameters(), lr=v.LEARNING_RATE)
    for param in model.parameters():
        param.grad = 0.1 * param.detach()

    def run() -> None:
        optimizer.step()
        _finish()

    return lambda: timed(run, 1)


def _finish() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


CASES = {
    "vit": train_step,
    "vit compiled": functools.partial(train_step, by_compiler=True),
    "distil": distil,
    **{f"vit {name}": functools.partial(part, name) for name in v.PARTS},
}
