"""What a user can get wrong is one line that names the cause and the fix, exit code 2, and nothing
is lost.
"""

import contextlib
import json
import os
import shutil
import socket

import numpy as np
import pytest

import runs
from kd.cli.main import main
from kd.errors import KdError
from kd.runs import stages
from kd.runs.load import load_finished
from kd.runs.workdir import Workdir, find
from kd.teachers import answers as predict
from kd.training import loop


@pytest.fixture(autouse=True)
def _the_finished_run_is_unchanged():
    before = runs.hashes(runs.finished())
    yield
    assert runs.hashes(runs.finished()) == before


@pytest.fixture
def refused(capfd):
    """Run ``kd``, which must refuse with one line that holds every one of the words; the line."""

    def run(arguments, *words):
        capfd.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        said = [
            line for line in capfd.readouterr().err.splitlines() if not line.startswith("train: ")
        ]  # progress
        assert len(said) == 1
        assert said[0].startswith("kd: ")
        for word in words:
            assert word in said[0]
        return said[0]

    return run


@pytest.fixture
def workdir(tmp_path):
    """A work directory that must not have come into being: the same one serves when the mistake is
    mended.
    """
    yield tmp_path / "run"
    assert not (tmp_path / "run").exists()


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


def test_a_config_file_keeps_its_own_errors(workdir, tmp_path):
    """They are the user's program: a traceback names the line."""
    (tmp_path / "config.py").write_text("def get_config(arg):\n    return 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        main(["train", f"--config={tmp_path / 'config.py'}", f"--workdir={workdir}"])


@pytest.fixture
def no_network(monkeypatch):
    tried = []

    def refuse(*arguments, **_):
        tried.append(arguments)
        raise OSError("no network in tests")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    yield
    assert tried == []


@pytest.mark.usefixtures("no_network")
def test_data_sets_that_are_not_there(workdir, tmp_path, refused):
    command = runs.kd("train", f"--workdir={workdir}", f"--data_dir={tmp_path}")
    words = (
        f"tfds build mnist --file_format=array_record --data_dir={tmp_path}",
        "--data_dir",
        "TFDS_DATA_DIR",
    )
    refused([*command, "--config.data.source=tfds:mnist"], "'mnist' is not prepared", *words)
    refused(
        [*command, "--config.data.source=tfds:mnits"],
        "TFDS data set 'mnits'",
        "did you mean 'mnist'",
    )


def test_npz_files(workdir, tmp_path, refused):
    images, labels = np.zeros((120, 4, 4), np.float32), np.arange(120) % 3
    command = runs.kd(
        "train", f"--workdir={workdir}", f"--data_dir={tmp_path}", data__source="npz:a.npz"
    )
    command = [*command, "--config.data.eval=train"]
    path = tmp_path / "a.npz"
    refused(command, str(path), "no ", "KD_DATA_DIR")
    path.write_bytes(b"PK not a zip")
    refused(command, str(path), "numpy.savez")
    np.savez(path, test_inputs=images)
    refused(command, "'train'", "known: test")
    nan = np.where(np.arange(120)[:, None, None] == 7, np.nan, images)
    for arrays, *words in [
        (
            {"train_labels": labels, "num_classes": 2},
            "label 2 of example 2 is out of range",
            "0 to 1",
        ),
        ({"train_labels": labels - 2}, "label -2 of example 0 is out of range"),
        ({"train_labels": labels[:5]}, "labels have shape (5,)", "120 examples"),
        ({"train_labels": labels / 1}, "objective.hard needs classes", "labels are numbers"),
        ({"train_inputs": nan}, "inputs must be finite"),
        ({"train_inputs": images[:0]}, "empty: 0 examples"),
        ({}, "num_classes"),
        ({"num_classes": 3}, "objective.hard needs labels"),
    ]:
        np.savez(path, **{"train_inputs": images, **arrays})
        refused(command, *words)
    np.savez(path, train_inputs=images[:, 0], train_labels=labels)
    refused([*command, "--config.data.jitter_pixels=1"], "jitter needs images")


def test_teachers_that_do_not_fit(workdir, tmp_path, refused, monkeypatch):
    """All of it is found before anything is compiled."""
    monkeypatch.setattr(loop, "compile_program", None)
    monkeypatch.setattr(predict, "answers", None)
    command = runs.kd(
        "train", f"--workdir={workdir}", arg="distilled", teacher__workdir=runs.finished()
    )
    refused(
        [*command, "--config.student.classes=12"],
        "student answers with 12 classes",
        "teacher with 10",
    )
    refused(
        [*command, "--config.data.jitter_pixels=1"],
        "config.teacher.precompute",
        "config.data.jitter_pixels",
    )
    np.savez(
        tmp_path / "a.npz", train_inputs=np.zeros((120, 4, 4)), train_labels=np.arange(120) % 10
    )
    command = [
        *command,
        f"--data_dir={tmp_path}",
        "--config.data.source=npz:a.npz",
        "--config.data.eval=train",
    ]
    refused(command, "the teacher cannot read inputs of shape (4, 4)")


def test_a_teacher_without_a_checkpoint(workdir, tmp_path, refused):
    (tmp_path / "teacher").mkdir()
    command = runs.kd(
        "train", f"--workdir={workdir}", arg="distilled", teacher__workdir=tmp_path / "teacher"
    )
    refused(command, "teacher is not a work directory", "kd train")
    shutil.copy(runs.finished() / "run.json", tmp_path / "teacher")
    refused(command, "teacher holds no whole checkpoint", "kd train")
    assert [path.name for path in (tmp_path / "teacher").iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("rate", "evaluate", "what", "newest"),
    [
        (1e-8, None, "the loss is not finite at step 7; checkpoints of before stay", 7),
        (1e-8, 1 / 3, "the model's answers are not finite", 6),
        (10.0, 1 / 3, "the parameters are not finite at step 7; checkpoints of before stay", 6),
    ],
)
def test_a_run_that_diverges_keeps_its_last_good_checkpoint(
    rate, evaluate, what, newest, tmp_path, refused
):
    """The rate explodes half-way: after that the loss is infinite, or the answers, or the
    parameters.
    """
    schedule = {
        "learning_rate": rate,
        "learning_rate_schedule": {"shape": "piecewise", "points": ((50, 3e38),)},
    }
    keys = {
        "optim": schedule,
        "total_steps": 12,
        "checkpoint_epochs": 1 / 3,
        "eval_epochs": evaluate,
    }
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}", **keys)
    for _ in range(2):  # starting again does not help, and does no harm
        refused(command, what, "lower optim.learning_rate")
        kept = runs.restored(tmp_path / "run")
        assert kept["['step']"] == newest
        assert all(np.isfinite(leaf).all() for leaf in kept.values())


