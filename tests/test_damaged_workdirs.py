"""What is damaged in a work directory costs what is damaged and nothing else, and is said."""

import json
import shutil

import pytest

import runs
from kd.cli.main import main
from kd.training import writers


@pytest.fixture
def workdir(tmp_path):
    shutil.copytree(runs.finished(), tmp_path / "run")
    return tmp_path / "run"


def again(workdir, capfd):
    """The same command once more: its exit code and what it says."""
    capfd.readouterr()
    code = runs.train(workdir, checkpoint_epochs=1)
    said = capfd.readouterr()
    return code, said.out + said.err


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    "junk", ["", "{", "[]", "\x00", '{"step": "1"}', '{"step": true}', "9" * 5000]
)
def test_a_damaged_line_of_metrics_costs_that_line(tmp_path, junk, number):
    path, said = tmp_path / "metrics.jsonl", []
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in (2, 4, 6)]
    path.write_text("\n".join([*lines[:number], junk, *lines[number + 1 :]]) + "\n")
    writers.jsonl(path, 6, said.append)
    assert path.read_text().splitlines() == [*lines[:number], *lines[number + 1 :]]
    assert path.with_suffix(".damaged").read_text() == junk + "\n"
    assert len([line for line in said if "1 damaged lines are set aside" in line]) == 1
    said.clear()
    writers.jsonl(path, 6 if number < 2 else 4, said.append)
    assert said == []  # once


def test_a_line_that_was_being_written_is_no_damage(tmp_path):
    path, said = tmp_path / "metrics.jsonl", []
    path.write_text('{"step": 2, "loss": 1.0}\n{"step": 4, "lo')
    writers.jsonl(path, 2, said.append)
    assert said == []
    assert path.read_text() == '{"step": 2, "loss": 1.0}\n'


@pytest.mark.parametrize(("unwritten", "spoken"), [(0, True), (3, True), (4, False)])
def test_lines_that_are_missing_are_said_to_be(tmp_path, unwritten, spoken):
    path, said = tmp_path / "metrics.jsonl", []
    path.write_text('{"step": 2, "loss": 1.0}\n')
    writers.jsonl(path, 6, said.append, unwritten)
    assert [("end at step 2" in line and "step 6 are lost" in line) for line in said] == [
        True
    ] * spoken


def test_a_run_without_its_checkpoints_is_refused_and_nothing_is_lost(workdir, capfd):
    shutil.rmtree(workdir / "checkpoints")
    before = runs.hashes(workdir)
    code, said = again(workdir, capfd)
    assert code == 2
    assert "a run and no checkpoints/ to continue from; restore that folder" in said
    assert runs.hashes(workdir) == before
    (workdir / "metrics.jsonl").unlink()
    (workdir / "evaluation.json").unlink()
    assert again(workdir, capfd)[0] == 0
    runs.same_bytes(workdir, runs.finished())


def test_a_run_without_a_whole_checkpoint_says_that_it_starts_again(workdir, capfd):
    for path in (workdir / "checkpoints" / "checksums").iterdir():
        path.unlink()
    code, said = again(workdir, capfd)
    assert code == 0
    assert "no whole checkpoint" in said
    assert "starting again at step 0" in said
    runs.same_bytes(workdir, runs.finished())


@pytest.mark.parametrize("damage", ["unlinked", "cut", "a bit", "a folder"])
def test_damaged_checksums_never_delete_weights(workdir, damage, capfd):
    """Each checkpoint that could be whole is kept, under another name."""
    steps = workdir / "checkpoints" / "steps"
    weights = {path.name: runs.hashes(path) for path in steps.iterdir()}
    for path in (workdir / "checkpoints" / "checksums").iterdir():
        content = path.read_bytes()
        path.unlink()
        if damage == "cut":
            path.write_bytes(content[:9])
        elif damage == "a bit":
            path.write_bytes(content.replace(b"1", b"3"))
        elif damage == "a folder":
            path.mkdir()
    code, said = again(workdir, capfd)
    assert code == (2 if damage == "a folder" else 0)
    aside = workdir / "checkpoints" / "set-aside"
    kept = {path.name.partition(".")[0]: runs.hashes(path) for path in aside.iterdir()}
    assert kept == weights
    assert all(str(path) in said for path in aside.iterdir())


EDITS = {
    "num_classes": 12,
    "spec": {},
    "identity": {},
    "fingerprint": "000000000000",
}


@pytest.mark.parametrize("key", EDITS)
@pytest.mark.parametrize("command", ["train", "eval", "teacher"])
def test_an_edited_run_json_is_refused(workdir, key, command, capfd, tmp_path):
    path = workdir / "run.json"
    runs.edit(path, **{key: EDITS[key]})
    before = runs.hashes(workdir)
    words = {
        "train": runs.kd("train", f"--workdir={workdir}"),
        "eval": ["eval", f"--workdir={workdir}"],
        "teacher": runs.kd(
            "train", f"--workdir={tmp_path / 'b'}", arg="distilled", teacher__workdir=workdir
        ),
    }
    capfd.readouterr()
    assert main([str(word) for word in words[command]]) == 2
    assert capfd.readouterr().err.startswith("kd: ")
    assert runs.hashes(workdir) == before


def test_an_edited_spec_is_no_other_run_under_the_same_name(workdir, capfd):
    path = workdir / "run.json"
    owner = json.loads(path.read_text())
    owner["spec"]["student"]["widths"] = [4]
    runs.edit(path, **owner)
    assert main(["eval", f"--workdir={workdir}"]) == 2
    assert "student.widths is [8] in its identity and [4] in its spec" in capfd.readouterr().err
    owner["spec"]["student"]["widths"] = [8]
    owner["spec"]["log_steps"] = 1  # is no part of who the run is
    runs.edit(path, **owner)
    assert main(["eval", f"--workdir={workdir}"]) == 0
