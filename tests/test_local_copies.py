"""Copies of the state on a machine's own disk: a run that was killed goes on from the newest one,
to the same bytes, and without them as if there were none.
"""

import json
import shutil

import jax
import jax.numpy as jnp
import pytest

import processes
import runs
from checkpoints import bits, tree
from kd.core.state import State
from kd.placement.mesh import MeshSpec, make_mesh, put, replicated, sharding
from kd.training import local_copies
from kd.training.checkpoint import Checkpoints
from kd.training.local_copies import Copies, restored

POSITION = {"data": {"next": 3}, "log": {"rows": [[2, {"loss": [[0.1], [1.0]]}]]}}


@pytest.fixture
def copies(tmp_path):
    return Copies(tmp_path / "copies", 2)


def placed(step, fsdp=4):
    """A state whose arrays are whole, or split in two ways."""
    mesh = make_mesh(MeshSpec(fsdp=fsdp))
    whole = jnp.arange(64.0).reshape(8, 8) * step
    split = {"rows": sharding(mesh, "fsdp"), "both": sharding(mesh, "data", "fsdp")}
    parts = {name: put(whole, layout) for name, layout in split.items()}
    return {"parts": parts, **put(tree(step), replicated(mesh))}


def save(copies, *steps):
    for step in steps:
        copies.save(step, placed(step), POSITION)
    copies.wait()


def test_round_trip_is_bitwise_and_stays_in_place(copies):
    save(copies, 3)
    example = placed(0)
    assert copies.newest(example) == 3
    state, position = copies.read(3, example)
    assert bits(state) == bits(placed(3))
    assert position == POSITION
    for leaf, same in zip(jax.tree.leaves(state), jax.tree.leaves(example), strict=True):
        assert leaf.sharding == same.sharding


def test_the_device_may_write_over_what_was_copied(copies):
    state = put(jnp.arange(8.0), replicated(make_mesh(MeshSpec())))
    copies.save(1, {"x": state}, None)
    jax.jit(lambda x: x * 0, donate_argnums=0)(state).block_until_ready()
    copies.wait()
    example = {"x": put(jnp.zeros(8), replicated(make_mesh(MeshSpec())))}
    assert copies.read(1, example)[0]["x"].tolist() == list(range(8))


def test_the_two_newest_are_kept(copies, tmp_path):
    save(copies, 2, 4, 6)
    names = {path.name for path in (tmp_path / "copies").iterdir()}
    assert names == {"4.json", "4.arrays", "6.json", "6.arrays"}


def cut(folder):
    path = folder / "4.arrays"
    path.write_bytes(path.read_bytes()[:-1])


def flipped(folder):
    path = folder / "4.arrays"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def unfinished(folder):
    (folder / "4.json").unlink()


def edited(folder):
    path = folder / "4.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "position": None}))


@pytest.mark.parametrize("damage", [cut, flipped, unfinished, edited])
def test_a_damaged_copy_is_none(copies, damage, tmp_path):
    save(copies, 2, 4)
    damage(tmp_path / "copies")
    assert copies.newest(placed(0)) == 2


def test_a_copy_of_another_layout_is_none(copies):
    save(copies, 2)
    assert copies.newest(placed(0, fsdp=2)) is None
    assert copies.newest({**placed(0), "more": jnp.zeros(())}) is None
    assert copies.newest(placed(0)) == 2


def test_the_newest_of_copies_and_checkpoints_is_taken(copies, tmp_path):
    saved = Checkpoints(tmp_path / "checkpoints", lambda _: None)
    example = runs_state(0)

    def newest():
        state = restored(saved, copies, example).state
        return int(state.step)

    assert restored(saved, copies, example).state is example
    saved.save(2, runs_state(2))
    saved.wait()
    assert newest() == 2
    copies.save(3, runs_state(3), POSITION)
    copies.wait()
    assert newest() == 3
    assert restored(saved, copies, example).position == POSITION
    saved.save(4, runs_state(4))
    saved.wait()
    assert newest() == 4
    for path in (tmp_path / "checkpoints" / "checksums").iterdir():
        path.unlink()
    assert newest() == 3  # both checkpoints are damaged now
    saved.close()


def runs_state(step):
    layout = replicated(make_mesh(MeshSpec()))
    arrays = {"kernel": jnp.ones((3, 4)) * step}
    whole = State(jnp.int32(step), arrays, {}, (), jax.random.key(step))
    return put(whole, layout)


def test_a_machine_that_cannot_keep_copies_goes_on(tmp_path, capfd):
    (tmp_path / "file").touch()
    workdir, keys = tmp_path / "run", {"local_copy__folder": tmp_path / "file"}
    assert runs.train(workdir, checkpoint_epochs=1, local_copy__steps=1, **keys) == 0
    assert capfd.readouterr().out.count("cannot keep a local copy in") == 1
    runs.same_bytes(workdir, runs.finished())


CADENCE = {"total_steps": 12, "log_steps": 1, "checkpoint_epochs": 2}  # a checkpoint of step 6


def train(workdir, **keys):
    keys = {"teacher__workdir": runs.finished(), **CADENCE, **keys}
    assert runs.train(workdir, arg="population", **keys) == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(workdir)
    return workdir


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run that was killed after step 10, beside its copies; that of step 8 is whole."""
    folder = tmp_path_factory.mktemp("killed")
    keys = {"teacher__workdir": runs.finished(), **CADENCE, **copied(folder)}
    command = runs.kd("train", f"--workdir={folder / 'run'}", arg="population", **keys)
    done = runs.python("tests/faulty.py", "line:11", *command)
    assert done.returncode == -9, done.stderr
    return folder


def copied(folder):
    return {"local_copy__folder": folder / "copies", "local_copy__steps": 2}


def test_a_killed_run_goes_on_from_its_copy_to_the_same_bytes(killed, whole, tmp_path, monkeypatch):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    [own] = tmp_path.glob("copies/kd-*/process-0")
    assert max(int(path.stem) for path in own.glob("*.json")) in (8, 10)
    monkeypatch.setattr(local_copies, "_from_checkpoints", None)  # nobody asks for it
    train(tmp_path / "run", **copied(tmp_path))
    monkeypatch.undo()
    assert list((tmp_path / "copies").iterdir()) == []  # it has arrived
    runs.same_bytes(tmp_path / "run", whole)


def test_a_copy_of_a_run_that_was_removed_is_not_taken(killed, whole, tmp_path):
    shutil.copytree(killed / "copies", tmp_path / "copies")
    train(tmp_path / "run", **copied(tmp_path))
    runs.same_bytes(tmp_path / "run", whole)


@pytest.mark.parametrize(
    ("what", "newest"),
    [("copies", "newest 4, then 2, then None"), ("whole_copies", "newest 4 4 4")],
)
def test_processes_take_a_step_that_all_have_or_can_have(what, newest, tmp_path):
    """A part that nobody else has is lost; what another process has too comes from there."""
    for code, out, err in processes.together(what, tmp_path, devices=1):
        assert (code, out) == (0, f"{newest}\n"), err


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"local_copy__steps": 7}, "config.local_copy.steps=7 changes nothing: no copies are kept"),
        ({"local_copy__steps": 0}, "config.local_copy.steps must be 1 or more, got 0"),
        ({"local_copy__folder": "gs://b/x"}, "config.local_copy.folder: gs://b/x is an address"),
    ],
)
def test_what_cannot_be(keys, words, tmp_path, capfd):
    assert runs.train(tmp_path / "run", **keys) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert words in line