def test_a_run_that_diverges_at_once_leaves_its_folder_free(tmp_path, refused):
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}")
    refused(
        [*command, "--config.optim.learning_rate=1e30"],
        "not finite at step 1",
        "in a new work directory",
    )
    assert runs.main([*command, "--config.optim.learning_rate=0.01"]) == 0


def test_the_test_set_does_not_choose_the_state(workdir, refused):
    keys = {"eval_epochs": 1, "early_stopping": "test[:60]"}
    refused(
        runs.kd("train", f"--workdir={workdir}", **keys),
        "would choose the state by 60 examples of the test set",
        "'test[:60]'",
    )


def test_a_workdir_of_another_run(tmp_path, refused):
    shutil.copytree(runs.finished(), tmp_path / "run")
    before = runs.hashes(tmp_path / "run")
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}")
    changes = (
        "optim.learning_rate is 0.1 there and 0.2 here",
        "seed is 0 there and 3 here",
        "--workdir",
    )
    refused(
        [*command, "--config.optim.learning_rate=0.2", "--config.seed=3"], "another run", *changes
    )
    refused([*command, "--config.data.train=train[1:121]"], "data.train is 'train[:120]' there")
    for text in ("", "{", "{}", "[]"):
        (tmp_path / "run" / "run.json").write_text(text)
        refused(command, "run.json is damaged")
        refused(["eval", f"--workdir={tmp_path / 'run'}"], "run.json is damaged")
    shutil.copy(runs.finished() / "run.json", tmp_path / "run")
    assert runs.hashes(tmp_path / "run") == before


def test_folders_that_cannot_be_written(tmp_path, refused):
    (tmp_path / "file").write_text("")
    refused(
        runs.kd("train", f"--workdir={tmp_path}/file/run"),
        "cannot write work directory",
        "--workdir",
    )
    refused(
        ["reproduce", "hinton2015-digits", f"--workdir={tmp_path}/file/run"],
        "cannot write",
        "--workdir",
    )


def test_a_folder_that_is_read_only(tmp_path, refused, capfd):
    """Nothing can be trained into it; what lies in it can still be read."""
    with contextlib.ExitStack() as stack:
        folder = tmp_path / "disk"
        if os.geteuid() == 0:  # may write into any folder, but not onto a disk that is read-only
            stack.enter_context(runs.small_disk(folder))
        shutil.copytree(runs.finished(), folder / "run", dirs_exist_ok=True)
        with runs.read_only(folder / "run" if os.geteuid() else folder):
            refused(
                runs.kd("train", f"--workdir={folder / 'run'}"),
                "cannot write work directory",
                "--workdir",
            )
            assert main(["eval", f"--workdir={folder / 'run'}"]) == 0


def test_eval(tmp_path, refused):
    refused(["eval", f"--workdir={tmp_path}"], "not a work directory", "kd train")
    command = ["eval", f"--workdir={runs.finished()}"]
    refused([*command, "--split=tset"], "'tset'", "did you mean 'test'")
    refused([*command, f"--teacher={tmp_path}"], "not a work directory")
    refused([*command, "--config.seed=1"], "'kd eval' takes no config", "--config.seed=1")


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


