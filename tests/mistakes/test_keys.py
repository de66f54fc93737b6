"""Commands, overrides and config files that are not right."""

import pytest

import runs
from kd.cli.main import main

MISTAKES = {
    # override: words of the message
    "optim.learning_rat=0.1": ("config.optim", "'learning_rat'", "did you mean 'learning_rate'"),
    "optm.learning_rate=0.1": ("'optm'", "did you mean 'optim'"),
    "seeed=1": ("'seeed'", "did you mean 'seed'"),
    "seed.x=1": ("config.seed is a value", "set config.seed itself"),
    "seed": ("--config.seed=VALUE",),
    "seed=-1": ("config.seed must lie in",),
    "student.widhts=(8,)": ("'widhts'", "did you mean 'widths'"),
    "student.widths=8": ("config.student.widths must be", "8"),
    "student.name=mpl": ("'mpl'", "did you mean 'mlp'"),
    "student.name=nowhere_at_all:net": ("no module 'nowhere_at_all'", "PYTHONPATH"),
    "student.classes=5": ("5 classes", "has 10"),
    "objective={}": ("config.objective is empty", "'hard'"),
    "objective={'hrad': {}}": ("'hrad'", "did you mean 'hard'"),
    "objective.hrad=none": ("config.objective", "'hrad'", "did you mean 'hard'"),
    "population.seed=none": ("config.population", "'seed'"),
    "objective.hard.temperature=2.0": ("objective.hard", "'temperature'"),
    "objective.hard.weight=-1": ("objective.hard.weight must be", "-1"),
    "objective={'soft_targets': {'temperature': 0.0}}": (
        "objective.soft_targets.temperature must lie",
        "0.0",
    ),
    "objective={'soft_targets': {}}": ("needs a teacher", "teacher.workdir"),
    "optim.name=sdg": ("config.optim.name must be", "'sgd'", "'sdg'"),
    "optim.learning_rate=fast": ("config.optim.learning_rate must be float", "'fast'"),
    "optim.learning_rate=-1": ("optim.learning_rate must be finite and more than 0", "-1"),
    "optim.learning_rate=true": ("config.optim.learning_rate must be float", "True"),
    "optim.momentum=1.0": ("optim.momentum must lie in [0, 1)", "1.0"),
    "optim.learning_rate_schedule.shape=piecewise": ("piecewise", "schedule.points"),
    "optim.learning_rate_schedule.warmup_percent=150": ("warmup_percent", "150"),
    "total_steps=2.5": ("config.total_steps must be int", "2.5"),
    "total_steps=True": ("config.total_steps must be int", "True"),
    "total_steps=-3": ("config.total_steps must be more than 0", "-3"),
    "total_steps=None": ("exactly one of config.total_epochs and config.total_steps",),
    "total_epochs=1": ("exactly one of config.total_epochs and config.total_steps",),
    "log_steps=0": ("config.log_steps must be more than 0",),
    "eval_epochs=-1": ("config.eval_epochs must be more than 0",),
    "data.batch_size=0": ("data.batch_size must lie between 1 and the 120",),
    "data.batch_size=121": ("data.batch_size must lie between 1 and the 120", "121"),
    "data.source=digts": ("'digts'", "did you mean 'digits'"),
    "data.train=trian": ("'trian'", "did you mean 'train'"),
    "data.train=train[5:5]": ("train[5:5]", "empty"),
    "data.train=train[a:]": ("train[a:]", "train[:50000]"),
    "data.jitter_pixels=-1": ("data.jitter_pixels must be 0 or more",),
    "mesh.devices=99": ("mesh.devices is 99", "there are 8"),
    "mesh.devices=3": ("batch_size 40", "3 devices"),
    "population={'seed': (0, 1), 'learning_rate': (0.1,)}": (
        "differ in length",
        "seed",
        "learning_rate",
    ),
    "population={'sed': (0, 1)}": ("key in population", "'sed'", "did you mean 'seed'"),
    "population={'seed': 3}": ("population.seed must be a tuple", "3"),
    "population={'hard': {'weight': (1.0, -1.0)}}": ("objective.hard.weight", "-1.0"),
    "teacher.workdir=nowhere": ("teacher.workdir=nowhere changes nothing", "soft_targets"),
    "teacher.average=mean": ("config.teacher.average must be", "'arithmetic'", "'mean'"),
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistyped_override(override, workdir, refused):
    refused(runs.kd("train", f"--workdir={workdir}", f"--config.{override}"), *MISTAKES[override])


FILES = {
    "config.optim.learning_rat = 1.0": ("config.optim", "did you mean 'learning_rate'"),
    "config.total_step = 3": ("config", "did you mean 'total_steps'"),
    "config.seed = 'one'": ("config.seed must be int", "'one'"),
    "config = config.to_dict()": ("get_config", "dict", "ConfigDict"),
    "config = (": ("config.py is not Python", "line 4"),
    "del config; choose(arg, 'a', 'quick')": ("'quikc'", "did you mean 'quick'"),
    "del config; choose(arg, '')": ("'quikc'", "known: none"),
}


@pytest.mark.parametrize("line", FILES)
def test_mistyped_config_file(line, workdir, tmp_path, refused):
    body = [
        "from runs import get_config as base",
        "from kd.config import choose",
        "def get_config(arg):",
    ]
    text = "\n    ".join(
        ["\n".join(body), f"config = base(); {line}" if line[-1] != "(" else line, "return config"]
    )
    (tmp_path / "config.py").write_text(text)
    refused(
        ["train", f"--config={tmp_path / 'config.py'}:quikc", f"--workdir={workdir}"], *FILES[line]
    )


def test_no_config_file(workdir, tmp_path, refused):
    refused(
        ["train", "--config=configs/digts.py", f"--workdir={workdir}"],
        "no config file configs/digts.py",
    )
    (tmp_path / "empty.py").write_text("")
    command = ["train", f"--config={tmp_path / 'empty.py'}", f"--workdir={workdir}"]
    refused(command, "empty.py has no function get_config")
    (tmp_path / "empty.py").write_bytes(b"\xff\xfe\x00")
    refused(command, "cannot read config file", "empty.py")


def test_what_a_config_file_raises_is_said_with_its_line(workdir, tmp_path, refused):
    (tmp_path / "config.py").write_text("def get_config(arg):\n    return 1 / 0\n")
    command = ["train", f"--config={tmp_path / 'config.py'}", f"--workdir={workdir}"]
    refused(command, "ZeroDivisionError: division by zero", "config.py:2, in get_config")


def test_the_test_set_does_not_choose_the_state(workdir, refused):
    keys = {"eval_epochs": 1, "early_stopping": "test[:60]"}
    refused(
        runs.kd("train", f"--workdir={workdir}", **keys),
        "would choose the state by 60 examples that it is measured on",
        "'test[:60]'",
    )


@pytest.mark.parametrize(
    ("arguments", "of"),
    [
        ([], "kd"),
        (["trian"], "kd"),
        (["train"], "kd train"),
        (["export", "--member=0"], "kd export"),
    ],
)
def test_a_command_that_is_not_one(arguments, of, capfd):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("kd: ")
    assert line.endswith(f"; see '{of} --help'")


def test_training_without_a_place_for_it(refused):
    refused(["train", "--config=x.py"], "kd train needs --workdir=DIR")


def test_an_evaluation_of_nothing(refused):
    refused(["eval", "--split=test"], "either --workdir=DIR, a run, or --config=FILE")


@pytest.mark.parametrize(
    "option", ["input_dropout=1.0", "hidden_dropout=-0.1", "widths=(0,)", "classes=0"]
)
def test_models_that_cannot_be(option, workdir, refused):
    key, _, value = option.partition("=")
    refused(runs.kd("train", f"--workdir={workdir}", **{f"student__{key}": value}), "got")


def test_a_value_with_a_line_break_is_still_one_line(workdir, refused):
    refused(runs.kd("train", f"--workdir={workdir}", data__train="tr\nain"), "split")
