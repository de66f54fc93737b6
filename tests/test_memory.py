"""A run that memory cannot hold is refused before any of it is there, in a line with both sizes."""

import math
import resource

import jax
import numpy as np
import pytest

import runs
import tiny
from kd.errors import KdError
from kd.models import mlp
from kd.placement.mesh import MeshSpec
from kd.placement.sharding import Rule, Sharding
from kd.system import memory
from kd.training import loop, room
from kd.training.program import place

PROC = {
    "proc/meminfo": "MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable:    8000 kB\n",
    "proc/self/status": "Name: kd\nVmSize:\t  3000 kB\n",
}


def a_task(model=tiny.PLAIN, terms=tiny.TERMS[:1], **options):
    usual = {"steps": 2, "batch_size": 8, "teacher": None, "mesh": MeshSpec(devices=1)}
    return tiny.task(model, terms, **{**usual, **options})


def placed(task):
    return task, place(task)


def bytes_of(tree):
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "options",
    [{}, {"ema": 0.5}, {"early_stopping": True}, {"data": tiny.dataset(640)}],
    ids=["plain", "average", "best", "data"],
)
def test_what_is_counted_is_what_is_there(options):
    task, placement = placed(a_task(**options))
    sums, state = room.kept(task, placement), loop.initial_state(task)
    there = {
        "parameters": state.params,
        "gradients": state.params,
        "optimiser state": state.opt_state,
        "average": state.ema,
        "best so far": state.best,
        "data": (task.data.inputs, task.data.labels),
    }
    assert sums == {name: bytes_of(tree) for name, tree in there.items() if bytes_of(tree)}


def test_members_count_each_and_a_split_counts_a_share():
    single = room.kept(*placed(a_task()))
    members = tiny.members_of(tiny.TERMS[:1], seed=range(5))
    five = room.kept(*placed(a_task(members=members)))
    assert five["parameters"] == 5 * single["parameters"]
    assert five["data"] == single["data"]
    wide = {"model": mlp(5, (4096,)), "mesh": MeshSpec(devices=8, data=1, fsdp=8)}
    whole = room.kept(*placed(a_task(**wide)))
    split = room.kept(*placed(a_task(**wide, sharding=Sharding(student=Rule("fsdp")))))
    assert split["parameters"] < whole["parameters"] / 7


def test_a_teacher_counts():
    terms = tiny.TERMS
    task = a_task(teacher=tiny.teacher(), terms=terms)
    assert room.kept(*placed(task))["teacher"] == bytes_of(task.teacher.variables)


@pytest.mark.parametrize("free", [0, 1000, 10_000])
def test_the_border_is_the_sum(monkeypatch, free):
    task, placement = placed(a_task())
    needed = sum(room.kept(task, placement).values())
    monkeypatch.setattr(room, "available_memory", lambda: needed)
    room.check_room(task, placement)
    monkeypatch.setattr(room, "available_memory", lambda: min(free, needed - 1))
    with pytest.raises(KdError, match=r"keeps .* in memory .*there are .*; take .*, or more dev"):
        room.check_room(task, placement)


def test_devices_that_share_the_host_need_it_together(monkeypatch):
    task, placement = placed(a_task(mesh=MeshSpec(devices=8)))
    needed = sum(room.kept(task, placement).values())
    monkeypatch.setattr(room, "available_memory", lambda: 8 * needed - 1)
    with pytest.raises(KdError, match="in memory"):
        room.check_room(task, placement)


@pytest.mark.parametrize(
    ("stats", "free"),
    [
        ({"bytes_limit": 1000, "bytes_in_use": 0}, 1000),
        ({"bytes_limit": 1000, "bytes_in_use": 901}, 99),
        ({}, math.inf),  # it does not say
        (None, math.inf),
    ],
)
def test_the_fullest_accelerator_counts(stats, free):
    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    assert memory.devices_free([Device({"bytes_limit": 5000}), Device(stats)]) == min(5000, free)
    assert memory.devices_free([Device(stats)]) == free


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = {
    "proc/self/cgroup": "0::/a/b\n",
    "sys/fs/cgroup/a/memory.max": "5000000\n",
    "sys/fs/cgroup/a/memory.current": "3000000\n",
    "sys/fs/cgroup/a/memory.stat": "anon 5\ninactive_file 500000\n",
    "sys/fs/cgroup/a/b/memory.max": "max\n",
    "sys/fs/cgroup/a/b/memory.current": "3000000\n",
}
V1 = {
    "proc/self/cgroup": "4:memory:/a\n1:cpu:/\n0::/\n",
    "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "4000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000\n",
}


@pytest.mark.parametrize(
    ("files", "free"), [({}, 8000 * 1024), (V2, 2_500_000), (V1, 3_000_000)], ids=["none", "2", "1"]
)
def test_the_tightest_limit_counts(tmp_path, files, free):
    assert memory.available_memory(write(tmp_path, {**PROC, **files})) == free


def test_a_limit_of_the_shell_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4000 * 1024, -1))
    assert memory.available_memory(write(tmp_path, PROC)) == 1000 * 1024


def test_what_is_read_fits_or_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2**30)
    memory.check_fits(2**30, "a table", "shorten it")
    with pytest.raises(
        KdError, match=r"a table takes 2.0 GiB and 1.0 GiB of memory are free; shorten"
    ):
        memory.check_fits(2**31, "a table", "shorten it")


def test_this_machine_has_some():
    assert 0 < memory.available_memory() < math.inf


def test_a_model_that_no_machine_holds_is_one_line_and_no_folder(tmp_path, capfd):
    for widths in ((10**9,), (10**6, 10**6), (200_000, 200_000, 200_000)):
        assert runs.train(tmp_path / "run", student__widths=widths) == 2
        said = capfd.readouterr().err
        assert len(said.splitlines()) == 1
        assert "in memory" in said
        assert "a smaller student" in said
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 9 GiB"), None, ValueError("x")])
def test_what_does_not_fit_after_all_is_one_line(error):
    other = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    wanted = ValueError if isinstance(error, ValueError) else KdError
    with pytest.raises(wanted), room.refusing():
        raise error or other


def test_nothing_is_allocated_to_find_out(monkeypatch):
    task = a_task(model=mlp(5, (10**6, 10**6)))
    monkeypatch.setattr(loop, "initial_state", None)
    with pytest.raises(KdError, match="in memory"):
        loop.run(task)
