"""Experiments that would stumble hours later, or measure something else; pages of no results."""

import json

import pytest

import runs
from kd.runs import stages


def test_reports(tmp_path, refused):
    command = ["report", tmp_path]
    refused(command, "has no results.json", "kd reproduce")
    report = {"report": "experiments.hinton2015.digits.page:page"}
    for text, *words in [
        ('{"arms": ', "results.json is damaged"),
        ("[]", "results.json is damaged"),
        ("{}", "'report'"),
        ('{"report": 3}', "'report'"),
        ('{"report": "experiments.hinton2015.page:page", "parts": {}}', "no part", "kd reproduce"),
        (json.dumps({**report, "arms": 3}), "is not what", "kd reproduce"),
        (json.dumps(report), "lacks", "'arms'", "kd reproduce"),
        ('{"report": "experiments.nowhere:page"}', "'experiments.nowhere:page'", "--allow_code"),
        ('{"report": "page"}', "'page'", "package.module:name"),
    ]:
        (tmp_path / "results.json").write_text(text)
        refused(command, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_reproduce(tmp_path, refused):
    command = ["reproduce", "hinton2015-digits", f"--workdir={tmp_path / 'run'}"]
    refused(
        ["reproduce", "hinton2015-digts"],
        "experiment 'hinton2015-digts'",
        "did you mean 'hinton2015-digits'",
    )
    refused(
        [*command, "--config=configs/hinton2015_digits.py:quik"], "'quik'", "did you mean 'quick'"
    )
    refused([*command, "--config.sedes=(0, 1)"], "'sedes'", "did you mean 'seeds'")
    refused([*command, "--config.teachers.optim.learning_rat=1.0"], "did you mean 'learning_rate'")
    refused([*command, "--config.seeds=(0,)"], "config.seeds", "at least 2")
    refused(
        [*command, "--config.distilled.total_epochs=1"],
        "config.baseline and config.distilled",
        "equally long",
    )


LATER = {  # what a later stage of hours would stumble over
    "omitted.data.classes=(3, 12)": (
        "stage 'omitted'",
        "data.classes must name classes that the split holds",
        "(3, 12)",
    ),
    "omitted.data.classes=()": ("stage 'omitted'", "data.classes must name classes"),
    "only.data.classes=none": ("config.only.data.classes must leave out a class", "None"),
    "only.data.classes=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)": (
        "config.only.data.classes must leave out a class",
    ),
    "small_hard.data.train=train[:0%]": (
        "stage 'small-hard'",
        "'train[:0%]' is empty",
        "widen the slice",
    ),
    "small_hard.data.batch_size=121": (
        "stage 'small-hard'",
        "between 1 and the 120 examples",
        "121",
    ),
    "small_hard.early_stopping=nosuch": ("stage 'small-hard'", "'nosuch'", "train"),
    "small_hard.eval_epochs=none": (
        "config.small_hard",
        "config.early_stopping looks at",
        "eval_epochs",
    ),
    "omitted.data.jitter_pixels=1": ("stage 'omitted'", "config.teacher.precompute"),
    "sweep.student.classes=12": (
        "stage 'width-8'",
        "student answers with 12 classes",
        "teacher with 10",
    ),
    "teachers.student.widths=(0,)": ("stage 'teachers'", "(0,)"),
    "temperatures=(0.0, 1.0)": ("stage 'width-8'", "objective.soft_targets.temperature", "0.0"),
    "seeds=(0, 0, 1)": ("config.seeds", "each value once"),
    "temperatures=(1.0, 1.0)": ("config.temperatures", "each value once"),
    "bands={'teachers': (80.0, 60.0)}": ("config.bands.teachers", "swap them"),
    "distilled.objective.soft_targets=none": ("config.distilled.objective", "soft_targets"),
    "small_hard.early_stopping=test[:100]": (
        "config.small_hard.early_stopping",
        "apart from the test examples",
    ),
    "small_hard.early_stopping=train[100:300]": (
        "config.small_hard.early_stopping",
        "shares examples",
        "train[:10%]",
    ),
    "distilled.early_stopping=test[:100]": (
        "config.distilled.early_stopping",
        "apart from the test examples",
    ),
    "ensemble=1": ("config.ensemble", "as many teachers"),
    "widths=()": ("config.widths",),
    "only.population={'teacher': (0, 9)}": ("config.only.population", "set by the experiment"),
    "bands={'teacher': (60.0, 80.0)}": ("config.bands", "'teacher'", "did you mean 'teachers'"),
}


@pytest.mark.parametrize("override", LATER)
def test_an_experiment_is_refused_before_its_first_stage_trains(
    override, tmp_path, refused, monkeypatch
):
    monkeypatch.setattr(stages, "train_workdir", None)
    config = f"--config={runs.ROOT / 'configs' / 'hinton2015_mnist.py'}:tiny"
    command = ["reproduce", "hinton2015-mnist", config, f"--workdir={tmp_path / 'run'}"]
    refused([*command, f"--config.{override}"], *LATER[override])
    assert list((tmp_path / "run").iterdir()) == []


DIGITS = {
    "seeds=(0, 0, 0, 0, 0)": ("config.seeds", "each value once"),
    "temperatures=(4.0, 4.0)": ("config.temperatures", "each value once"),
    "teachers.data.eval=test[:100]": ("config.teachers.data", "same test examples"),
    "distilled.early_stopping=test[:100]": (
        "config.distilled.early_stopping",
        "apart from the test examples",
    ),
    "distilled.teacher.workdir=there": (
        "config.distilled.teacher.workdir",
        "set by the experiment",
    ),
    "baseline.population={'seed': (0, 1)}": ("config.baseline.population", "set by the experiment"),
    "distilled.objective.soft_targets=none": ("config.distilled.objective", "soft_targets"),
    "paper={'distiled': 3}": ("config.paper", "did you mean 'distilled'"),
}


@pytest.mark.parametrize("override", DIGITS)
def test_digits_that_would_be_measured_wrong(override, tmp_path, refused, monkeypatch):
    monkeypatch.setattr(stages, "train_workdir", None)
    config = f"--config={runs.ROOT / 'configs' / 'hinton2015_digits.py'}:quick"
    command = ["reproduce", "hinton2015-digits", config, f"--workdir={tmp_path / 'run'}"]
    refused([*command, f"--config.{override}"], *DIGITS[override])


@pytest.mark.parametrize("name", ["digits", "mnist", "speech"])
def test_an_experiment_is_not_a_run(name, workdir, refused):
    config = f"--config={runs.ROOT / 'configs' / f'hinton2015_{name}.py'}"
    refused(
        ["train", config, f"--workdir={workdir}"], "this config is of an experiment", "kd reproduce"
    )
