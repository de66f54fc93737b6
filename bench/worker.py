"""One process per framework, so that their thread pools never run at the same time: a question a
line, an answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.problem import Problem
from kd.system.allocator import keep_freed

Reply = dict[str, float]
Case = Callable[[], Reply]
"""Runs something a few times and answers with the ``seconds`` of one; whatever compiles is not in
them.
"""
Check = Callable[[Problem, int], Mapping[str, np.ndarray]]


class Missing(Exception):
    """This machine lacks what a case needs; the message is one line that says what."""


def timed(run: Callable[[], Any], count: int) -> Reply:
    """The seconds of `run`, over the `count` steps that it takes."""
    start = time.perf_counter()
    run()
    return {"seconds": (time.perf_counter() - start) / count}


def serve(cases: Mapping[str, Callable[[Problem, int], Case]], checks: Mapping[str, Check]) -> None:
    """Answer the driver until it hangs up. A case is built when first asked for and stays warm
    until another's turn.

    A check writes the arrays of its answer into the file that the question names. What this machine
    lacks for a case or a check is the answer's ``missing``. Both sides keep the memory that they
    free, as the command ``kd`` does.
    """
    keep_freed()
    problem = Problem(**json.loads(sys.argv[1]))
    build = functools.cache(lambda name, batch: cases[name](problem, batch))

    def answer(name: str, batch: int, file: str) -> Reply:
        if not file:
            return build(name, batch)()
        np.savez(file, **checks[name](problem, batch))
        return {}

    for line in sys.stdin:
        name, batch, file = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):  # what libraries print is no answer
            try:
                reply = answer(name, batch, file)
            except Missing as missing:
                reply = {"missing": str(missing)}
        print(json.dumps(reply), flush=True)


class Worker:
    """The driver's end: starts ``python -m MODULE``, on the CPU unless `platform` is another, and
    asks it. `python` is the interpreter; another one has libraries that do not go with kd's.
    """

    def __init__(
        self, module: str, problem: Problem, platform: str = "cpu", python: str = sys.executable
    ) -> None:
        self._module = module
        # XLA would take most of a GPU's memory at once, and the other framework needs some too.
        settings = {
            "JAX_PLATFORMS": platform,
            "XLA_FLAGS": "",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        self._process = subprocess.Popen(
            [python, "-m", module, json.dumps(dataclasses.asdict(problem))],
            cwd=pathlib.Path(__file__).parents[1],
            env={**os.environ, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, name: str, batch: int, file: str = "") -> Any:
        """Let the worker run the case `name`, or with `file` the check `name`, while everyone else
        waits.

        Raises:
          Missing: its machine lacks what that needs.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # said below, with the exit status
            print(json.dumps([name, batch, file]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(
                f"{self._module} stopped with status {self._process.wait()} in '{name}', batch "
                f"{batch}"
            )
        reply = json.loads(answer)
        if "missing" in reply:
            raise Missing(reply["missing"])
        return reply

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
