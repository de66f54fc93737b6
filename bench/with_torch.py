"""The case of PyTorch eager: the same student, in its plain idiom."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from bench import problem as p
from bench import vit_torch
from bench.problem import Problem
from bench.torch_loss import distillation_loss
from bench.worker import Case, serve, timed

Step = Callable[[Tensor], Tensor]


@functools.cache
def _data(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    images, labels, logits = (torch.from_numpy(array) for array in problem.data())
    return images.flatten(1), labels, logits


def _student(problem: Problem) -> tuple[list[nn.Linear], Step]:
    images, labels, logits = _data(problem)
    layers = [nn.Linear(*weight.shape) for weight, _ in p.first_params()]
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, p.first_params(), strict=True):
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))
    model = nn.Sequential(*(module for layer in layers for module in (layer, nn.ReLU())))[:-1]
    optimizer = torch.optim.SGD(model.parameters(), lr=p.LEARNING_RATE, momentum=p.MOMENTUM)

    def step(rows: Tensor) -> Tensor:
        student, teacher = model(images[rows].float() * p.SCALE), logits[rows]
        loss = distillation_loss(student, teacher, labels[rows], p.TEMPERATURE, p.HARD_WEIGHT)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return layers, step


def student(problem: Problem, batch: int) -> Case:
    _, step = _student(problem)
    rows = torch.from_numpy(problem.rows(problem.steps, batch)).long()

    def run() -> None:
        for i in range(problem.steps):
            step(rows[i])

    return lambda: timed(run, problem.steps)


def check(problem: Problem, batch: int) -> Mapping[str, np.ndarray]:
    layers, step = _student(problem)
    losses, params = [], []
    for rows in torch.from_numpy(problem.checked_rows(batch)).long():
        losses.append(step(rows).item())
        params.append(
            p.flat(
                [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in layers]
            )
        )
    return {"loss": np.asarray(losses), "update": params[0] - p.flat(p.first_params())}


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    serve({"student": student, **vit_torch.CASES}, {"check": check, "check vit": vit_torch.check})
