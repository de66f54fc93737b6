"""The same layers alone in PyTorch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench import conv_problem as c
from bench.problem import Problem
from bench.worker import Case, timed


def layer(part: c.Part, _problem: Problem, batch: int) -> Case:
    images, kernel, gradient = (torch.from_numpy(a) for a in part.layer.arrays(batch))
    arrays = [
        images.permute(0, 3, 1, 2).contiguous(),
        kernel.permute(3, 2, 0, 1).contiguous(),
        gradient.permute(0, 3, 1, 2).contiguous(),
    ]
    run_layer = function(part)

    def run() -> None:
        for _ in range(c.CALLS):
            run_layer(*arrays)

    return lambda: timed(run, c.CALLS)


def function(part: c.Part) -> Callable[..., Any]:
    """Of a layer's inputs, kernel and gradient."""
    stride = [part.layer.stride] * 2

    def forward(x: Tensor, kernel: Tensor, _: Tensor) -> Any:
        return F.conv2d(x, kernel, None, stride, 1)

    def backward(x: Tensor, kernel: Tensor, gradient: Tensor, into: int) -> Any:
        wanted = [into == i for i in range(3)]
        return torch.ops.aten.convolution_backward(
            gradient, x, kernel, None, stride, [1, 1], [1, 1], False, [0, 0], 1, wanted
        )

    into_inputs, into_weights = (functools.partial(backward, into=i) for i in range(2))
    return dict(zip(c.WAYS, (forward, into_inputs, into_weights, _norm), strict=True))[part.way]


def _norm(x: Tensor, kernel: Tensor, gradient: Tensor) -> Any:
    images, scale, bias = (
        tensor.detach().requires_grad_() for tensor in (x, *2 * [kernel[:, 0, 0, 0]])
    )
    values = F.relu(F.batch_norm(images, None, None, scale, bias, training=True))
    return values.detach(), torch.autograd.grad(values, (images, scale, bias), gradient)


CASES = {name: functools.partial(layer, part) for name, part in c.PARTS.items()}
