"""The faults. Each function breaks runs off, goes on with them, and gives a row: how many tried,
how many exact.
"""

import dataclasses
import shutil
import signal

import numpy as np
import pytest

import processes
import runs
from faults import starts
from faults.cases import STEPS, Case, difference, draw, drop, fresh, whole
from faults.child import CALM, Fault
from kd.processes.watchdog import EXIT_LOST
from kd.storage import BucketPath

CLOCKS = ("events", "seconds")


@dataclasses.dataclass
class Row:
    """What became of a fault: `tried` times, of which so many ended `exact`, with what was wrong
    with the others.

    `slowest` is the longest that a process needed from the fault to its end, in seconds.
    """

    fault: str
    place: str
    tried: int = 0
    exact: int = 0
    runs: int = 0
    slowest: float | None = None
    skipped: str = ""
    wrong: list[str] = dataclasses.field(default_factory=list)

    def add(self, problem, faults=1):
        """A run has ended that had so many faults; `problem` is empty where it is exact."""
        self.tried, self.runs = self.tried + faults, self.runs + 1
        if problem:
            self.wrong.append(problem.replace(f"{starts.scratch()}/", ""))
        else:
            self.exact += faults

    def took(self, seconds):
        self.slowest = round(max(self.slowest or 0.0, seconds), 1)


def problem_of(ended, workdir, expected):
    """What is wrong with a run that should have ended well; empty if nothing is."""
    if ended.code != 0:
        return f"exit code {ended.code}: {last(ended)}"
    return difference(workdir, expected)


def last(ended):
    return ended.err[-1] if ended.err else ""


def killed(case: Case, times: int, random: np.random.Generator) -> Row:
    """Killed, started, killed again, ...: whenever such a run comes to its end, it is compared."""
    row, (expected, counts) = Row("SIGKILL", case.words), whole(case)
    workdir, faults, starts_left = fresh(case.store), 0, 4 * times
    while row.tried + faults < times and (starts_left := starts_left - 1):
        clock = CLOCKS[(row.tried + faults) % 2]
        ended = case.start(workdir, draw(random, "kill", clock, counts))
        if ended.code == -signal.SIGKILL:
            faults += 1
            continue
        row.add(problem_of(ended, workdir, expected), faults)
        drop(workdir)
        workdir, faults = fresh(case.store), 0
    if faults:
        row.add(problem_of(case.start(workdir), workdir, expected), faults)
        drop(workdir)
    return row


def asked_to_stop(case: Case, times: int, random: np.random.Generator) -> Row:
    """SIGTERM at any moment: saved, exit code 143 and one line; the same command goes on to the
    same bytes.
    """
    row, (expected, counts) = Row("SIGTERM", case.words), whole(case)
    for _ in range(4 * times):
        if row.tried == times:
            break
        workdir = fresh()
        ended = case.start(workdir, draw(random, "term", CLOCKS[row.tried % 2], counts))
        if "struck" not in ended.counts:  # it had ended before
            continue
        row.took(ended.at - ended.counts["struck"])
        problem = ""
        if ended.code != 128 + signal.SIGTERM or "kd: stopped by SIGTERM" not in last(ended):
            problem = f"exit code {ended.code}: {last(ended)}"
        elif "after step" in last(ended):
            at = int(runs.restored(workdir)["['step']"])
            if f"after step {at};" not in last(ended):
                problem = f"the checkpoint is of step {at}: {last(ended)}"
        row.add(problem or problem_of(case.start(workdir), workdir, expected))
        drop(workdir)
    return row


def pair(command, workdir, fault=CALM, victim=0, patience=None):
    """Both of two processes, waited for."""
    address = processes.address()
    places = [
        [f"--coordinator={address}", "--num_processes=2", f"--process_id={index}"]
        for index in range(2)
    ]
    started = [
        starts.begin([*command, *place], 2, workdir, fault if index == victim else CALM, patience)
        for index, place in enumerate(places)
    ]
    return [process.wait() for process in started]


def one_of_two_lost(
    victim: int, times: int, random: np.random.Generator, patience: float | None = None
) -> Row:
    """One of two processes is killed: the other names it and ends; both, started again, come to the
    same bytes.
    """
    case = Case(4, stream=True)
    row = Row(
        "one of two processes killed", f"process {victim} of 2, 2 devices each, streamed, fsdp 2"
    )
    expected = fresh()
    for path in (fresh(), expected):  # the first time it compiles
        calm = pair(case.command(path), path, patience=patience)
        assert [process.code for process in calm] == [0, 0], [process.err for process in calm]
    for _ in range(4 * times):
        if row.tried == times:
            break
        workdir = fresh()
        fault = draw(random, "kill", CLOCKS[row.tried % 2], calm[victim].counts)
        ended = pair(case.command(workdir), workdir, fault, victim, patience)
        if ended[victim].code != -signal.SIGKILL:
            continue
        survivor = ended[1 - victim]
        seconds = survivor.at - ended[victim].counts["struck"]
        row.took(seconds)
        problem = ""
        if survivor.code != EXIT_LOST or f"process {victim} of 2 (host " not in last(survivor):
            problem = f"the other: exit code {survivor.code}: {last(survivor)}"
        elif seconds > 60:
            problem = f"the other took {seconds:.0f} s"
        if not problem:
            again = pair(case.command(workdir), workdir, patience=patience)
            problem = next(
                (p for process in again if (p := problem_of(process, workdir, expected))), ""
            )
        row.add(problem)
        drop(workdir)
    return row


