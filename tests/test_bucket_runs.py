"""A run in a bucket is the run on a disk, byte for byte; what a bucket refuses is one line."""

import pathlib
import socket

import numpy as np
import pytest

import kd
import runs
import stores
from kd.cli.main import main
from kd.runs.workdir import find
from kd.storage import claimed
from kd.training import loop

BOTH = pytest.mark.parametrize("scheme", stores.SCHEMES)
KEYS = {"checkpoint_epochs": 1, "eval_epochs": 1}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setenv("KD_LEASE_SECONDS", "8")


@pytest.fixture
def refused(capfd):
    """One line, exit code 2."""

    def check(command, *words):
        capfd.readouterr()
        assert main([str(word) for word in command]) == 2
        out, err = capfd.readouterr()
        assert (out, len(err.splitlines())) == ("", 1)
        assert err.startswith("kd: ")
        for word in words:
            assert word in err
        return err

    return check


@BOTH
def test_a_run_in_a_bucket_is_the_run_on_a_disk(scheme, tmp_path):
    bucket = stores.fresh(scheme) / "run"
    for workdir in (bucket, tmp_path / "run"):
        teacher = f"--config.teacher.source=run:{runs.finished()}"
        assert runs.train(workdir, teacher, arg="distilled", **KEYS) == 0
    runs.same_bytes(bucket, tmp_path / "run")
    assert find(bucket).fingerprint == find(tmp_path / "run").fingerprint
    assert runs.train(bucket, teacher, arg="distilled", **KEYS) == 0  # it has arrived
    runs.same_bytes(bucket, tmp_path / "run")


class Stop(Exception):
    pass


@pytest.mark.parametrize(("scheme", "at"), [("gs", 1), ("s3", 2)])
def test_a_run_that_ends_anywhere_goes_on_to_the_same_bytes(scheme, at, tmp_path, monkeypatch):
    bucket, advances = stores.fresh(scheme) / "run", loop._Training._advance

    def stop(training):
        if training.step >= 2 * at:
            raise Stop
        advances(training)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Training, "_advance", stop)
        with pytest.raises(Stop):
            runs.train(bucket, **KEYS)
    for workdir in (bucket, tmp_path / "run"):
        assert runs.train(workdir, **KEYS) == 0
    runs.same_bytes(bucket, tmp_path / "run")


def test_a_longer_run_is_continued_in_a_bucket(tmp_path):
    bucket = stores.fresh("s3") / "run"
    for steps in (5, 9):
        for workdir in (bucket, tmp_path / "run"):
            assert runs.train(workdir, total_steps=steps, **KEYS) == 0
    runs.same_bytes(bucket, tmp_path / "run")
    assert (bucket / "evaluation-5.json").is_file()


def test_all_that_reads_a_run_reads_it_in_a_bucket(tmp_path, capfd):
    """Teacher, first weights, evaluation, audit, export and what was exported."""
    bucket = stores.fresh("gs")
    teacher, student = bucket / "teacher", bucket / "student"
    assert runs.train(teacher, **KEYS) == 0
    keys = {"teacher__source": f"run:{teacher}", "student__init": f"run:{teacher}"}
    assert runs.train(student, arg="distilled", **keys) == 0
    assert runs.train(tmp_path / "student", arg="distilled", **keys) == 0
    runs.same_bytes(student, tmp_path / "student")
    capfd.readouterr()
    said = []
    for run in (student, tmp_path / "student"):
        assert main(["eval", f"--workdir={run}"]) == 0
        said.append(capfd.readouterr().out.replace(str(run), "RUN"))
    assert said[0] == said[1]
    assert main(["audit", str(teacher), str(student)]) == 0
    assert main(["audit", str(teacher), str(student), f"--out={tmp_path / 'audit'}"]) == 0
    html = (student / "audit" / "audit.html").read_text("utf-8")
    assert html == (tmp_path / "audit" / "audit.html").read_text("utf-8")
    assert main(["export", str(student), str(bucket / "model"), "--format=safetensors"]) == 0
    assert main(["export", str(student), str(tmp_path / "model"), "--format=safetensors"]) == 0
    for name in ("config.json", "model.safetensors"):
        assert (bucket / "model" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()
    assert kd.load(str(bucket / "model")).fingerprint == find(student).fingerprint


@BOTH
def test_data_and_tables_of_answers_are_read_in_a_bucket(scheme, tmp_path, frames_dir):
    bucket, answers = stores.fresh(scheme), tmp_path / "answers.npy"
    np.save(answers, np.random.default_rng(0).normal(size=(120, 10)).astype(np.float32))
    (bucket / "answers.npy").write_bytes(answers.read_bytes())
    for place in (bucket, tmp_path):
        table = f"table:{place / 'answers.npy'}"
        keys = {"teacher__source": table, "teacher__kind": "logits"}
        assert runs.train(tmp_path / place.name / "run", arg="distilled", **keys) == 0
    runs.same_bytes(tmp_path / bucket.name / "run", tmp_path / tmp_path.name / "run")
    frames = pathlib.Path(frames_dir, "frames.npz")
    (bucket / "frames.npz").write_bytes(frames.read_bytes())
    here = kd.data.load("npz:frames.npz", "test", frames_dir).fingerprint
    assert kd.data.load("npz:frames.npz", "test", str(bucket)).fingerprint == here
    assert kd.data.load(f"npz:{bucket}/frames.npz", "test").fingerprint == here


@BOTH
def test_a_bucket_that_cannot_be_written_is_one_line(scheme, refused, monkeypatch):
    stores.patient(monkeypatch, 1.0)
    bucket = stores.fresh(scheme)
    assert runs.train(bucket / "run") == 0
    command = runs.kd("train", f"--workdir={bucket / 'run'}")
    nowhere = f"{scheme}://kd-there-is-none/run"
    refused(runs.kd("train", f"--workdir={nowhere}"), "there is no bucket", "--workdir")
    refused(["eval", f"--workdir={nowhere}"], nowhere)  # Google says that nothing is there
    for status, words in ((403, "may not write there (403)"), (401, "no credentials for it")):
        with stores.refusing(scheme, lambda r, status=status: status if r.writes else None):
            refused(command, f"cannot write work directory {bucket / 'run'}", words)
            if status == 403:
                assert main(["eval", f"--workdir={bucket / 'run'}"]) == 0
    with stores.refusing(scheme, lambda _: 429):
        refused(command, "it answers 429", "start again")


@BOTH
def test_a_lease_that_is_held_elsewhere_is_one_line(scheme, refused):
    bucket = stores.fresh(scheme) / "run"
    with claimed(bucket):
        said = refused(runs.kd("train", f"--workdir={bucket}"), "another process is training in")
    assert f"on {socket.gethostname()}, since 2" in said


def test_what_needs_files_of_this_machine_says_so(refused):
    bucket = stores.fresh("gs")
    command = runs.kd("train", f"--workdir={bucket / 'run'}")
    said = "the sink tensorboard writes its files"
    refused([*command, "--sinks=tensorboard"], said, "leave it out")
    refused([*command, "--profile=0:1"], "--profile writes its files", "leave it out")
    refused(["train", f"--workdir={bucket}", f"--config={bucket}/x.py"], "of this machine")


def test_metrics_are_parts_in_a_bucket():
    bucket = stores.fresh("gs") / "run"
    assert runs.train(bucket) == 0
    parts = [path.name for path in (bucket / "metrics.jsonl").rglob("*")]
    assert 1 < len(parts) <= 1 + len(runs.lines(bucket))  # one is empty: a run begins with it
