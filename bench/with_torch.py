"""The cases of PyTorch: the same student in its plain idiom and compiled, and a population by
``vmap``.
"""

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
from bench.torch_compiled import compiled, compiling, warmed
from bench.torch_loss import distillation_loss
from bench.worker import Case, serve, timed

Step = Callable[[Tensor], Tensor]
Arrays = Mapping[str, np.ndarray]


@functools.cache
def _data(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    images, labels, logits = (torch.from_numpy(array) for array in problem.data())
    return images.flatten(1), labels, logits


def _model() -> nn.Sequential:
    layers = [nn.Linear(*weight.shape) for weight, _ in p.first_params()]
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, p.first_params(), strict=True):
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))
    return nn.Sequential(*(module for layer in layers for module in (layer, nn.ReLU())))[:-1]


def _sgd(params: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=p.LEARNING_RATE, momentum=p.MOMENTUM)


def _student(problem: Problem, *, by_compiler: bool = False) -> tuple[list[Tensor], Step]:
    """Parameters, and a step that changes them."""
    images, labels, logits = _data(problem)
    model = _model()
    params = list(model.parameters())
    optimizer = _sgd(params)

    def loss_of(rows: Tensor) -> Tensor:
        out = model(images[rows].float() * p.SCALE)
        return distillation_loss(out, logits[rows], labels[rows], p.TEMPERATURE, p.HARD_WEIGHT)

    update = optimizer.step
    if by_compiler:
        loss_of, update = compiled(loss_of), compiled(update)

    def step(rows: Tensor) -> Tensor:
        loss = loss_of(rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        update()
        return loss.detach()

    return params, step


def _population(problem: Problem, *, by_compiler: bool = False) -> tuple[list[Tensor], Step]:
    """Stacked parameters, ``[members ...]``, and a step on rows ``[members b]``."""
    images, labels, logits = _data(problem)
    models = [_model() for _ in range(p.MEMBERS)]
    stacked, _ = torch.func.stack_module_state(models)
    params = {name: param.detach() for name, param in stacked.items()}
    optimizer = _sgd(list(params.values()))

    def loss_of(params: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        x = images[rows].float() * p.SCALE
        out = torch.func.functional_call(models[0], params, (x,))
        return distillation_loss(out, logits[rows], labels[rows], p.TEMPERATURE, p.HARD_WEIGHT)

    gradient = torch.func.vmap(torch.func.grad_and_value(loss_of))
    update = optimizer.step
    if by_compiler:
        gradient, update = compiled(gradient), compiled(update)

    def step(rows: Tensor) -> Tensor:
        with torch.no_grad():
            gradients, losses = gradient(params, rows)
        for name, param in params.items():
            param.grad = gradients[name]
        update()
        return losses

    return list(params.values()), step


def student(problem: Problem, batch: int, *, by_compiler: bool = False) -> Case:
    _, step = _student(problem, by_compiler=by_compiler)
    return _case(problem, step, batch, by_compiler=by_compiler)


def population(problem: Problem, batch: int, *, by_compiler: bool = False) -> Case:
    """`MEMBERS` students at once, each with batches of its own."""
    _, step = _population(problem, by_compiler=by_compiler)
    return _case(problem, step, p.MEMBERS, batch, by_compiler=by_compiler)


def _case(problem: Problem, step: Step, *batch: int, by_compiler: bool) -> Case:
    rows = torch.from_numpy(problem.rows(problem.steps, *batch)).long()
    if by_compiler:
        warmed(step, rows[0])

    def run() -> None:
        for i in range(problem.steps):
            step(rows[i])

    return lambda: timed(run, problem.steps)


def peak(problem: Problem, size: int) -> Case:
    """A product of square matrices in float32, several in a row."""
    del problem
    x, w = (torch.randn(size, size) * size**-0.5 for _ in range(2))

    def run() -> None:
        y = x
        for _ in range(p.PRODUCTS):
            y = y @ w

    return lambda: timed(run, p.PRODUCTS)


def check(problem: Problem, batch: int, *, by_compiler: bool = False) -> Arrays:
    """See the check of `bench.with_kd`."""
    params, step = _student(problem, by_compiler=by_compiler)
    losses, updates = [], []
    with compiling():
        for rows in torch.from_numpy(problem.checked_rows(batch)).long():
            losses.append(step(rows).item())
            updates.append(_flat(params) - p.flat(p.first_params()))
    return {"loss": np.asarray(losses), "update": updates[0]}


def check_population(problem: Problem, batch: int, *, by_compiler: bool = False) -> Arrays:
    """The same of members that are all alike: a leading axis of members."""
    params, step = _population(problem, by_compiler=by_compiler)
    losses, updates = [], []
    with compiling():
        for rows in torch.from_numpy(problem.checked_rows(batch)).long():
            losses.append(step(rows.expand(p.MEMBERS, -1)).numpy())
            members = [_flat([param[i] for param in params]) for i in range(p.MEMBERS)]
            updates.append(np.stack(members) - p.flat(p.first_params()))
    return {"loss": np.stack(losses, axis=1), "update": updates[0]}


def _flat(params: list[Tensor]) -> np.ndarray:
    """In the order and the layout of `problem.flat`."""
    return np.concatenate([param.detach().numpy().T.ravel() for param in params])


def _both(name: str, function: Callable[..., object]) -> dict[str, Callable[..., object]]:
    return {name: function, f"{name} compiled": functools.partial(function, by_compiler=True)}


CASES = {
    **_both("student", student),
    **_both("population", population),
    "peak": peak,
    **vit_torch.CASES,
}
CHECKS = {
    **_both("check", check),
    **_both("check population", check_population),
    **_both("check vit", vit_torch.check),
}

if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    serve(CASES, CHECKS)
