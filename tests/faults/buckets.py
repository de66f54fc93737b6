"""The faults that only a bucket has: requests that fail, a bucket that is gone, leases."""

import json
import time

import numpy as np

import stores
from faults import starts
from faults.cases import Case, drop, fresh, on_disk, variables, whole
from faults.kinds import Row, last, problem_of
from kd.storage import claimed
from kd.storage.lease import LEASE

FAILURES = (429, 500, 503)


def some_fail(case: Case, times: int, random: np.random.Generator) -> Row:
    """Every tenth request fails and is asked again: the run does not notice."""
    row, expected = Row("requests fail at random", case.words), on_disk(case)
    for _ in range(times):
        draws = np.random.default_rng(random.integers(2**32))

        def refuse(request, draws=draws):
            return int(draws.choice(FAILURES)) if draws.uniform() < 0.1 else None

        workdir = fresh(case.store)
        with stores.refusing(case.store, refuse):
            ended = case.start(workdir)
        row.add(problem_of(ended, workdir, expected))
        drop(workdir)
    return row


def gone(case: Case, times: int, random: np.random.Generator) -> Row:
    """From some request on the bucket says no to every one: one line, the last good checkpoint is
    whole, and the same command goes on.
    """
    row, (expected, counts) = Row("the bucket fails for good", case.words), whole(case)
    for number in range(times):
        left = [20 + int(random.uniform() * counts["events"])]
        status = (403, 404, 429, 500)[number % 4]
        told = [None]

        def refuse(request, left=left, status=status, told=told):
            left[0] -= 1
            if left[0] > 0:
                return None
            told[0] = told[0] or time.monotonic()
            return status

        workdir = fresh(case.store)
        with stores.refusing(case.store, refuse):
            ended = case.start(workdir)
        problem = ""
        if told[0] is not None and ended.code != 0:
            row.took(ended.at - told[0])
            said = [line for line in ended.err if not line.startswith("train: ")]
            if ended.code != 2 or len(said) != 1 or not last(ended).startswith("kd: cannot "):
                problem = f"exit code {ended.code}: " + "\n".join(said)
        row.add(problem or problem_of(case.start(workdir), workdir, expected))
        drop(workdir)
    return row


def held(case: Case, times: int, random: np.random.Generator) -> Row:
    """Another process holds the lease: the line says who, and nothing is written. Given back, the
    run goes on.
    """
    row, expected = Row("lease that another process holds", case.words), on_disk(case)
    for _ in range(times):
        workdir = fresh(case.store)
        with starts.environment(KD_LEASE_SECONDS="8"), claimed(workdir):
            ended = case.start(workdir)
            there = [path.name for path in workdir.rglob("*")]
        problem = ""
        if ended.code != 2 or "another process is training" not in last(ended):
            problem = f"exit code {ended.code}: {last(ended)}"
        elif there != [LEASE]:
            problem = f"it has written {there}"
        row.add(problem or problem_of(case.start(workdir), workdir, expected))
        drop(workdir)
    return row


def expired(case: Case, times: int, random: np.random.Generator) -> Row:
    """The holder of the lease, elsewhere, is no more: of two that take it one does."""
    row, expected = Row("lease that ran out, and two that take it", case.words), on_disk(case)
    for _ in range(times):
        workdir = fresh(case.store)
        told = {"token": "theirs", "machine": "another", "host": "worker-7", "process": 12}
        told["born"] = 3
        told |= {"since": "yesterday", "renewed": time.time(), "seconds": 3.0}
        (workdir / LEASE).write_text(json.dumps(told), "utf-8")
        command, told = case.command(workdir), variables(case.store)
        both = [starts.begin(command, case.devices, workdir, variables=told) for _ in range(2)]
        ended = [process.wait() for process in both]
        codes = sorted(process.code for process in ended)
        refused = [last(process) for process in ended if process.code == 2]
        problem = ""
        if codes != [0, 2] or "another process is training" not in refused[0]:
            problem = f"exit codes {codes}: {[last(process) for process in ended]}"
        row.add(problem or problem_of(case.start(workdir), workdir, expected))
        drop(workdir)
    return row


KINDS = {
    "requests fail": some_fail,
    "bucket gone": gone,
    "lease held": held,
    "lease expired": expired,
}
