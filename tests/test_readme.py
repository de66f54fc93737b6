"""The README's promises that a machine can check: its library snippet runs and says that distilling
helped.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest

import kd
from kd.config import base_config

ROOT = pathlib.Path(__file__).parent.parent


def snippet() -> str:
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[1]


def test_the_snippet_is_short():
    assert len(snippet().splitlines()) < 25


def test_the_snippet_runs_as_it_stands(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", snippet()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    errors = {
        line.split()[0]: [int(n) for n in re.findall(r"\d+", line)]
        for line in done.stdout.splitlines()
    }
    assert set(errors) == {"taught", "alone"}
    assert sum(errors["taught"]) < sum(errors["alone"])


def test_a_script_beside_the_clone_finds_the_library(tmp_path):
    """A folder named ``kd`` there would be an empty package of that name: what is installed must be
    found before it.
    """
    (tmp_path / "kd").mkdir()
    (tmp_path / "script.py").write_text("import kd\nprint(kd.fit.__name__)\n")
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=outside, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "fit\n", done.stderr


def test_every_make_target_and_command_of_the_readme_exists():
    text = (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"make (\w+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    commands = (ROOT / "kd" / "cli" / "arguments.py").read_text("utf-8")
    for command in set(re.findall(r"\bkd (train|eval|audit|reproduce|report|list)\b", text)):
        assert re.search(rf'add_parser\(\s*"{command}"', commands), command


def rows():
    """Of the table of what one may have: what, in Python, in a config."""
    table = (ROOT / "README.md").read_text("utf-8").partition("| you have |")[2]
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_the_table_names_is_there(row):
    """Calls are of the library; keys are of every run, or of a part whose names are the user's."""
    _, call, key = row
    for name in re.findall(r"\bkd\.(\w+)", call):
        assert name in kd.__all__
    for name in re.findall(r"`([a-z_.]+)=", key):
        part, _, rest = name.partition(".")
        assert part in base_config()
        if part not in ("student", "objective", "population"):
            assert rest in base_config()[part]
    for command in re.findall(r"`kd (\w+)", key):
        commands = (ROOT / "kd" / "cli" / "arguments.py").read_text("utf-8")
        assert f'add_parser("{command}"' in re.sub(r"\(\s+", "(", commands)


def test_the_table_has_rows():
    assert len(rows()) > 12
