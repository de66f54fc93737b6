"""One process per framework, so that their thread pools never run at the same time: a question a line, an answer."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.problem import Problem

Reply = dict[str, float]
Case = Callable[[], Reply]
"""Runs ``problem.steps`` steps and answers with their ``seconds``; whatever compiles is not in them."""


def serve(cases: Mapping[str, Callable[[Problem, int], Case]], check: Callable[[Problem, int], Mapping]) -> None:
    """Answer the driver until it hangs up. A case is built when first asked for and stays warm."""
    problem = Problem(**json.loads(sys.argv[1]))
    build = functools.cache(lambda name, batch: cases[name](problem, batch))
    for line in sys.stdin:
        name, batch, file = json.loads(line)
        if name == "check":
            np.savez(file, **check(problem, batch))
        print(json.dumps({} if name == "check" else build(name, batch)()), flush=True)


class Worker:
    """The driver's end: starts ``python -m MODULE`` on the CPU and asks it."""

    def __init__(self, module: str, problem: Problem) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(dataclasses.asdict(problem))],
            cwd=pathlib.Path(__file__).parents[1],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, name: str, batch: int, file: str = "") -> Any:
        """Let the worker run the case `name`, while everyone else waits."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # said below, with the exit status
            print(json.dumps([name, batch, file]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self._module} stopped with status {self._process.wait()} in '{name}', batch {batch}")
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
