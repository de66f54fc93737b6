"""Several processes as one run: they agree without a device, and nobody waits for the dead."""

import json
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import processes
import runs
from kd.errors import KdError
from kd.processes import group, launcher
from kd.processes.watchdog import EXIT_LOST, Hearts, Patience, Watchdog, lost_line

AGAIN = "start all of them again with the same command: they continue from the last checkpoint"


def test_alone_everything_is_free():
    code = """
import sys
from kd.processes import group
from kd.processes.agreement import Agreement
group.start()
assert (group.count(), group.index(), group.is_first()) == (1, 0, True)
assert group.first_does("x", lambda: (1,)) == (1,)
group.check_same("agree", {"config": "a"})
assert [Agreement().agreed(0, s) for s in (None, 15)] == [None, 15]
with group.watch():
    group.explain(ValueError())
assert "jax" not in sys.modules
"""
    done = runs.python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("host:1", 2, None), "give all of --coordinator"),
        (("host", 2, 0), "HOST:PORT"),
        (("host:70000", 2, 0), "HOST:PORT"),
        ((":80", 2, 0), "HOST:PORT"),
        (("host:80", 2, 2), "from 0 to 1"),
        (("host:80", 2, -1), "from 0 to 1"),
        (("host:80", 0, 0), "--num_processes must be 1 or more"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(KdError, match=message):
        launcher.from_arguments(*options)


SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        (SLURM, None),  # in the batch script itself
        ({**SLURM, "SLURM_STEP_NODELIST": "n[1-4]"}, "Slurm"),
        ({**SLURM, "SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "1"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "GKE"),
        ({"TPU_WORKER_HOSTNAMES": "a"}, None),
        ({"MEGASCALE_NUM_SLICES": "2"}, "GKE"),
    ],
)
def test_a_launcher_is_known_by_its_environment(environment, name):
    assert launcher.name_of(environment) == name


def test_slurm_says_where_this_process_is(monkeypatch):
    environment = {**SLURM, "SLURM_STEP_NODELIST": "n[1-4]"}
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    place = launcher.from_launcher(environment, 5)
    assert place is not None
    assert (place.count, place.index, place.address.partition(":")[0]) == (4, 2, "n1")


def test_a_launcher_that_hides_process_0_is_named():
    with pytest.raises(KdError, match=r"Open MPI started several processes .* give --coordinator"):
        launcher.from_launcher({"OMPI_COMM_WORLD_SIZE": "2"}, 5)


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1, max_size=5)
)
def test_differences_are_all_and_only_those_that_are_there(values):
    hosts = [f"h{i}" for i in range(len(values))]
    differences = group.differences(values, hosts)
    assert (differences == "") == all(value == values[0] for value in values)
    for key in "abc":
        assert (f"{key} is " in differences) == (len({value.get(key) for value in values}) > 1)


PATIENCE = Patience(beat=1, lost=10, first=40)


@given(st.data())
def test_who_stands_still_is_lost_and_nobody_else(data):
    """Beats at random moments: a process is lost exactly when its newest one is older than the
    patience.
    """
    count = data.draw(st.integers(2, 4))
    hearts = Hearts(0, ["h"] * count, PATIENCE, 0.0)
    newest: dict[int, float] = {}
    for now in range(1, 61):
        beating = data.draw(st.sets(st.integers(1, count - 1)))
        newest |= dict.fromkeys(beating, float(now))
        hearts.heard({str(i): str(at) for i, at in newest.items()}, {}, float(now))
        expected = [
            i for i in range(1, count) if now - newest.get(i, 0.0) > (10 if i in newest else 40)
        ]
        assert hearts.lost(float(now)) == expected


def test_a_process_that_stood_still_itself_accuses_nobody():
    hearts = Hearts(1, ["h"] * 3, PATIENCE, 0.0)
    hearts.heard({"0": "1", "1": "1", "2": "1"}, {}, 1.0)
    assert hearts.lost(100.0) == []  # a laptop was closed
    assert hearts.lost(104.0) == []
    hearts.heard({"0": "2", "1": "1", "2": "1"}, {}, 108.0)
    assert hearts.lost(108.0) == []
    assert hearts.lost(112.0) == [2]


def test_a_coordinator_that_does_not_answer_is_lost_and_one_that_left_is_not():
    hearts = Hearts(1, ["h"] * 3, PATIENCE, 0.0)
    for now in (4.0, 8.0):
        assert hearts.lost(now) == []
    assert hearts.lost(11.0) == [0]
    hearts.heard({"0": "1", "2": "1"}, {"2": "left"}, 12.0)
    for now in (16.0, 20.0, 22.0):
        hearts.heard({"0": str(now), "2": "1"}, {"2": "left"}, now)
        assert hearts.lost(now) == []
    assert hearts.lost(23.0) == []


