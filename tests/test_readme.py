"""The README's promises that a machine can check: its library snippet runs and says that distilling
helped.
"""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import kd
import runs
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


def test_soft_labels_of_a_forest_teach_a_student_on_a_folder_of_images(tmp_path):
    """The commands of the README: the student sees no label and knows nearly all digits."""
    text = (ROOT / "README.md").read_text("utf-8")
    write, train = re.search(r"^(python docs/.*)\n(kd train .*)$", text, re.MULTILINE).groups()
    for folder in ("docs", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for command in (write.split()[1:], ["-m", "kd.cli", *train.split()[1:]]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={**runs.environment(1), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
    [member] = json.loads((tmp_path / "runs/taught/evaluation.json").read_text())["members"]
    assert member["accuracy"] > 0.8  # by chance 0.1
    lineage = json.loads((tmp_path / "runs/taught/run.json").read_text())["lineage"]
    assert lineage["teacher"]["source"].endswith("digits-images/soft_labels.csv")


def test_every_make_target_and_command_of_the_readme_exists():
    text = (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"make (\w+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    commands = (ROOT / "kd" / "cli" / "arguments.py").read_text("utf-8")
    for command in set(
        re.findall(r"\bkd (train|eval|audit|accuse|card|reproduce|report|list)\b", text)
    ):
        assert re.search(rf'add_parser\(\s*"{command}"', commands), command


def table_rows(page):
    """Of a page's tables of what one may have: what, in Python, in a config."""
    lines = [line for line in (ROOT / page).read_text("utf-8").splitlines() if line[:2] == "| "]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    start = next(i for i, row in enumerate(cells) if row[0] == "you have")
    return [row for row in cells[start:] if row[0] not in ("you have", "---")]


ROWS = {page: table_rows(page) for page in ("README.md", "docs/doors.md")}


@pytest.mark.parametrize("row", [row for rows in ROWS.values() for row in rows], ids=lambda r: r[0])
def test_what_the_tables_name_is_there(row):
    """Calls are of the library; keys are of every run, or of a part whose names are the user's."""
    _, call, key = row
    for name in re.findall(r"\bkd\.(\w+)", call):
        assert name in kd.__all__ or importlib.util.find_spec(f"kd.{name}")
    for name in re.findall(r"`([a-z_.]+)=", key):
        part, _, rest = name.partition(".")
        assert part in base_config()
        if rest and part not in ("student", "objective", "population"):
            assert rest.partition(".")[0] in base_config()[part]
    for command in re.findall(r"`kd (\w+)", key):
        commands = (ROOT / "kd" / "cli" / "arguments.py").read_text("utf-8")
        assert f'add_parser("{command}"' in re.sub(r"\(\s+", "(", commands)


def test_every_door_is_in_the_readme():
    """By its call of the library: the README's rows are of kinds of things, and each has its row in
    docs/doors.md.
    """
    calls = {
        page: set(re.findall(r"\bkd\.(\w+)", " ".join(call for _, call, _ in rows)))
        for page, rows in ROWS.items()
    }
    assert len(calls["docs/doors.md"]) > 10
    assert calls["docs/doors.md"] - calls["README.md"] <= {"Outputs", "LossInfo"}
