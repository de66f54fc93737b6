"""Odd input in bulk: a table in the terminal, results.json, and docs/fuzz.md.

Ten minutes on two cores.
"""

import argparse
import os
import pathlib
import sys
import tempfile

CASES = {"commands": 1000, "workdirs": 300, "files": 400, "library": 300}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of all cases")
    parser.add_argument("--cases", type=int, help="of each family, in place of all")
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=CASES, help="families")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=2, help="cases at a time")
    parser.add_argument(
        "--record", action="store_true", help="put the rows into results.json and docs/fuzz.md"
    )
    args = parser.parse_args()
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    with tempfile.TemporaryDirectory(prefix="kd-compiled-") as cache:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
        return measure(args)


def measure(args):
    from rich.console import Console

    from fuzz import bases, page, pool
    from fuzz.oracle import WRONG, disagreements

    tasks = [
        (family, args.first + number)
        for family in args.only
        for number in range(args.cases or CASES[family])
    ]
    done = []

    def said(outcome):
        done.append(outcome)
        if outcome.kind in WRONG:
            print(
                f"{len(done)}/{len(tasks)} {outcome.kind}: {outcome.family} {outcome.number}: "
                f"{outcome.words}\n  {outcome.detail}",
                file=sys.stderr,
                flush=True,
            )

    with bases.made() as (paths, recorded):
        outcomes = disagreements(pool.run(tasks, args.seed, paths, args.workers, said), recorded)
    rows = page.rows(outcomes)
    if args.record:
        page.record(" ".join(["python -m tests.fuzz", *sys.argv[1:]]), rows)
    Console(highlight=False, width=120).print(page.table(rows).rich(), soft_wrap=True)
    for outcome in outcomes:
        if outcome.detail.startswith("another evaluation"):
            print(f"{outcome.family} {outcome.number}: {outcome.words}\n  {outcome.detail}")
    return 1 if any(outcome.kind in WRONG for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
