"""Starting a run in a process of its own and waiting for its end."""

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import tempfile
import time

import runs
import stores
from faults import child
from faults.child import CALM

SECONDS = 300  # that a run may take on a busy machine
HANGS = 124


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (minus the signal that killed it), what it said, what it
    counted, and when.
    """

    code: int
    out: list[str]
    err: list[str]
    counts: dict
    at: float


@functools.cache
def forks():
    """Processes are forked from one that has loaded everything and touched no device."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faults.preload"])
    paths = os.pathsep.join([str(runs.ROOT), str(runs.ROOT / "tests")])
    # one thread only: a fork takes no other along
    with environment(PYTHONPATH=paths, OPENBLAS_NUM_THREADS="1", JAX_PLATFORMS="cpu", XLA_FLAGS=""):
        process = context.Process(target=int)
        process.start()
        process.join()
    return context


@contextlib.contextmanager
def environment(**values):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclasses.dataclass(frozen=True)
class Started:
    """A process under way."""

    process: multiprocessing.process.BaseProcess
    output: pathlib.Path

    def wait(self, seconds=SECONDS):
        """Until it has ended; one that does not is killed, and says so, with code `HANGS`."""
        self.process.join(seconds)
        at, hangs = time.monotonic(), self.process.exitcode is None
        if hangs:
            self.process.kill()
            self.process.join()
        said = [
            stores.without_its_line(
                self.output.with_suffix(kind).read_text(errors="replace")
            ).splitlines()
            for kind in (".out", ".err")
        ]
        report = self.output.with_suffix(".json")
        counts = json.loads(report.read_text()) if report.exists() else {}
        if hangs:
            said[1].append(f"it did not end within {seconds} s")
        return Ended(HANGS if hangs else self.process.exitcode, *said, counts, at)


def begin(command, devices, folder, fault=CALM, patience=None, variables=()):
    """``kd`` with the arguments `command` and a fault, started; `folder` is the run's."""
    output = pathlib.Path(tempfile.mkdtemp(prefix="start-", dir=scratch())) / "said"
    arguments = (
        [str(word) for word in command],
        devices,
        str(folder),
        str(output),
        fault,
        patience,
        dict(variables),
    )
    process = forks().Process(target=child.run, args=arguments)
    process.start()
    return Started(process, output)


def run(command, devices, folder, fault=CALM, variables=()):
    """The same, and waited for."""
    return begin(command, devices, folder, fault, variables=variables).wait()


@functools.cache
def scratch():
    """Where all runs of this process live, until it ends."""
    folder = tempfile.TemporaryDirectory(prefix="kd-faults-")
    keep.append(folder)
    return pathlib.Path(folder.name)


keep: list = []
