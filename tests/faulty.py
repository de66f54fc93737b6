"""``kd`` with a fault: python tests/faulty.py FAULT:STEP kd-arguments...

line     killed while it writes the line of metrics of STEP (half of it is on the disk)
commit   killed before the checkpoint of STEP is moved into place; in a bucket, before its index
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
from kd.storage import store
from kd.training import loop, writers


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def at_rename(target):
    """Die when a file or folder is about to be moved to a path that ends in `target`."""

    def hook(event, arguments):
        if event == "os.rename" and str(arguments[1]).endswith(target):
            die()

    sys.addaudithook(hook)


def at_put(part, end):
    """Die when an object is about to be written into a bucket whose name has that part and end."""
    put = store.put

    def faulty(bucket, key, content, *options):
        if content is not None and part in key and key.endswith(end):
            die()
        return put(bucket, key, content, *options)

    store.put = faulty


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
        at_put(f"/steps/{step}/", "/index.json")
    elif fault == "sums":
        at_rename(f"/checksums/{step}.json")
        at_put("/checksums/", f"/{step}.json")
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
