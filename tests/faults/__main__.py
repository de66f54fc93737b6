"""Every fault, many times: a table in the terminal, results.json, and docs/scaling.md.

An hour on two cores.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import sys
import tempfile
import time


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of each combination")
    parser.add_argument(
        "--others", type=int, default=6, help="times that each other fault is tried"
    )
    parser.add_argument("--buckets", action="store_true", help="runs in buckets, none on disks")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--only", default=[""], nargs="+", metavar="WORDS", help="only rows that hold some of these"
    )
    parser.add_argument(
        "--record", action="store_true", help="put the rows into results.json and docs/scaling.md"
    )
    args = parser.parse_args()
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    with tempfile.TemporaryDirectory(prefix="kd-compiled-") as cache:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
        return measure(args)


def on_disks(args):
    """(words, how many starts it takes, function of a random generator that gives the row) of every
    row.
    """
    from faults import kinds
    from faults.cases import CASES, Case

    alone, eight, some = Case(1), Case(8, stream=True), args.others
    rows = [_kills(case, args.kills) for case in CASES]
    for case in (alone, eight):
        stopped = functools.partial(kinds.asked_to_stop, case, some)
        rows.append((f"SIGTERM, {case.words}", 2 * some, stopped))
    for victim in (0, 1):
        name = f"one of two processes killed, process {victim}"
        rows.append((name, 5 * some, functools.partial(kinds.one_of_two_lost, victim, some)))
    for kind in kinds.DAMAGES:
        damaged = functools.partial(kinds.damaged, eight, kind, None)
        rows.append((f"checkpoint, {kind}", 18, damaged))
    halves = functools.partial(kinds.half_written, eight, some)
    rows.append(("half-written checkpoint", 2 * some, halves))
    for case in (alone, eight):
        full = functools.partial(kinds.disk_full, case, some)
        rows.append((f"disk full, {case.words}", 2 * some, full))
    return rows


def in_buckets(args):
    """The same of runs in buckets."""
    from faults import buckets, kinds
    from faults.cases import BUCKETS

    rows, some = [], args.others
    for case in BUCKETS:
        rows.append(_kills(case, args.kills))
        for kind in kinds.DAMAGES:
            damaged = functools.partial(kinds.damaged, case, kind, some)
            rows.append((f"checkpoint, {kind}, {case.words}", some, damaged))
        for name, function in buckets.KINDS.items():
            tried = functools.partial(function, case, some)
            rows.append((f"{name}, {case.words}", 2 * some, tried))
    return rows


def names(args):
    """Every row, in the order of the page."""
    return [name for name, _, _ in (*on_disks(args), *in_buckets(args))]


def _kills(case, times):
    from faults import kinds

    killed = functools.partial(kinds.killed, case, times)
    return f"SIGKILL, {case.words}", 1.6 * times, killed


def command(args):
    """What repeats a row; which others are tried beside it changes nothing of it."""
    seed = f" --seed {args.seed}" if args.seed else ""
    buckets = " --buckets" if args.buckets else ""
    sizes = f"--kills {args.kills} --others {args.others}"
    return f"python -m tests.faults{buckets} {sizes}{seed} --record"


def measure(args):
    import numpy as np
    from rich.console import Console

    from faults import page
    from kd.evidence import machine

    every = in_buckets(args) if args.buckets else on_disks(args)
    planned = [row for row in every if any(words in row[0] for words in args.only)]
    rows, done = [], 0.0
    begun, total = time.monotonic(), sum(size for _, size, _ in planned)
    for number, (words, size, function) in enumerate(planned, 1):
        start = time.monotonic()
        row = function(np.random.default_rng([args.seed, *words.encode()]))
        done, elapsed, seconds = (
            done + size,
            time.monotonic() - begun,
            round(time.monotonic() - start),
        )
        told = {"seconds": seconds, "command": command(args)}
        rows.append({"name": words, **dataclasses.asdict(row), **told})
        print(
            f"{number}/{len(planned)} {words}: {row.exact} of {row.tried} exact in {row.runs} "
            f"runs, {seconds} s; "
            f"ETA {elapsed / done * (total - done):.0f} s"
            + "".join(f"\n  {wrong}" for wrong in row.wrong),
            file=sys.stderr,
            flush=True,
        )
        if args.record:
            page.record(machine(), rows, names(args))
    Console(highlight=False, width=160).print(page.table({"rows": rows}).rich(), soft_wrap=True)
    return 0 if not any(row["wrong"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
