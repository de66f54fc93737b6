"""The commands, end to end."""

import json
import os
import pathlib
import pty
import subprocess
import sys
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import experiments
import faulty
import runs
from kd.cli.main import main
from kd.core.losses import LOSSES
from kd.data import SOURCES
from kd.models import MODELS
from kd.pages.members import members_table
from kd.pages.tables import Table, show
from kd.training import program, writers


def test_list_names_everything_with_a_line_about_it(capfd):
    assert main(["list"]) == 0
    lines = capfd.readouterr().out.splitlines()
    described = {
        line.split()[0] for line in lines if line.startswith("  ") and len(line.split()) > 3
    }
    assert described == {*MODELS, *LOSSES, *SOURCES, *experiments.EXPERIMENTS}
    assert [line for line in lines if not line.startswith(" ")] == [
        "models",
        "losses: logits",
        "losses: features",
        "losses: relations",
        "sources",
        "experiments",
    ]


def test_train_again_is_at_the_end_at_once(tmp_path, monkeypatch, capfd):
    workdir = tmp_path / "run"
    assert runs.train(workdir) == 0
    shown, before = capfd.readouterr().out, runs.hashes(workdir)
    table = program._table
    monkeypatch.setattr(
        program, "_table", lambda *a: pytest.fail("it took a step") if len(a[2]) else table(*a)
    )
    assert runs.train(workdir) == 0
    assert runs.hashes(workdir) == before
    assert capfd.readouterr().out == shown


def cell(text, name):
    """A value of the printed table."""
    return next(line.split()[1] for line in text.splitlines() if line.split()[:1] == [name])


def test_eval_says_what_training_said(capfd):
    assert main(["eval", f"--workdir={runs.finished()}"]) == 0
    shown = capfd.readouterr().out
    (member,) = json.loads((runs.finished() / "evaluation.json").read_text())["members"]
    assert float(cell(shown, "errors")) == member["errors"] == len(member["wrong"])
    for name in ("accuracy", "nll", "ece", "brier"):
        assert float(cell(shown, name)) == pytest.approx(member[name], abs=1e-4)
    assert "agreement" not in shown
    assert main(["eval", f"--workdir={runs.finished()}", "--split=test[:20]"]) == 0
    assert 0 < float(cell(capfd.readouterr().out, "errors")) <= 20


def test_a_sweep_has_a_row_for_each_setting(tmp_path, capfd):
    """The rows are the members' own numbers; seeds of one setting are averaged, settings are
    not.
    """
    population = {"seed": (0, 1, 0, 1), "learning_rate": (0.1, 0.1, 0.001, 0.001)}
    workdir = tmp_path / "run"
    assert runs.train(workdir, population=population) == 0
    trained = capfd.readouterr().out
    assert main(["eval", f"--workdir={workdir}"]) == 0
    shown = capfd.readouterr().out
    assert shown == trained
    errors = [m["errors"] for m in json.loads((workdir / "evaluation.json").read_text())["members"]]
    for point, own in (("learning_rate=0.1", errors[:2]), ("learning_rate=0.001", errors[2:])):
        assert float(cell(shown, point)) == sum(own) / 2
    assert errors[:2] != errors[2:]


@given(st.lists(st.integers(0, 99), min_size=1, max_size=6), st.integers(1, 3))
def test_no_member_is_lost_or_counted_twice(counts, different):
    settings = [f"t={number % different}" for number in range(len(counts))]
    table = members_table("", [{"errors": count} for count in counts], settings)
    each = {row[0]: float(row[1].split()[0]) * int(row[-1]) for row in table.rows}
    assert sum(each.values()) == pytest.approx(sum(counts), abs=0.05 * len(counts) + 1e-9)
    assert sum(int(row[-1]) for row in table.rows) == len(counts)