def test_students_paired_with_teachers_that_are_not_there(workdir, tmp_path, refused):
    columns = {"population": {"seed": (0, 1), "teacher": (0, 5)}}
    command = runs.kd(
        "train",
        f"--workdir={workdir}",
        arg="distilled",
        teacher__workdir=runs.finished(),
        **columns,
    )
    refused(command, "only a population has several teachers")
    assert runs.train(tmp_path / "teachers", population={"seed": (0, 1)}) == 0
    command = runs.kd(
        "train",
        f"--workdir={workdir}",
        arg="distilled",
        teacher__workdir=tmp_path / "teachers",
        **columns,
    )
    refused(command, "paired with teacher 5", "there are 2, from 0")


@pytest.mark.parametrize(
    ("arguments", "of"),
    [([], "kd"), (["trian"], "kd"), (["train"], "kd train"), (["eval", "--split=test"], "kd eval")],
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


def test_a_teacher_that_has_not_finished(workdir, tmp_path, refused):
    shutil.copytree(runs.finished(), tmp_path / "teacher")
    (tmp_path / "teacher" / "evaluation.json").unlink()
    command = runs.kd(
        "train", f"--workdir={workdir}", arg="distilled", teacher__workdir=tmp_path / "teacher"
    )
    refused(command, "has not finished training", "finish that run first")


def test_a_teacher_whose_last_checkpoint_is_damaged_is_not_the_one_before(
    workdir, tmp_path, refused
):
    teacher = tmp_path / "teacher"
    assert runs.train(teacher, total_steps=6, checkpoint_epochs=1) == 0
    (teacher / "checkpoints" / "checksums" / "6.json").write_text("{}")
    command = runs.kd("train", f"--workdir={workdir}", arg="distilled", teacher__workdir=teacher)
    refused(command, "ended at step 6 and its newest whole checkpoint is of step 3")
    assert runs.train(teacher, total_steps=6, checkpoint_epochs=1) == 0
    assert load_finished(teacher).params


def test_a_run_that_lost_its_name(tmp_path, refused):
    shutil.copytree(runs.finished(), tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    before = runs.hashes(tmp_path / "run")
    refused(
        runs.kd("train", f"--workdir={tmp_path / 'run'}"), "no run.json", "choose another --workdir"
    )
    assert runs.hashes(tmp_path / "run") == before


def test_two_processes_in_one_work_directory(tmp_path, refused):
    shutil.copytree(runs.finished(), tmp_path / "run")
    with find(tmp_path / "run").locked():
        refused(
            runs.kd("train", f"--workdir={tmp_path / 'run'}"),
            "another process is training",
            "wait for it",
        )
    assert runs.train(tmp_path / "run") == 0


@pytest.mark.parametrize(
    "option", ["input_dropout=1.0", "hidden_dropout=-0.1", "widths=(0,)", "classes=0"]
)
def test_models_that_cannot_be(option, workdir, refused):
    key, _, value = option.partition("=")
    refused(runs.kd("train", f"--workdir={workdir}", **{f"student__{key}": value}), "got")


def test_held_out_data_of_another_kind(workdir, tmp_path, refused):
    inputs, labels = np.zeros((50, 4, 4)), np.arange(50) % 3
    np.savez(
        tmp_path / "a.npz",
        train_inputs=inputs,
        train_labels=labels,
        test_inputs=inputs,
        test_labels=labels + 1,
    )
    source = f"npz:{tmp_path / 'a.npz'}"
    keys = {"data__source": source, "data__train": "train", "data__eval": "test"}
    refused(
        runs.kd("train", f"--workdir={workdir}", **keys), "4 classes", "3", "split of the same kind"
    )


def test_a_value_with_a_line_break_is_still_one_line(workdir, refused):
    refused(runs.kd("train", f"--workdir={workdir}", data__train="tr\nain"), "split")


def test_who_comes_second_does_not_rename_a_run_that_compiles(tmp_path, refused):
    Workdir(tmp_path / "run").path.mkdir()
    with Workdir(tmp_path / "run").locked():  # claimed, and nothing trained yet
        refused(runs.kd("train", f"--workdir={tmp_path / 'run'}"), "another process is training")
        assert not (tmp_path / "run" / "run.json").exists()


def test_a_column_teacher_without_a_teacher(workdir, refused):
    columns = "--config.population={'seed': (0, 1), 'teacher': (0, 1)}"
    refused(
        runs.kd("train", f"--workdir={workdir}", columns, arg="distilled"),
        "population.teacher",
        "set teacher.source",
    )


def test_a_run_of_a_longer_name_is_not_taken_for_a_stage(tmp_path):
    shutil.copytree(runs.finished(), tmp_path / "run-old")
    with pytest.raises(KdError, match="is not a work directory"):
        find(tmp_path / "run")


@pytest.mark.parametrize("name", ["digits", "mnist", "speech"])
def test_an_experiment_is_not_a_run(name, workdir, refused):
    config = f"--config={runs.ROOT / 'configs' / f'hinton2015_{name}.py'}"
    refused(
        ["train", config, f"--workdir={workdir}"], "this config is of an experiment", "kd reproduce"
    )
