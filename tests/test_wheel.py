"""What ``pip install .`` installs: kd alone at the top level, and with it all that the README says,
from any folder.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

import runs

SOURCES = ("kd", "configs", "experiments", "pyproject.toml", "setup.py", "README.md", "LICENSE")
STAGES = """
import json
from kd import shipped
from kd.config import build, load_config
from kd.runs.stages import stage_fingerprints
from kd.user_code import reached

shipped.importable("experiments")
from experiments.hinton2015.digits import run as digits
from experiments.hinton2015.mnist import protocol as mnist

fingerprints = {"speech": reached(["experiments.hinton2015.speech.stages"])}  # it needs its data
for name, experiment in {"digits": digits, "mnist": mnist}.items():
    config = load_config(shipped.folder() / "configs" / f"hinton2015_{name}.py")
    stages = experiment.make_stages(build(experiment.Protocol, config, "config"))
    fingerprints[name] = stage_fingerprints(stages)
print(json.dumps(fingerprints))
"""


def run(*command, cwd, **environment):
    """As a user does: neither the clone's modules nor the tests' eight devices."""
    ours = ("PYTHONPATH", "XLA_FLAGS")
    outside = {key: value for key, value in os.environ.items() if key not in ours}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**outside, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: a build leaves folders behind."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        copy = shutil.copytree if (runs.ROOT / name).is_dir() else shutil.copy
        copy(runs.ROOT / name, source / name)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir=out")
    done = run(sys.executable, "-m", "pip", "wheel", *options, ".", cwd=source)
    assert done.returncode == 0, done.stderr
    return next((source / "out").glob("kd-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """``run`` of that installation's own commands; what kd needs is borrowed."""
    home = tmp_path_factory.mktemp("home")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    options = ("--no-deps", "--no-index", "--disable-pip-version-check")
    done = run(
        sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=home
    )
    assert done.returncode == 0, done.stderr

    def start(command, *arguments, cwd, before=""):
        path = os.pathsep.join(filter(None, [str(before), sysconfig.get_path("purelib")]))
        return run(home / "bin" / command, *arguments, cwd=cwd, PYTHONPATH=path)

    return start


def test_kd_is_the_only_package_at_the_top(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"kd"}
    assert "kd/repository/configs/digits.py" in names
    assert "kd/pages/report.html" in names


def test_every_module_is_in_it(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {"kd": "kd", "configs": "kd/repository/configs"}
    inside["experiments"] = "kd/repository/experiments"
    for package, place in inside.items():
        for path in (runs.ROOT / package).rglob("*.py"):
            assert f"{place}/{path.relative_to(runs.ROOT / package).as_posix()}" in names


def readme_commands():
    """Those under "From the command line", as they stand."""
    text = (runs.ROOT / "README.md").read_text("utf-8").partition("## From the command line")[2]
    block = re.search(r"```\n(.*?)```", text, re.DOTALL)[1]
    return [shlex.split(line) for line in block.splitlines() if line.startswith("kd ")]


def test_the_commands_of_the_readme_run_from_an_empty_folder(installed, tmp_path):
    commands = readme_commands()
    assert {command[1] for command in commands} >= {"train", "eval", "audit"}
    more = [["kd", "--help"], ["kd", "list"], ["kd", "export", "runs/student", "out"]]
    for command in [*commands, *more]:
        done = installed(*command, cwd=tmp_path)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert (tmp_path / "runs" / "student" / "audit" / "audit.html").is_file()
    assert (tmp_path / "out" / "model.stablehlo").is_file()


def test_an_experiments_own_code_is_found(installed, tmp_path):
    """What runs it, as far as it can be asked in a second, and what shows it."""
    config = ("--config=configs/hinton2015_digits.py:quick", "--config.seeds=(0,)")
    done = installed("kd", "reproduce", "hinton2015-digits", *config, cwd=tmp_path)
    assert done.returncode == 2
    assert "taking the one that ships with kd" in done.stderr
    assert "config.seeds and config.ensemble must hold at least 2" in done.stderr
    recorded = runs.ROOT / "experiments" / "hinton2015" / "digits" / "results.json"
    shutil.copy(recorded, tmp_path)
    done = installed("kd", "report", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "HELPS" in (tmp_path / "report.html").read_text("utf-8")


def test_an_experiment_is_the_same_one_as_in_a_clone(installed, tmp_path):
    """Training runs and computations alike: a run that was begun in one goes on in the other."""
    here = installed("python", "-c", STAGES, cwd=tmp_path)
    there = run(sys.executable, "-c", STAGES, cwd=tmp_path, PYTHONPATH=str(runs.ROOT))
    assert here.returncode == 0, here.stderr
    assert there.returncode == 0, there.stderr
    fingerprints = json.loads(here.stdout)
    assert fingerprints == json.loads(there.stdout)
    assert all(fingerprints.values())
    assert len(fingerprints["speech"]) > 1  # modules, followed as those of a clone are


def test_nothing_is_recorded_into_an_installation(installed, tmp_path):
    done = installed("kd", "reproduce", "hinton2015-digits", "--record", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "clone" in done.stderr


def test_another_package_named_experiments_is_named(installed, tmp_path):
    """The user's own is not looked into, and hides nothing without a word."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("EXPERIMENTS = {}\n")
    done = installed("kd", "list", cwd=tmp_path, before=tmp_path)
    assert done.returncode == 2
    assert str(tmp_path / "experiments") in done.stderr
    assert "PYTHONPATH" in done.stderr


def test_the_users_own_config_goes_before_the_one_that_ships(installed, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.py").write_text("raise SystemExit('mine')\n")
    done = installed("kd", "train", "--config=configs/digits.py", "--dry_run", cwd=tmp_path)
    assert "asks to exit, with 'mine'" in done.stderr


def test_a_config_is_looked_for_nowhere_else(installed, tmp_path):
    """Only what ships as a config: no other file inside of kd is one by its path."""
    for name in ("configs/digts.py", "experiments/index.py/..", "../shipped.py"):
        done = installed("kd", "train", f"--config={name}", "--dry_run", cwd=tmp_path)
        assert done.returncode == 2
        assert "no config file" in done.stderr, name


def test_a_clone_has_no_folder_inside():
    assert not pathlib.Path(runs.ROOT, "kd", "repository").exists()