def test_a_narrow_terminal_loses_no_cell(monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", "30")
    long = Table("title", ["", "a", "b"], [["row", "7" * 50, "8" * 50]])
    show(long)
    shown = capfd.readouterr().out
    assert "7" * 50 in shown
    assert "8" * 50 in shown


def test_eval_with_a_teacher(capfd):
    """A run agrees with itself."""
    assert main(["eval", f"--workdir={runs.finished()}", f"--teacher={runs.finished()}"]) == 0
    shown = capfd.readouterr().out
    assert float(cell(shown, "agreement")) == 1
    assert float(cell(shown, "held_out_kl")) == 0


def reproduce(workdir):
    """The digits experiment, shrunk to a few steps a stage."""
    overrides = {"seeds": (0, 1), "ensemble": 2, "temperatures": (2.0,)}
    overrides["distilled.objective.soft_targets.temperature"] = 4.0
    for name in ("teachers", "baseline", "distilled"):
        run = {
            "total_epochs": 1,
            "eval_epochs": 0.5,
            "student.widths": (8,),
            "data.train": "train[:200]",
        }
        overrides |= {f"{name}.{key}": value for key, value in {**run, "mesh.devices": 1}.items()}
    command = [
        "reproduce",
        "hinton2015-digits",
        "--config=configs/hinton2015_digits.py:quick",
        f"--workdir={workdir}",
    ]
    return main([*command, *[f"--config.{key}={value}" for key, value in overrides.items()]])


def test_reproduce_stopped_continued_and_done(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(runs.ROOT)
    monkeypatch.setattr(writers, "jsonl", writers.jsonl)  # restores it afterwards
    faulty.at_line(2, "SIGTERM")
    assert reproduce(tmp_path) == 128 + 15
    assert not (tmp_path / "results.json").exists()
    monkeypatch.undo()
    monkeypatch.chdir(runs.ROOT)
    capfd.readouterr()

    assert reproduce(tmp_path) == 0
    shown = capfd.readouterr().out.splitlines()
    report = pathlib.Path(shown[-1])
    assert report == tmp_path / "report.html"
    assert report.is_file()
    assert any("Verdict: " in line for line in shown)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [stage["name"] for stage in results["stages"]] == [
        "teachers",
        "baseline",
        "distilled",
        "temperatures",
    ]
    assert {arm: len(arm_results["members"]) for arm, arm_results in results["arms"].items()} == {
        "teachers": 2,
        "ensemble": 1,
        "baseline": 2,
        "distilled": 2,
    }
    assert [row["temperature"] for row in results["temperatures"]] == [2.0, 4.0]
    assert [point["step"] for point in results["curves"]["baseline"]] == [2, 4]
    assert "'--config.seeds=(0, 1)'" in results["command"]  # as one would type it
    assert "data_dir" not in json.dumps(results)

    before = runs.hashes(tmp_path)
    assert reproduce(tmp_path) == 0
    shown = capfd.readouterr().out.splitlines()
    assert sum("done before, skipped" in line for line in shown) == 4
    assert shown[-1] == str(report)
    assert runs.hashes(tmp_path) == before
    assert main(["report", str(tmp_path)]) == 0
    assert capfd.readouterr().out.splitlines() == [str(report)]
    assert runs.hashes(tmp_path) == before


def test_the_version_is_that_of_the_project(capfd):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    declared = tomllib.loads((runs.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert end.value.code == 0
    assert capfd.readouterr().out == f"kd {declared['version']}\n"


def test_a_dry_run_says_who_the_run_will_be_and_leaves_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(runs.kd("train", "--dry_run")) == 0
    shown = capfd.readouterr().out
    owner = json.loads((runs.finished() / "run.json").read_text())
    assert cell(shown, "fingerprint") == owner["fingerprint"]
    assert cell(shown, "steps") == str(runs.lines(runs.finished())[-1]["step"])
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_what_training_refuses(tmp_path, capfd):
    keys = {"student__classes": 3}
    assert main(runs.kd("train", "--dry_run", **keys)) == 2
    dry = capfd.readouterr().err
    assert main(runs.kd("train", f"--workdir={tmp_path / 'run'}", **keys)) == 2
    assert capfd.readouterr().err == dry
    assert dry.count("\n") == 1


def test_whoever_watches_sees_a_first_word(capfd):
    """On a terminal, before anything heavy is there; a file gets nothing but what matters."""
    reader, terminal = pty.openpty()
    command = [sys.executable, "-m", "kd.cli", "eval", "--workdir=absent"]
    process = subprocess.Popen(command, cwd=runs.ROOT, stderr=terminal, env=runs.environment(1))
    assert process.wait() == 2
    os.close(terminal)
    first, second = os.read(reader, 2**16).decode().splitlines()
    os.close(reader)
    assert first == "kd eval: starting"
    assert second.startswith("kd: absent is not a work directory")
    assert main(["eval", "--workdir=absent"]) == 2
    assert capfd.readouterr().err == second + "\n"
