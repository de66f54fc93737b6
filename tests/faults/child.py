"""The process that trains, with a fault in it that strikes at a moment of its training or
saving.
"""

import dataclasses
import functools
import json
import os
import pathlib
import signal
import sys
import threading
import time
import warnings

EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")  # and `open`, below the run's folder


@dataclasses.dataclass(frozen=True)
class Fault:
    """`action` when, after the first step of this start, `share` of a whole run has passed, by
    `clock`.

    action  none, kill (SIGKILL), term (SIGTERM), fill (fill the disk, but for `spare` bytes)
    clock   events (of the file system, or requests of a bucket) or seconds, of which a run that
            nobody disturbs has `whole`; or rename: when something is about to be moved to a path
            that ends in `target`
    """

    action: str = "none"
    clock: str = "events"
    share: float = 0.0
    whole: float = 0.0
    spare: int = 0
    target: str = ""


CALM = Fault()


class Striker:
    """Counts from the first step of this process on, and strikes once."""

    def __init__(self, fault, folder, report):
        self.fault, self.folder, self.report = fault, str(folder), report
        self.asks = "://" in self.folder
        self.events, self.began, self.limit = 0, None, None
        self.struck = threading.Lock()  # two threads may count the same event

    def install(self):
        """Before anything trains."""
        from kd.training import loop

        compile_program = loop.compile_program

        def watched(*arguments):
            program = compile_program(*arguments)

            def advance(state, step, until):
                if self.began is None:
                    self.begin()
                return program.advance(state, step, until)

            return dataclasses.replace(program, advance=advance)

        loop.compile_program = watched
        sys.addaudithook(self.hear)
        if self.asks:
            self.hear_requests()

    def hear_requests(self):
        """What happens to a folder in a bucket is asked of it."""
        from kd.storage import store

        asked = store._asked

        def heard(*arguments):
            if self.began is not None:
                self.count()
            return asked(*arguments)

        store._asked = heard

    def begin(self):
        """The first step is about to be taken."""
        self.events, self.began = 0, time.monotonic()
        at = self.fault.share * self.fault.whole
        if self.fault.action == "none":
            return
        if self.fault.clock == "events":
            self.limit = 1 + int(at)
        elif self.fault.clock == "seconds":
            timer = threading.Timer(at, self.strike)
            timer.daemon = True
            timer.start()

    def hear(self, event, arguments):
        """An audit hook: it is called before the event happens."""
        if self.began is None or self.asks:
            return
        if event in EVENTS or (event == "open" and str(arguments[0]).startswith(self.folder)):
            renamed = event == "os.rename" and self.fault.clock == "rename"
            self.count(renamed and str(arguments[1]).endswith(self.fault.target))

    def count(self, now=False):
        """An event is about to happen."""
        self.events += 1
        if now or self.events == self.limit:
            self.strike()

    def strike(self):
        if not self.struck.acquire(blocking=False):
            return
        self.tell(struck=time.monotonic())
        if self.fault.action == "fill":
            fill(pathlib.Path(self.folder).parent / "filler", self.fault.spare)
        else:
            os.kill(
                os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM}[self.fault.action]
            )

    def tell(self, **values):
        # a process may end while its timer writes
        unfinished = self.report.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(values))
        unfinished.replace(self.report)


def fill(filler, spare):
    """Write until the disk is full, and give `spare` bytes of it back."""
    with filler.open("wb", buffering=0) as file:
        size = 0
        for block in (1 << 16, 512):
            try:
                while True:
                    size += file.write(b"x" * block)
            except OSError:
                continue
        file.truncate(max(0, size - spare))


def run(command, devices, folder, output, fault, patience=None, variables=()):
    """``kd`` with these arguments, as a process: what it says goes to `output`.out and .err, its
    counts to .json.
    """
    output = pathlib.Path(output)
    for number, kind in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(output.with_suffix(kind), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(variables)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    warnings.simplefilter("error")
    from kd.cli import main as cli
    from kd.processes import group

    if patience is not None:  # of seconds for a process whose heart stands still
        group.watch = functools.partial(group.watch, patience=group.Patience(lost=patience))
    striker = Striker(fault, folder, output.with_suffix(".json"))
    striker.install()
    sys.argv[1:] = command
    try:
        cli.run()
    finally:
        if fault.action == "none" and striker.began is not None:
            striker.tell(events=striker.events, seconds=time.monotonic() - striker.began)
