"""What somebody types, however odd, is a run or one line; no folder is named ``~`` or ``gs:``."""

import pathlib
import shutil

import numpy as np
import pytest

import kd
import runs
import tiny
from kd import hints
from kd.cli.main import main
from kd.errors import KdError, one_line
from kd.system.paths import local, split_file

ADDRESSES = ["gs:/bucket/x", "s3://B/x", "http://a/b", "file:///tmp/x"]
NO_PATHS = ["a\0b", "\0", "x" * 5000, "a/" * 2500, "\ud800", "~nobody-of-that-name/x"]


def refused(capfd, *words):
    capfd.readouterr()
    assert main([str(word) for word in words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("kd: ")
    assert len(err) < 2000
    assert err[:-1].isprintable()
    return err


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "0x" + "f" * 300])
@pytest.mark.parametrize(
    "key", ["total_epochs", "data.scale", "objective.hard.weight", "population.learning_rate"]
)
def test_a_number_that_no_float_holds_is_one_line(key, number, tmp_path, capfd):
    value = f"({number}, 0.1)" if key.startswith("population") else number
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}")
    said = refused(capfd, *command, f"--config.{key}={value}")
    assert f"config.{key} is a larger number than a float holds" in said


def test_the_library_takes_no_such_number_and_no_column_of_a_single_value():
    with pytest.raises(KdError, match="epochs must be more than 0"):
        kd.fit(tiny.PLAIN, tiny.dataset(), [kd.term("hard")], epochs=10**400)
    for column in (np.array(0.1), "ab", ()):
        with pytest.raises(KdError, match="must be several values"):
            kd.product(learning_rate=column)


@pytest.mark.parametrize("path", ADDRESSES + NO_PATHS)
@pytest.mark.parametrize("key", ["--workdir", "--data_dir", "--config", "data.data_dir", "teacher"])
def test_a_path_that_is_none_is_one_line(path, key, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    name = {"data.data_dir": "--config.data.data_dir", "teacher": "--config.teacher.workdir"}
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}", arg="distilled")
    said = refused(capfd, *command, f"{name.get(key, key)}={path}")
    assert ("is an address" in said) == (path in ADDRESSES)
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_folder_wherever_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs.finished(), tmp_path / "home" / "teacher")
    shutil.copy(runs.ROOT / "tests" / "runs.py", tmp_path / "home" / "config.py")
    command = ["train", "--config=~/config.py:distilled", "--workdir=~/run"]
    assert main([*command, "--config.teacher.workdir=~/teacher"]) == 0
    assert main(["eval", "--workdir=~/run"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert local("~") == tmp_path / "home"


def test_a_colon_in_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    shutil.copy(runs.ROOT / "tests" / "runs.py", tmp_path / "a:b" / "c:d.py")
    keys = [f"--config.teacher.workdir={runs.finished()}", "--config.total_steps=2"]
    assert main(["train", "--config=a:b/c:d.py:distilled", "--workdir=e:f", *keys]) == 0
    assert (tmp_path / "e:f" / "evaluation.json").exists()


@pytest.mark.parametrize("argument", ["", "x", "x:y"])
def test_a_config_file_and_its_argument(argument, tmp_path):
    (tmp_path / "a:b").write_text("")
    assert split_file(f"{tmp_path}/a:b:{argument}") == (f"{tmp_path}/a:b", argument)
    assert split_file(f"{tmp_path}/none:{argument}") == (f"{tmp_path}/none", argument)


LITERALS = [
    *("{[1]:2}", "{1: 2}", "{(1, 2): 3}", "{None: 1}", "{1, 2}", "b'x'", "1j", "...", "9" * 5000),
    *("(" * 100_000, "[" * 100_000, "-" * 100_000, "{1:" * 30_000, "1+" * 50_000 + "1", "'\\d'"),
]


@pytest.mark.parametrize("text", LITERALS, ids=lambda text: text[:9])
@pytest.mark.parametrize("key", ["optim.learning_rate", "student.name", "objective", "population"])
def test_a_literal_that_is_none_is_one_line(text, key, tmp_path, capfd):
    said = refused(
        capfd, *runs.kd("train", f"--workdir={tmp_path / 'run'}"), f"--config.{key}={text}"
    )
    assert not (tmp_path / "run").exists()
    assert "config" in said or "model" in said or "population" in said


def test_a_message_is_one_line_that_a_terminal_can_show():
    message = str(KdError("a\n b\0 \x1b[31m " + "x" * 10_000 + " end"))
    assert message == one_line(message)
    assert message.isprintable()
    assert message.startswith("a b\\x00 \\x1b[31m xxx")
    assert message.endswith("(10,000 characters) end")


ELEMENTS = [  # a value, a type that it has, and one that it has not
    ((1,) * 50 + ("a",), tuple[int | str, ...], tuple[int, ...]),
    ((1,) * 50 + (True,), tuple[int | bool, ...], tuple[int, ...]),
    ((1.0, True), tuple[float, bool], tuple[float, float]),
    (
        ((0.0, 1.0), (1.0, True)),
        tuple[tuple[float, float | bool], ...],
        tuple[tuple[float, float], ...],
    ),
    (
        {"a": 1, "b": (1, None)},
        dict[str, int | tuple[int | None, ...]],
        dict[str, int | tuple[int, ...]],
    ),
    (True, int | bool | None, int | None),
    (None, str | None, str),
]


@pytest.mark.parametrize(("value", "right", "wrong"), ELEMENTS)
def test_every_element_of_a_value_has_its_type(value, right, wrong):
    for _ in range(20):  # each time, and not by chance
        assert hints.fits(value, right)
        assert not hints.fits(value, wrong)


@pytest.mark.parametrize("widths", ["(8, True)", "(8, 8, 8, 8, 8, 8, 8, '8')", "(8, (8,))"])
def test_one_wrong_element_of_a_tuple(widths, tmp_path, capfd):
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}", student__widths=widths)
    assert "config.student.widths must be tuple[int, ...]" in refused(capfd, *command)


@pytest.mark.parametrize("name", ["1", "none", "()", "-1e400", "{'a': 1}"])
def test_a_name_that_is_no_model(name, tmp_path, capfd):
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}", student__name=name)
    assert "a model has a name" in refused(capfd, *command)


def test_a_path_is_not_made_by_asking(tmp_path):
    assert local(tmp_path / "nothing" / "there") == tmp_path / "nothing" / "there"
    assert list(tmp_path.iterdir()) == []
    assert isinstance(local(pathlib.Path("x")), pathlib.Path)
