"""Code of the user's own, wherever it is named: what does not fit it, and what it raises, is one
line that names the user's line; a fault of kd's stays a traceback.
"""

import pathlib
import sys

import pytest

import kd
import runs
import tiny
from kd import shipped
from kd.calling import is_users, raised
from kd.cli.main import main
from kd.errors import KdError

MODULE = """
import sys
import numpy as np
import flax.linen as nn

number = 3
def helper(*_): return 1 / 0
def exits(*_, **options): sys.exit(0)
def two(x, y): return x
def ragged(x): return [[0.0] * (9 + i % 2) for i, _ in enumerate(x)]
def broken_pipe(name, argument, data_dir): raise BrokenPipeError("a pipe of mine")
def raises(*_, **options): return helper()
class Net(nn.Module):
    @nn.compact
    def __call__(self, x): return helper(x)
def net(classes: "Unknown"): return Net()
"""
DOORS = {
    "data.source": "(split, argument, data_dir)",
    "student.name": "(classes=10)",
    "objective.own.loss": "(student, teacher, batch, hparams)",
    "teacher.source": "(inputs[b ...])",
    "--sinks": "(about)",
}
INSIDE = {"data.source", "student.name", "objective.own.loss", "teacher.source"}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's, ``mine_odd``, and what it is made of."""
    (tmp_path / "mine_odd.py").write_text(MODULE)
    (tmp_path / "mine_exits.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "mine_fails.py").write_text("1 / 0\n")
    (tmp_path / "mine_slips.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("mine_odd", "mine_exits", "mine_fails", "mine_slips"):
        sys.modules.pop(name, None)


@pytest.fixture
def refused(capfd, module):
    def run(door, name, *words):
        capfd.readouterr()
        arg = "" if door in ("data.source", "student.name", "--sinks") else "distilled"
        taught = {} if door == "teacher.source" else {"teacher__workdir": runs.finished()}
        chosen = f"{door}={name}" if door.startswith("--") else f"--config.{door}={name}"
        command = runs.kd("train", "--workdir=run", arg=arg, **(taught if arg else {}))
        assert main([*command, chosen]) == 2
        said = capfd.readouterr().err.splitlines()
        assert [line for line in said if not line.startswith("train: ")] == said[-1:]
        assert all(word in said[-1] for word in words), said[-1]
        assert not (module / "run" / "evaluation.json").exists()

    return run


@pytest.mark.parametrize("door", DOORS)
def test_what_does_not_fit_says_what_kd_calls_it_with_and_what_it_takes(door, refused):
    takes = "(*, wanted)" if door == "teacher.source" else "(x, y)"
    name = "mine_odd:two"
    if door == "teacher.source":
        with open("mine_odd.py", "a", encoding="utf-8") as file:
            file.write("def strict(*, wanted): return 1\n")
        name = "mine_odd:strict"
    refused(door, name, f"'{name}'", DOORS[door], f"it takes {takes}")
    refused(door, "mine_odd:number", "'mine_odd:number' is no function, but 3", DOORS[door])


@pytest.mark.parametrize("door", sorted(INSIDE))
def test_what_it_raises_names_its_own_line_and_an_exit_is_no_success(door, refused):
    line = MODULE.splitlines().index("def helper(*_): return 1 / 0") + 1
    refused(door, "mine_odd:raises", "ZeroDivisionError", f"mine_odd.py:{line}, in helper")
    refused(door, "mine_odd:exits", "asks to exit, with 0", "in exits")


@pytest.mark.parametrize("door", DOORS)
def test_a_module_that_cannot_be_imported(door, refused):
    refused(door, "mine_exits:f", "importing mine_exits asks to exit", "mine_exits.py:2")
    refused(door, "mine_fails:f", "ZeroDivisionError", "mine_fails.py:1")
    refused(door, "mine_slips:f", "SyntaxError", "mine_slips.py:1")


def test_the_rest_of_what_code_can_do(refused):
    refused("data.source", "mine_odd:broken_pipe", "BrokenPipeError: a pipe of mine")
    refused("data.source", "os.path:join", "'os.path:join' raises TypeError")
    refused("student.name", "mine_odd:net", "ZeroDivisionError", "in helper")
    refused("teacher.source", "mine_odd:ragged", "is no array", "a row of numbers for each")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys; sys.exit(0)", "asks to exit, with 0"),
        ("raise SystemExit('enough')", "asks to exit, with 'enough'"),
        ("def get_config(arg):\n  return 1 / 0", "config.py:2, in get_config"),
        ("def get_config():\n  return 1", "is called with (arg), and it takes ()"),
        ("get_config = 3", "is no function, but 3"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
    ],
)
def test_a_config_file_is_the_users_code_too(text, words, tmp_path, capfd):
    (tmp_path / "config.py").write_text(text)
    assert main(["train", f"--config={tmp_path / 'config.py'}", "--workdir=run"]) == 2
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert words in said[0]


def test_the_library_leaves_errors_of_a_function_that_it_was_given_as_they_are():
    with pytest.raises(ZeroDivisionError):
        kd.teacher(lambda _: 1 / 0, data=tiny.dataset())
    with pytest.raises(KdError, match=r"is called with \(student, teacher, batch, hparams\)"):
        kd.term(lambda student: student)


def test_a_fault_of_kds_is_not_put_on_the_user(monkeypatch):
    monkeypatch.setattr(shipped, "folder", lambda: None)
    with pytest.raises(TypeError) as caught:
        shipped.holds(pathlib.Path("a"))
    monkeypatch.undo()
    assert not is_users(caught.value)
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    assert is_users(caught.value)
    assert raised(caught.value).startswith("raises ZeroDivisionError: division by zero (")
