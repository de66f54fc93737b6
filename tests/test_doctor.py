"""``kd doctor``: a page about this machine, and a line for each thing that is wrong with it."""

import functools
import pathlib
import resource
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import processes
from kd.cli.main import main
from kd.doctor import machine, page, several
from kd.doctor.facts import Asked, Fact
from kd.errors import KdError
from kd.processes.clocks import Offset, offset


def asked(folder, capsys):
    """The exit code and what was printed, a line each."""
    code = main(["doctor", f"--workdir={folder}"])
    return code, capsys.readouterr().out.strip().splitlines()


@pytest.fixture
def sound(monkeypatch):
    """A machine that has enough of everything, whatever this one has."""
    monkeypatch.setattr(machine, "_GIB", 1)
    monkeypatch.setattr(machine, "_ACCELERATORS", {})
    monkeypatch.setattr(machine, "_OPEN_FILES", 1)
    monkeypatch.setattr(several, "_LARGE", 2**10)


@pytest.mark.usefixtures("sound")
def test_a_machine_with_which_nothing_is_wrong(tmp_path, capsys):
    code, lines = asked(tmp_path / "not" / "there", capsys)
    assert (code, lines[-1]) == (0, "nothing is wrong")
    shown = "\n".join(lines)
    for words in (
        "Python", "jax ", "8 x cpu (cpu), 8 of them here", "open files", "free memory",
        f"free in {tmp_path}", "written, locked and renamed", "all-reduce of 8 devices",
        "this one alone",
    ):  # fmt: skip
        assert words in shown
    assert list(tmp_path.iterdir()) == []


def few_files(monkeypatch):
    monkeypatch.setattr(machine, "_OPEN_FILES", 1024)
    real = resource.getrlimit
    few = {resource.RLIMIT_NOFILE: (256, 256)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: few.get(which) or real(which))


def little_memory(monkeypatch):
    monkeypatch.setattr(machine, "_GIB", 2**30)
    monkeypatch.setattr(machine, "available_memory", lambda: 5e8)


def hidden_gpu(monkeypatch):
    monkeypatch.setattr(machine, "_ACCELERATORS", {"/dev/null": ("an NVIDIA GPU", "jax[cuda12]")})
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


def unseen_gpu(monkeypatch):
    hidden_gpu(monkeypatch)
    monkeypatch.delenv("JAX_PLATFORMS")


def broken(monkeypatch):
    def check(_):
        raise ZeroDivisionError("a check")

    monkeypatch.setattr(page, "CHECKS", {"broken": check, "whole": lambda _: [Fact("a", "b")]})


def refused(monkeypatch):
    def check(_):
        raise KdError("the bucket is closed; open it")

    monkeypatch.setattr(page, "CHECKS", {"bucket": check})


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (few_files, "a process may have 256 files open; raise that with 'ulimit -n 65536'"),
        (little_memory, "500.0 MB of memory are free; stop other programs"),
        (hidden_gpu, "an NVIDIA GPU is here, and JAX_PLATFORMS=cpu hides it; unset that"),
        (unseen_gpu, "JAX computes on the processor; pip install 'jax[cuda12]'"),
        (broken, "looking at it broke down (ZeroDivisionError: a check); please report that"),
        (refused, "the bucket is closed; open it"),
    ],
)
@pytest.mark.usefixtures("sound")
def test_what_is_wrong_is_one_line_with_its_fix(fault, words, monkeypatch, tmp_path, capsys):
    fault(monkeypatch)
    code, lines = asked(tmp_path, capsys)
    assert code == 2
    assert words in lines[-1]
    assert sum(words in line for line in lines) == 1


@pytest.mark.usefixtures("sound")
def test_a_folder_that_cannot_be_written(capsys):
    code, lines = asked("/proc/kd", capsys)
    assert code == 2
    assert lines[-1].startswith("/proc cannot be written, locked or renamed in (")
    assert lines[-1].endswith("on a file system with locks and renames")


def test_two_processes_look_at_each_other(tmp_path):
    """They agree, exchange and compare clocks; and one of them looks at another folder."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    at, started = processes.address(), []
    for index, name in enumerate(("mine", "theirs")):
        command = ["doctor", f"--workdir={tmp_path / name}"]
        started += processes.launch_training(command, indices=[index], address=at)
    first, other = processes.ended(started, seconds=120)
    assert (first[0], other[0]) == (2, 2), (first, other)
    for words in ("all-reduce of 4 devices", "2, this one is 0", "agreeing at a dispatch", "clock"):
        assert words in first[1]
    problems = first[1].splitlines()[-1]
    assert problems.startswith("process 1 (")
    assert f"does not see what process 0 writes in {tmp_path / 'theirs'}; mount one" in problems
    assert not list((tmp_path / "mine").iterdir())


class Shelf:
    """What two threads say to each other."""

    def __init__(self):
        self.values, self.news = {}, threading.Condition()

    def put(self, key, value):
        with self.news:
            self.values[key] = value
            self.news.notify_all()

    def wait(self, key):
        with self.news:
            assert self.news.wait_for(lambda: key in self.values, timeout=30)
            return self.values[key]


def skewed(seconds):
    return time.time() + seconds


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3))
@settings(max_examples=20)
def test_a_clock_is_compared_within_its_error(ahead):
    shelf, offsets = Shelf(), {}

    def compare(index):
        clock = functools.partial(skewed, 0.0 if index == 0 else ahead[index - 1])
        offsets[index] = offset(shelf, index, len(ahead) + 1, clock)

    threads = [threading.Thread(target=compare, args=(i,)) for i in range(len(ahead) + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert offsets[0] == Offset()
    for index, skew in enumerate(ahead, 1):
        assert abs(offsets[index].seconds - skew) <= offsets[index].error + 1e-6
        assert offsets[index].least <= abs(skew) + 1e-6


def test_clocks_that_differ_are_named(monkeypatch):
    monkeypatch.setattr(several.group, "peers", lambda: Shelf())
    for seconds, words in (
        (-42.5, "this clock is 42.5 s behind that of process 0; let NTP"),
        (0.9, ""),
    ):
        monkeypatch.setattr(several.clocks, "offset", lambda *_, s=seconds: Offset(s, 0.001))
        [fact] = several.clock(Asked(pathlib.Path()))
        assert fact.wrong.startswith(words)
        assert bool(fact.wrong) == bool(words)