class Shelf:
    """A store in memory, of which the coordinator may die: then it never answers."""

    def __init__(self):
        self.values, self.dead = {}, threading.Event()

    def put(self, key, value):
        self._answer()
        self.values[key] = value

    def folder(self, key):
        self._answer()
        return {
            name.rpartition("/")[2]: v
            for name, v in self.values.items()
            if name.rpartition("/")[0] == key
        }

    def _answer(self):
        if self.dead.is_set():
            time.sleep(60)


@pytest.mark.parametrize("fault", ["silent", "hangs", "broken", "failed"])
def test_the_watchdog_names_who_is_gone(fault):
    shelf, said, broken, ended = Shelf(), [], threading.Event(), threading.Event()
    patience = Patience(beat=0.05, lost=0.6, first=5)
    shelf.values |= {"kd/beat/0": "1", "kd/beat/2": "1"}
    dog = Watchdog(
        shelf,
        1,
        ["a", "b", "c"],
        patience=patience,
        broken=broken,
        end=lambda line: (said.append(line), ended.set()),
    )
    if fault == "hangs":
        shelf.dead.set()
    elif fault == "broken":
        broken.set()
    elif fault == "failed":
        shelf.values["kd/news/failed"] = "2 failed (KdError: the disk is full)"
    end = time.monotonic() + 10
    count = 1
    while not ended.is_set() and time.monotonic() < end:
        count += 1
        shelf.values["kd/beat/0"] = str(count)
        if fault != "silent":
            shelf.values["kd/beat/2"] = str(count)
        time.sleep(0.02)
    dog.stop()
    named = {
        "silent": (2, "c", "is lost"),
        "failed": (2, "c", "failed (KdError: the disk is full)"),
    }
    who, host, why = named.get(fault, (0, "a", "is lost"))
    assert said == [f"process {who} of 3 (host {host}) {why}; {AGAIN}"]


def test_the_last_line_counts():
    assert lost_line([1, 2], ["a", "b", "c"]).startswith(
        "process 1 of 3 (host b) and process 2 of 3 (host c) are lost;"
    )


def test_processes_agree_and_fail_alike():
    ended = processes.together("agree")
    assert [code for code, _, _ in ended] == [0, 0], ended
    zero, first = (out.splitlines() for _, out, _ in ended)
    assert zero[:-1] == first[:-1]
    assert zero[0] == "first {'who': 0}"
    assert zero[1:3] == ["refused no such folder; make it"] * 2
    assert "data is d0 on process 0 (" in zero[3]
    assert "d1 on process 1 (" in zero[3]
    decided = json.loads(zero[4].removeprefix("decided ").replace("None", "null"))
    assert decided[-1] == signal.SIGTERM
    assert set(decided[:-1]) == {None}
    assert (zero[-1], first[-1]) == ("count 2 0 True", "count 2 1 False")


@pytest.mark.parametrize("victim", [1, 0])
def test_a_killed_process_ends_the_others_in_a_line_that_names_it(victim):
    started = processes.launch("collective", 10**9, count=3, devices=1)
    for process in started:
        processes.wait_for_line(process, "up")
    started[victim].kill()
    ended = processes.ended(started)
    for index, (code, _, err) in enumerate(ended):
        if index != victim:
            assert code == EXIT_LOST, ended
            assert len(err.splitlines()) == 1, err
            assert err.startswith(f"kd: process {victim} of 3 (host ")
            assert err.endswith(f") is lost; {AGAIN}\n")


def test_a_process_that_fails_ends_the_others_with_its_words():
    failed, other = processes.together("fails", 0, devices=1)
    assert (failed[0], failed[2]) == (2, "kd: the disk is full; free some space\n")
    assert other[0] == EXIT_LOST
    assert other[2].startswith("kd: process 0 of 2 (host ")
    assert "failed (KdError: the disk is full; free some space)" in other[2]


@pytest.mark.parametrize("index", [0, 1])
def test_one_that_waits_in_vain_says_for_whom(index, monkeypatch):
    monkeypatch.setenv("JOIN", "2")
    address = f"127.0.0.1:{processes.free_port()}"
    [(code, _, err)] = processes.ended(
        processes.launch("nothing", address=address, indices=[index])
    )
    assert code == 2
    assert len(err.splitlines()) == 1, err
    words = "not all 2 processes came to" if index == 0 else "process 0 does not answer at"
    assert f"kd: {words} {address} within 2 s; " in err
