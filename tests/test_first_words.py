"""Whoever watches a command sees at once that it was understood, and then what it is doing."""

import subprocess
import sys
import threading

import pytest

import runs
from kd.cli.main import main
from kd.system import words

FIRST = """
import io, sys
from kd.cli.main import _COMMANDS, main

class Heavy(BaseException):
    pass

class Terminal(io.StringIO):
    def isatty(self):
        return True

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib", "numpy", "flax", "rich", "ml_collections"):
            raise Heavy

ARGUMENTS = {
    "train": ["--config=configs/digits.py", "--workdir=absent"],
    "plan": ["--config=configs/digits.py", "--topology=v5e:2x2"],
    "eval": ["--workdir=absent"],
    "audit": ["absent", "absent"],
    "export": ["absent", "absent"],
    "accuse": ["absent", "--teacher=absent", "--controls=absent"],
    "card": ["absent"],
    "reproduce": ["hinton2015-digits"],
    "report": ["absent"],
    "doctor": [],
    "list": [],
}
assert ARGUMENTS.keys() == _COMMANDS.keys()
sys.meta_path.insert(0, Refusing())
for command, arguments in ARGUMENTS.items():
    sys.stderr = Terminal()
    try:
        main([command, *arguments])
    except Heavy:
        print(command, repr(sys.stderr.getvalue()))
"""


def test_the_first_word_of_every_command_comes_before_anything_heavy():
    """Which is refused here: what a command says, it says before that."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST], cwd=runs.ROOT, capture_output=True, text=True, check=True
    )
    order = ("train", "plan", "eval", "audit", "export", "accuse", "card", "reproduce", "report")
    starts = [f"{c} 'kd {c}: starting\\n'" for c in (*order, "doctor", "list")]
    assert done.stdout.splitlines() == starts


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(words, "watched", lambda: True)


COMPILING = {
    "eval": (["--workdir={}"], "compiling what answers, and answering"),
    "audit": (["{}", "{}", "--out=out"], "compiling what answers, and answering"),
    "export": (["{}", "out"], "compiling for cpu, cuda, tpu"),
}


@pytest.mark.parametrize("command", COMPILING)
def test_a_command_says_that_it_compiles_and_a_file_gets_nothing(
    command, tmp_path, monkeypatch, capfd
):
    arguments, compiling = COMPILING[command]
    run = str(runs.finished().resolve())
    capfd.readouterr()
    filled = [command, *(argument.format(run) for argument in arguments)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(words, "watched", lambda: True)
    assert main(filled) == 0
    shown = capfd.readouterr()
    lines = shown.err.splitlines()
    assert lines[0] == f"kd {command}: starting"
    assert f"kd {command}: reading {run}" in lines
    assert lines[-1] == f"kd {command}: {compiling}"
    assert len(set(lines)) == len(lines)
    monkeypatch.setattr(words, "watched", lambda: False)
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    assert main(filled) == 0
    assert capfd.readouterr().err == ""


def test_what_goes_on_is_said_again(terminal, monkeypatch, capsys):
    """Until it is over, and never by whoever calls the library."""
    monkeypatch.setattr(words, "SECONDS", 0.01)
    said, twice, say = [], threading.Event(), words.say

    def noted(what):
        say(what)
        said.append(what)
        if len(said) > 3:
            twice.set()

    monkeypatch.setattr(words, "say", noted)
    words.begin("eval")
    with words.doing("compiling"):
        assert twice.wait(60)
    count = len(said)
    assert said[:2] == ["starting", "compiling"]
    assert all(line.startswith("compiling, ") for line in said[2:])
    words.end()
    with words.doing("compiling"):
        words.say("reading")
    assert len(said) == count + 1
    assert "reading" not in capsys.readouterr().err
