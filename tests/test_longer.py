"""A run that is made longer is the run of that length, byte for byte; its record is kept."""

import json

import pytest

import kd
import runs
from kd.lineage import Shorter

# log_steps, eval_epochs and checkpoint_epochs (3 steps an epoch), from 6 or so steps to 11 or so
CASES = {
    "ends at a stop": (6, 11, {"log_steps": 3}),
    "ends within a line": (7, 12, {"log_steps": 4}),
    "within its first line": (3, 10, {"log_steps": 50}),
    "evaluated where it ends": (6, 9, {"log_steps": 4, "eval_epochs": 2, "checkpoint_epochs": 1}),
    "evaluated elsewhere": (7, 10, {"log_steps": 4, "eval_epochs": 1, "checkpoint_epochs": 1}),
    "early stopping": (
        6,
        9,
        {"log_steps": 4, "eval_epochs": 1, "early_stopping": "train[200:260]"},
    ),
    "a population": (
        5,
        8,
        {"log_steps": 3, "population__seed": "(0,1)", "student__hidden_dropout": 0.5},
    ),
    "streamed": (7, 12, {"log_steps": 4, "data__stream": "true"}),
    "an average, adam": (5, 8, {"log_steps": 2, "ema": 0.9, "optim__name": "adam"}),
}


@pytest.mark.parametrize("name", CASES)
def test_made_longer_is_that_long_from_its_start(name, tmp_path, capsys):
    short, long, keys = CASES[name]
    assert runs.train(tmp_path / "whole", total_steps=long, **keys) == 0
    assert runs.train(tmp_path / "run", total_steps=short, **keys) == 0
    record = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    capsys.readouterr()
    assert runs.train(tmp_path / "run", total_steps=long, **keys) == 0
    said = capsys.readouterr().err
    assert f"continuing after step {short}" in said
    assert f"it was {short} steps long and is made {long}" in said
    assert "lost" not in said
    runs.same_bytes(tmp_path / "run", tmp_path / "whole")
    kept = json.loads((tmp_path / "run" / f"evaluation-{short}.json").read_text())
    assert kept == record
    run, whole = kd.load(tmp_path / "run"), kd.load(tmp_path / "whole")
    assert run.fingerprint == whole.fingerprint
    assert [shorter.steps for shorter in run.lineage.before] == [short]


def test_twice_longer_and_in_epochs(tmp_path):
    keys = {"total_steps": "none", "log_steps": 4}
    assert runs.train(tmp_path / "whole", total_epochs=5, **keys) == 0
    for epochs in (1, 2.34, 5):
        assert runs.train(tmp_path / "run", total_epochs=epochs, **keys) == 0
    runs.same_bytes(tmp_path / "run", tmp_path / "whole")
    before = kd.load(tmp_path / "run").lineage.before
    assert [shorter.steps for shorter in before] == [3, 7]
    assert all(isinstance(shorter, Shorter) and shorter.fingerprint for shorter in before)
    for step in (3, 7):
        assert (tmp_path / "run" / f"evaluation-{step}.json").is_file()


def test_a_run_that_has_not_arrived_is_made_longer_too(tmp_path):
    keys = {"log_steps": 3, "checkpoint_epochs": 1}
    assert runs.train(tmp_path / "whole", total_steps=11, **keys) == 0
    assert runs.train(tmp_path / "run", total_steps=8, **keys) == 0
    run = tmp_path / "run"
    runs.removed(run / "checkpoints" / "steps" / "8")
    (run / "checkpoints" / "checksums" / "8.json").unlink()
    (run / "evaluation.json").unlink()
    assert runs.train(run, total_steps=11, **keys) == 0
    runs.same_bytes(run, tmp_path / "whole")
    assert not (run / "evaluation-8.json").exists()


def test_stopped_between_the_two_lengths_it_goes_on(tmp_path):
    """Killed as soon as it was claimed: the next start knows no more than the folder says."""
    keys = {"log_steps": 4}
    assert runs.train(tmp_path / "whole", total_steps=12, **keys) == 0
    assert runs.train(tmp_path / "run", total_steps=7, **keys) == 0
    from kd.runs import run as kd_run

    def killed(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kd_run, "_train_in", killed)
        assert runs.train(tmp_path / "run", total_steps=12, **keys) == 130
    assert runs.train(tmp_path / "run", total_steps=12, **keys) == 0
    runs.same_bytes(tmp_path / "run", tmp_path / "whole")


REFUSED = {
    "a schedule of the rate": (
        {"optim__learning_rate_schedule__shape": "linear"},
        "optim.learning_rate_schedule=linear depends on the length of the run",
    ),
    "a warm-up": (
        {"optim__learning_rate_schedule__warmup_percent": 50.0},
        "optim.learning_rate_schedule=constant with a warm-up depends on the length",
    ),
    "a schedule of a weight": (
        {"objective__hard__weight_schedule": "{'shape': 'cosine'}"},
        "objective.hard.weight_schedule=cosine depends on the length",
    ),
    "early stopping that has looked": (
        {"eval_epochs": 1, "early_stopping": "train[200:260]"},
        "early stopping has looked at its last step, 7, and a longer run looks every 3 steps",
    ),
    "patience": (
        {"eval_epochs": 1, "early_stopping": "train[200:260]", "patience": 50},
        "patience=50 may end a run before its last step",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_longer_run_would_have_done_otherwise_is_refused(name, tmp_path, capsys):
    keys, words = REFUSED[name]
    assert runs.train(tmp_path / "run", total_steps=7, **keys) == 0
    before = runs.hashes(tmp_path / "run")
    capsys.readouterr()
    assert runs.train(tmp_path / "run", total_steps=12, **keys) == 2
    assert words in capsys.readouterr().err
    assert runs.hashes(tmp_path / "run") == before
    assert runs.train(tmp_path / "run", total_steps=7, **keys) == 0


def test_no_run_is_made_shorter_or_another(tmp_path, capsys):
    assert runs.train(tmp_path / "run", total_steps=6) == 0
    before = runs.hashes(tmp_path / "run")
    capsys.readouterr()
    assert runs.train(tmp_path / "run", total_steps=5) == 2
    assert "it is 6 steps long and this config asks for 5" in capsys.readouterr().err
    assert runs.train(tmp_path / "run", total_steps="none", total_epochs=2) == 2
    assert "this config asks for 6" in capsys.readouterr().err
    assert runs.train(tmp_path / "run", total_steps=9, seed=1) == 2
    assert "belongs to another run: seed is 0" in capsys.readouterr().err
    assert runs.hashes(tmp_path / "run") == before


def test_a_student_of_a_run_that_was_made_longer_has_another_teacher(tmp_path, capsys):
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    keys = {"arg": "distilled", "teacher__workdir": teacher}
    assert runs.train(teacher, total_steps=6) == 0
    assert runs.train(student, **keys) == 0
    before = runs.hashes(student)
    assert runs.train(teacher, total_steps=9) == 0
    capsys.readouterr()
    assert runs.train(student, **keys) == 2
    said = capsys.readouterr().err
    assert "belongs to another run: teacher.workdir is" in said
    assert runs.main(["eval", f"--workdir={student}"]) == 2
    assert "another teacher" in capsys.readouterr().err
    assert runs.main(["eval", f"--workdir={student}", f"--teacher={teacher}"]) == 0
    assert runs.hashes(student) == before
    assert runs.train(tmp_path / "again", **keys) == 0
