"""``kd`` with a fault: python tests/faulty.py FAULT:STEP kd-arguments...

line     killed while it writes the line of metrics of STEP (half of it is on the disk)
commit   killed before the checkpoint of STEP is moved into place
sums     killed between a checkpoint and its checksums
compile  asked to stop (SIGINT) while it compiles
clock    its clock is so many seconds ahead
SIGTERM, SIGINT   asked to stop while it writes the line of metrics of STEP
"""

import os
import signal
import sys
import time

from kd.cli import main as cli
from kd.training import loop, writers


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def at_rename(target):
    """Die when a file or folder is about to be moved to a path that ends in `target`."""

    def hook(event, arguments):
        if event == "os.rename" and str(arguments[1]).endswith(target):
            die()

    sys.addaudithook(hook)


def at_line(step, fault):
    original = writers.jsonl

    def jsonl(path, *options):
        write = original(path, *options)

        def faulty(at, values):
            if at == step and fault == "line":
                with path.open("a", encoding="utf-8") as file:
                    file.write(f'{{"step": {at}, "lo')
                die()
            if at == step:
                os.kill(os.getpid(), signal.Signals[fault])
            write(at, values)

        return faulty

    writers.jsonl = jsonl


def main():
    fault, _, step = sys.argv[1].partition(":")
    if fault == "commit":
        at_rename(f"/steps/{step}")
    elif fault == "sums":
        at_rename(f"/checksums/{step}.json")
    elif fault == "compile":
        loop.compile_program = lambda *_: os.kill(os.getpid(), signal.SIGINT)
    elif fault == "clock":
        now = time.time
        time.time = lambda: now() + float(step)
    elif fault != "none":
        at_line(int(step), fault)
    sys.argv[1:] = sys.argv[2:]
    cli.run()


if __name__ == "__main__":
    main()
