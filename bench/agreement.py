"""Time what it costs several processes of one machine to agree at every dispatch.

Writes the entry ``agreement`` of this machine in ``bench/results.json``.
Run: ``python -m bench.agreement``.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from bench.claims import spread
from bench.entry import Entry
from bench.run import RESULTS

REACH = 1.0
"""Milliseconds of a dispatch."""
_WARM = 50  # dispatches before the first that is timed


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.process is not None:
        _one_process(args)
        return 0
    entry = Entry("agreement", argv)
    times = measured(args.processes, args.dispatches, args.repeats)
    values = {
        "processes": args.processes,
        "dispatches": args.dispatches,
        "repeats": args.repeats,
        "ms": spread(times),
        "met": bool(np.median(times) <= REACH),
    }
    entry.save(args.out, values)
    return 0


def measured(processes: int, dispatches: int, repeats: int) -> np.ndarray:
    """Milliseconds of a dispatch, of the slowest process, one value a round."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    sizes = [f"--processes={processes}", f"--dispatches={dispatches}", f"--repeats={repeats}"]
    command = [sys.executable, "-m", "bench.agreement", f"--address={address}", *sizes]
    started = [
        subprocess.Popen([*command, f"--process={i}"], stdout=subprocess.PIPE, text=True)
        for i in range(processes)
    ]
    told = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError(f"a process ended with {[p.returncode for p in started]}")
    return np.max([json.loads(text) for text in told], axis=0)


def _one_process(args: argparse.Namespace) -> None:
    """Agree again and again with the others: nothing but that happens between two dispatches."""
    from kd.processes import group
    from kd.processes.agreement import Agreement

    group.start(args.address, args.processes, args.process)
    times = []
    with group.watch():
        agreement = Agreement()
        for step in range(_WARM):
            agreement.agreed(step, None)
        for number in range(args.repeats):
            first = _WARM + number * args.dispatches
            begun = time.perf_counter()
            for step in range(first, first + args.dispatches):
                agreement.agreed(step, None)
            times.append(1e3 * (time.perf_counter() - begun) / args.dispatches)
    print(json.dumps(times))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.agreement", description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--dispatches", type=int, default=500, help="that are timed at once")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
