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
from kd.system.beside import Beside
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
        assert runs.train(bucket, **KEYS) == 2
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
def test_a_bucket_that_cannot_be_used_is_one_line(scheme, refused, monkeypatch, tmp_path):
    stores.patient(monkeypatch, 1.0)
    bucket = stores.fresh(scheme)
    assert runs.train(bucket / "run") == 0
    command = runs.kd("train", f"--workdir={bucket / 'run'}")
    nowhere = f"{scheme}://kd-there-is-none/run"
    refused(runs.kd("train", f"--workdir={nowhere}"), "there is no bucket", "--workdir")
    for reading in (
        ["eval", f"--workdir={nowhere}"],
        ["report", nowhere],
        ["audit", nowhere, bucket / "run"],
        ["export", nowhere, bucket / "model"],
        ["export", f"hf:{nowhere}", bucket / "model"],
        ["reproduce", "hinton2015-digits", f"--workdir={nowhere}"],
        runs.kd("train", f"--workdir={tmp_path}", data__source=f"npz:{nowhere}/x.npz"),
        runs.kd(
            "train", f"--workdir={tmp_path}", arg="distilled", teacher__source=f"run:{nowhere}"
        ),
    ):
        refused(reading, f"{scheme}://kd-there-is-none", "there is no bucket")
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
    refused(["train", f"--workdir={bucket}", f"--config={bucket}/x.py"], "of this machine")


def test_sinks_and_profile_of_a_run_in_a_bucket(tmp_path, monkeypatch, capfd):
    """They write beside it, are copied there, and change no byte of it."""
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path))
    bucket = stores.fresh("gs") / "run"
    looks = ["--sinks=tensorboard,prometheus", "--profile=1:2"]
    assert runs.train(bucket, *looks, checkpoint_epochs=1) == 0
    runs.same_bytes(bucket, runs.finished())
    (beside,) = tmp_path.glob("beside/*/run")
    here = sorted(str(path.relative_to(beside)) for path in beside.rglob("*") if path.is_file())
    assert {name.split("/")[0] for name in here} == {"tensorboard", "prometheus", "profile"}
    for name in here:
        assert (bucket / name).read_bytes() == (beside / name).read_bytes()
    said = f"train: {len(here)} files were copied from {beside} to {bucket}"
    assert said in capfd.readouterr().err
    (bucket / here[0]).unlink()
    kept = Beside(bucket)
    assert kept.send() == 0  # it was sent
    (beside / here[0]).write_bytes(b"longer")
    assert kept.send() == 1
    assert (bucket / here[0]).read_bytes() == b"longer"


def test_a_sink_goes_on_with_the_newest_file(tmp_path, monkeypatch):
    """Whichever machine wrote it."""
    bucket = stores.fresh("gs") / "run"
    for turn in range(3):  # one machine, another, the first again
        monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / str(turn % 2)))
        beside = Beside(bucket)
        beside.make()
        beside.bring("mlflow.db")
        file = beside.path / "mlflow.db"
        file.write_text((file.read_text() if file.exists() else "") + str(turn))
        if turn == 2:
            beside.bring("mlflow.db")  # what was not sent yet is newer
        assert beside.send() == 1
    assert (bucket / "mlflow.db").read_text("utf-8") == "012"


def test_dashboards_that_cannot_be_copied_stop_no_run(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path))
    stores.patient(monkeypatch, 0.4)
    bucket = stores.fresh("gs") / "run"
    with stores.refusing("gs", lambda r: 403 if "kd.prom" in str(r.query) else None):
        assert runs.train(bucket, "--sinks=prometheus") == 0
    said = capfd.readouterr().err
    assert "train: what sinks and profile write stays in" in said
    assert "may not write there (403)" in said
    assert (bucket / "evaluation.json").is_file()


def test_metrics_are_parts_in_a_bucket():
    bucket = stores.fresh("gs") / "run"
    assert runs.train(bucket) == 0
    parts = [path.name for path in (bucket / "metrics.jsonl").rglob("*")]
    assert 1 < len(parts) <= 1 + len(runs.lines(bucket))  # one is empty: a run begins with it
