"""A finished run is read as it was recorded, or refused by the difference; its record stays."""

import importlib
import json
import shutil
import sys

import numpy as np
import pytest

import kd
import runs
from kd.cli.main import main
from kd.lineage import Lineage, despite, recorded
from kd.runs import run as kd_run
from kd.runs.load import load_finished
from kd.runs.workdir import find
from kd.teachers.make import digest

CODE = {
    "mymodels.py": """
import flax.linen as nn
import layers

class Net(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes)(layers.seen(x)) * 1.0

def net(classes: int):
    return Net(classes)
""",
    "layers.py": """
def seen(x):
    return x.reshape(len(x), -1) + 0.0
""",
}
EDITS = {  # each makes another model of the same weights
    "mymodels.py": ("* 1.0", "* -1.0"),
    "layers.py": ("+ 0.0", "[..., ::-1]"),
}


def wipe(module):
    sys.modules.pop(module, None)
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with the user's modules, data, a teacher of them and its student, both finished."""
    folder = tmp_path_factory.mktemp("world")
    random = np.random.default_rng(0)
    arrays = {
        "train_inputs": random.normal(size=(80, 4, 4)).astype(np.float32),
        "test_inputs": random.normal(size=(60, 4, 4)).astype(np.float32),
        "train_labels": np.arange(80) % 5,
        "test_labels": np.arange(60) % 5,
    }
    np.savez(folder / "data.npz", **arrays)
    for name, text in CODE.items():
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.chdir(folder)
        assert train("teacher") == 0
        assert train("student") == 0
    yield folder
    for name in CODE:
        wipe(name.removesuffix(".py"))


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A copy of that folder, as the present world."""
    shutil.copytree(world, tmp_path / "here")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("KD_ALLOW_CODE", "mymodels")
    for name in CODE:
        wipe(name.removesuffix(".py"))
    return tmp_path / "here"


def train(workdir, *arguments, **keys):
    run = {"data__source": "npz:data.npz", "data__train": "train", "data__eval": "test"}
    taught = {} if workdir == "teacher" else {"arg": "distilled", "teacher__workdir": "teacher"}
    return runs.train(
        workdir, *arguments, **{**run, **taught, "student__name": "mymodels:net", **keys}
    )


def edit(folder, name):
    old, new = EDITS[name]
    path = folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    wipe(name.removesuffix(".py"))
    wipe("mymodels")


def relabel(folder, key="test_labels"):
    with np.load(folder / "data.npz") as stored:
        arrays = dict(stored)
    np.savez(folder / "data.npz", **{**arrays, key: (arrays[key] + 1) % 5})


READERS = {
    "eval": lambda *more: main(["eval", "--workdir=student", *more]),
    "audit": lambda *more: main(["audit", "teacher", "student", "--out=page", *more]),
    "teacher": lambda *more: train("pupil", *more),
    "train again": lambda *more: train("teacher", *more),
}


def records(folder):
    return {name: runs.hashes(folder / name) for name in ("teacher", "student")}


@pytest.mark.parametrize("module", EDITS)
@pytest.mark.parametrize("reader", READERS)
def test_changed_code_is_refused_by_name(here, module, reader, capfd):
    edit(here, module)
    before = records(here)
    assert READERS[reader]() == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("kd: ")
    assert module.removesuffix(".py") in line
    assert records(here) == before
    assert not (here / "page").exists()


@pytest.mark.parametrize("reader", READERS)
def test_who_reads_despite_changes_says_so(here, reader, capfd):
    edit(here, "layers.py")
    before = records(here)
    assert READERS[reader]() == 2
    assert "add --despite_changes" in capfd.readouterr().err
    assert READERS[reader]("--despite_changes") == 0
    title = capfd.readouterr().out.splitlines()[0]
    assert "DESPITE CHANGES: module layers has changed since (was " in title
    assert records(here) == before
    if reader == "audit":
        assert "module layers has changed since" in (here / "page" / "audit.html").read_text()
        audit = json.loads((here / "page" / "audit.json").read_text())
        assert len(audit["despite_changes"]) == 1
        assert "-despite-" in audit["runs"]["teacher"]["fingerprint"]


def test_what_learns_from_a_changed_teacher_is_another_run_and_keeps_saying_so(here, capfd):
    edit(here, "layers.py")
    assert train("pupil", "--despite_changes") == 0
    shown = capfd.readouterr().out
    assert train("pupil", "--despite_changes") == 0
    assert capfd.readouterr().out == shown
    taught = find("pupil").lineage.teacher
    assert taught.changes == tuple(find("pupil").evaluation["despite_changes"])
    assert taught.fingerprint == despite(find("teacher").fingerprint, taught.changes)
    assert recorded(taught.fingerprint) == find("teacher").fingerprint
    assert train("student", "--despite_changes") == 2  # it learned from the teacher as it was
    assert "teacher.workdir is" in capfd.readouterr().err


def test_the_library_refuses_too(here):
    assert kd.load_trained("teacher").changes == ()
    edit(here, "mymodels.py")
    with pytest.raises(kd.KdError, match="other code: module mymodels has changed since"):
        kd.load_trained("teacher")
    run = kd.load_trained("teacher", despite_changes=True)
    assert len(run.changes) == 1
    assert run.fingerprint == despite(find("teacher").fingerprint, run.changes)


@pytest.mark.parametrize("change", ["a comment", "back"])
def test_what_says_the_same_is_read(here, change, capfd):
    path = here / "layers.py"
    if change == "back":
        text = path.read_text()
        edit(here, "layers.py")
        path.write_text(text)
    else:
        path.write_text(f"# {change}\n{path.read_text()}")
    assert main(["eval", "--workdir=teacher"]) == 0
    [member] = find("teacher").evaluation["members"]
    assert f" {member['errors']}.0 " in capfd.readouterr().out


def test_a_module_that_is_gone_is_named(here, capfd):
    (here / "layers.py").unlink()
    wipe("layers")
    assert main(["eval", "--workdir=teacher"]) == 2
    assert "no module 'layers'; is its folder on PYTHONPATH?" in capfd.readouterr().err


@pytest.mark.parametrize("reader", ["eval", "audit", "train again"])
def test_other_labels_are_refused_by_name(here, reader, capfd):
    relabel(here)
    before = records(here)
    assert READERS[reader]() == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "was recorded with other data: split test has changed since (was " in line
    assert READERS[reader]("--despite_changes") == 0
    assert "DESPITE CHANGES: split test has changed" in capfd.readouterr().out.splitlines()[0]
    assert records(here) == before


@pytest.mark.parametrize("split", ["train", "test[:20]"])
def test_every_split_that_was_looked_at_is_known(here, split, capfd):
    look = ["eval", "--workdir=student", f"--split={split}"]
    assert main(look) == 0
    noted, shown = find("student").splits, capfd.readouterr().out
    assert main(look) == 0
    assert (find("student").splits, capfd.readouterr().out) == (noted, shown)
    relabel(here, f"{split[:5].rstrip('[')}_labels")
    assert main(look) == 2
    assert f"split {split} has changed" in capfd.readouterr().err
    assert find("student").splits == noted


def test_a_split_that_an_audit_looks_at_is_known_of_both(here, capfd):
    assert main(["audit", "teacher", "student", "--split=test[:20]", "--out=page"]) == 0
    noted = find("student").splits["test[:20]"]
    assert find("teacher").splits["test[:20]"] == noted
    relabel(here)
    capfd.readouterr()
    assert main(["eval", "--workdir=teacher", "--split=test[:20]"]) == 2
    assert "split test[:20] has changed" in capfd.readouterr().err


def test_what_was_trained_on_is_known_before_anybody_looks(here, capfd):
    relabel(here, "train_labels")
    assert main(["eval", "--workdir=student", "--split=train"]) == 2
    assert main(["audit", "teacher", "student", "--missing_class=1", "--out=page"]) == 2
    assert capfd.readouterr().err.count("split train has changed") == 2


def test_a_split_that_stops_early_is_known(here, capfd):
    stopped = {"early_stopping": "train[50:]", "data__train": "train[:50]", "eval_epochs": 1}
    assert train("stopped", "--despite_changes", **stopped) == 0
    assert set(find("stopped").splits) == {"train[:50]", "test", "train[50:]"}
    capfd.readouterr()


def test_a_finished_record_is_never_overwritten(here, monkeypatch, capfd):
    record = here / "teacher" / "evaluation.json"
    members = json.loads(record.read_text().replace('"errors": ', '"errors": 1'))["members"]
    runs.edit(record, members=members)
    before = record.read_text()
    monkeypatch.setattr(kd_run, "evaluation", lambda *_: pytest.fail("it was evaluated anew"))
    assert train("teacher") == 0
    assert record.read_text() == before
    [member] = find("teacher").evaluation["members"]
    assert f" {member['errors']}.0 " in capfd.readouterr().out
    last = max((here / "teacher" / "checkpoints" / "checksums").glob("*.json"))
    last.write_text("{}")  # what is missing is trained again, and the record stays
    assert train("teacher") == 0
    assert record.read_text() == before
    assert load_finished("teacher").params


def test_a_record_without_members_is_one_line(here, capfd):
    (here / "teacher" / "evaluation.json").write_text('{"members": 3}')
    for reader in ("train again", "audit", "teacher"):
        assert READERS[reader]() == 2
        assert "evaluation.json is damaged" in capfd.readouterr().err


def test_lineage_says_where_a_run_comes_from(here):
    lineage = find("student").lineage
    assert set(lineage.code) == {"mymodels", "layers"}
    assert set(lineage.stack) == {"python", "jax", "flax", "optax", "numpy", "backend"}
    assert lineage.stack["backend"] == "cpu"
    assert lineage.teacher.source == f"run:{lineage.teacher.source[4:]}"
    assert lineage.teacher.fingerprint == find("teacher").fingerprint
    assert lineage.teacher.digest == digest(load_finished("teacher").teacher().variables)
    assert (lineage.teacher.licence, lineage.teacher.changes) == ("own", ())
    assert lineage.init is None
    [data] = lineage.data
    assert (data.source, data.licence) == ("npz:data.npz", "own")
    assert data.train == find("student").owner["identity"]["data_fingerprint"]
    assert data.splits == {
        split: kd.load("npz:data.npz", split).fingerprint for split in ("train", "test")
    }
    assert Lineage.from_json(json.loads(json.dumps(lineage.to_json()))) == lineage


def test_licences_are_recorded_and_make_no_other_run(here):
    licences = {"teacher__licence": "CC-BY-4.0", "data__licence": "CC0-1.0"}
    assert train("licensed", **licences) == 0
    lineage = find("licensed").lineage
    assert (lineage.teacher.licence, lineage.data[0].licence) == ("CC-BY-4.0", "CC0-1.0")
    assert find("licensed").fingerprint == find("student").fingerprint


def test_a_run_that_did_not_say_is_read(here):
    runs.edit(here / "teacher" / "run.json", lineage=None)
    edit(here, "layers.py")
    assert find("teacher").lineage is None
    assert main(["eval", "--workdir=teacher"]) == 0
    relabel(here)
    assert main(["eval", "--workdir=teacher"]) == 2  # it has been looked at


@pytest.mark.parametrize("damage", ["3", '{"data": 3}', '{"data": [], "code": 1}', "[]"])
def test_a_damaged_lineage_is_one_line(here, damage, capfd):
    runs.edit(here / "teacher" / "run.json", lineage=json.loads(damage))
    assert main(["eval", "--workdir=teacher"]) == 2
    assert "run.json is damaged: its lineage" in capfd.readouterr().err


@pytest.mark.parametrize("line", ["", "{", "3", "[1, 2]", '["a", "b", 3]', '["a", ["b"], "c"]'])
def test_a_damaged_note_is_one_line(here, line, capfd):
    (here / "teacher" / "splits.jsonl").write_text(f"{line}\n")
    assert main(["eval", "--workdir=teacher", "--split=test[:9]"]) == 2
    assert "splits.jsonl is damaged" in capfd.readouterr().err