def truncated(path, random):
    path.write_bytes(path.read_bytes()[: random.integers(path.stat().st_size)])


def flipped(path, random):
    content = bytearray(path.read_bytes())
    content[random.integers(len(content))] ^= 1 << random.integers(8)
    path.write_bytes(content)


def missing(path, random):
    path.unlink()


DAMAGES = {"a file truncated": truncated, "a bit flipped": flipped, "a file missing": missing}


def damaged(case: Case, kind: str, times: int | None, random: np.random.Generator) -> Row:
    """Each file of the newest checkpoint in turn, its checksums too: said, and the checkpoint
    before taken.

    With `times`, only so many of the files.
    """
    row, (expected, _) = Row(f"newest checkpoint: {kind}", case.words), whole(case)
    for path in chosen(checkpoint_files(expected, kind), times, random):
        workdir = fresh(case.store)
        runs.copied(expected, workdir)
        (workdir / "evaluation.json").unlink()
        DAMAGES[kind](workdir / path, random)
        ended = case.start(workdir)
        said = [line for line in ended.out if f"step {STEPS} " in line and "is damaged" in line]
        problem = problem_of(ended, workdir, expected)
        row.add(problem or ("" if len(said) == 1 else f"{path.name}: nothing was said"))
        drop(workdir)
    return row


def checkpoint_files(workdir, kind):
    """The files of the newest checkpoint that hold anything, and that of its checksums; in a bucket
    it was never saved without them.
    """
    folder = workdir / "checkpoints"
    files = sorted(path for path in (folder / "steps" / str(STEPS)).rglob("*") if path.is_file())
    if not (isinstance(workdir, BucketPath) and DAMAGES[kind] is missing):
        files.append(folder / "checksums" / f"{STEPS}.json")
    return [path.relative_to(workdir) for path in files if path.stat().st_size]


def chosen(files, times, random):
    if times is None:
        return files
    return [files[i] for i in random.choice(len(files), times, replace=False)]


def half_written(case: Case, times: int, random: np.random.Generator) -> Row:
    """Killed while a checkpoint is not yet in its place, or is there and its checksums are not."""
    row, (expected, _) = Row("half-written checkpoint", case.words), whole(case)
    for number in range(times):
        workdir, step = fresh(), 3 * int(random.integers(1, STEPS // 3 + 1))
        target = f"/steps/{step}" if number % 2 else f"/checksums/{step}.json"
        ended = case.start(workdir, Fault("kill", "rename", target=target))
        problem = "" if ended.code == -signal.SIGKILL else f"exit code {ended.code}: {last(ended)}"
        row.add(problem or problem_of(case.start(workdir), workdir, expected))
        drop(workdir)
    return row


def disk_full(case: Case, times: int, random: np.random.Generator) -> Row:
    """The disk fills at any moment: one line says so, the last good checkpoint stays, and the run
    goes on later.
    """
    row, (expected, counts) = Row("disk full", case.words), whole(case)
    disk = fresh()
    try:
        with runs.small_disk(disk):
            for _ in range(4 * times):
                if row.tried == times:
                    break
                fill_once(
                    row,
                    case,
                    disk,
                    expected,
                    draw(random, "fill", "events", counts, spare=spare(random)),
                )
    except pytest.skip.Exception as skipped:
        row.skipped = str(skipped)
    return row


def spare(random):
    """Bytes that are left when the disk fills: none at all, or enough to begin."""
    return int(random.choice([0, 4096, 65536]))


def fill_once(row, case, disk, expected, fault):
    workdir = disk / "run"
    ended = case.start(workdir, fault)
    (disk / "filler").unlink(missing_ok=True)
    if "struck" in ended.counts and ended.code != 0:  # else what was left to write found its place
        row.took(ended.at - ended.counts["struck"])
        problem = ""
        if (
            ended.code != 2
            or not last(ended).startswith("kd: cannot ")
            or "o space" not in last(ended)
        ):
            problem = f"exit code {ended.code}: {last(ended)}"
        elif len([line for line in ended.err if not line.startswith("train: ")]) > 1:
            problem = "more lines than one:\n" + "\n".join(ended.err)
        again = problem_of(case.start(workdir), workdir, expected)
        row.add(again or problem)
    shutil.rmtree(workdir, ignore_errors=True)
