"""Cases in processes of their own, two at a time; one that does not end is ended."""

import importlib
import os
import pathlib
import resource
import tempfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection

import numpy as np

from faults import starts
from fuzz.oracle import Outcome, judged

SECONDS = 60  # in which every case ends by itself, on a busy machine too
CASES = 150  # of a process: what it compiled stays in its memory
MEMORY = 12 << 30  # bytes of address space


def case_of(family, seed, number, bases):
    """Deterministic: what the case does is a function of these."""
    random = np.random.default_rng([seed, number, *family.encode()])
    return importlib.import_module(f"fuzz.{family}").case(random, bases)


def attempt(family, seed, number, bases):
    """One case, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="kd-fuzz-") as scratch:
        folder = pathlib.Path(scratch, "here")
        folder.mkdir()
        os.chdir(folder)
        os.environ["HOME"] = str(pathlib.Path(scratch, "home"))
        try:
            return judged(family, number, case_of(family, seed, number, bases))
        finally:
            os.chdir("/")


def run(tasks, seed, bases, workers=2, said=lambda _: None):
    """The outcomes of all `tasks`, pairs of a family and a number, in their order."""
    starts.forks()
    outcomes = {}
    waiting = iter(tasks)

    def work(_):
        worker = _Worker(seed, bases)
        for task in waiting:
            outcomes[task] = worker.outcome(*task)
            said(outcomes[task])
        worker.end()

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(work, range(workers)))
    return [outcomes[task] for task in tasks]


class _Worker:
    """A process that is begun anew when a case has killed it, or has not ended."""

    def __init__(self, seed, bases):
        self._seed, self._bases, self._process, self._done = seed, bases, None, 0

    def outcome(self, family, number):
        if self._process is None or self._done == CASES:
            self._begin()
        self._done += 1
        self._pipe.send((family, number))
        if not self._pipe.poll(SECONDS):
            return self._lost(family, number, "hang", f"{SECONDS} s")
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            return self._lost(family, number, "traceback", f"died: {self._process.exitcode}")

    def end(self):
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None

    def _begin(self):
        self.end()
        self._pipe, theirs = connection.Pipe()
        self._process, self._done = (
            starts.forks().Process(target=_work, args=(theirs, self._seed, self._bases)),
            0,
        )
        self._process.start()
        theirs.close()

    def _lost(self, family, number, kind, detail):
        self.end()
        words = case_of(family, self._seed, number, self._bases).words
        return Outcome(family, number, words, kind, detail)


def _work(pipe, seed, bases):
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(task[0], seed, task[1], bases))
