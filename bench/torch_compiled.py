"""PyTorch's compiler: what it makes of a function, and one line where the machine lacks one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from bench.worker import Missing

WARM_STEPS = 3  # an optimiser makes its state in the first step, and compiles again in the second


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled for the shapes that it is called with.

    Raises:
      Missing: there is no C++ compiler, in which PyTorch writes its programs for a CPU.
    """
    if not torch.cuda.is_available():
        _find_compiler()
    return torch.compile(function, dynamic=False)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Within it functions are called for the first time.

    Raises:
      Missing: the compiler could not do it, most often because there is no C++ compiler.
    """
    try:
        yield
    except TorchDynamoException as error:
        cause = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise Missing(f"PyTorch cannot compile here: {cause or type(error).__name__}") from error


def _find_compiler() -> None:
    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError) as error:
        raise Missing("torch.compile needs a C++ compiler (g++ or clang++)") from error


def warmed(step: Callable[[Any], Any], rows: Any) -> Callable[[Any], Any]:
    """`step`, called on these rows until nothing is left to compile."""
    with compiling():
        for _ in range(WARM_STEPS):
            step(rows)
    return step
