"""No file under a work directory can make kd import or call what kd does not ship; what a caller
types can.
"""

import contextlib
import copy
import json
import shutil

import pytest

import kd
import runs
import traps
from kd.cli.main import main
from kd.config import resolve
from kd.config.allowed import packages, stored_object
from kd.errors import KdError
from kd.runs.stages import Stage, run_stages
from kd.runs.workdir import find

OWN = {
    "student__name": "mine.models:net",
    "student__width": 8,
    "objective__hard__loss": "mine.losses:info",
    "data__source": "mine.data:digits",
}


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """On the path: the packages ``mine`` and ``trap``."""
    traps.packages(tmp_path / "packages")
    with traps.importable(tmp_path / "packages"):
        yield tmp_path


@pytest.fixture
def refused(capfd):
    def run(arguments, *words):
        capfd.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        said = capfd.readouterr().err.splitlines()
        assert len(said) == 1
        assert all(word in said[0] for word in words), said[0]

    return run


@pytest.fixture
def copied(tmp_path):
    """A finished run of its own, and a way to change its run.json."""
    shutil.copytree(runs.finished(), tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    whole = json.loads(file.read_text())

    def change(path, value):
        changed = copy.deepcopy(whole)
        traps.put(changed, path, value)
        runs.edit(file, **changed)
        return tmp_path / "run"

    return change


def test_no_string_of_a_run_is_code(copied):
    whole = json.loads((runs.finished() / "run.json").read_text())
    paths = list(traps.strings(whole))
    assert ("spec", "student", "name") in paths
    for path in paths:
        with contextlib.suppress(KdError):
            assert find(copied(path, "trap:go")).spec
        assert not traps.sprung(), path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("student",), {"name": "trap:go"}),
        (("data", "source"), "trap:go"),
        (("teacher", "model"), {"name": "trap:go"}),
        (("teacher", "source"), "trap:go"),
        (("objective", "hard"), {"loss": "trap:go"}),
        (("objective", "trap:go"), {"weight": 1.0}),
    ],
)
def test_every_command_refuses_code_of_a_run(copied, refused, path, value):
    run = copied(("spec", *path), value)
    words = f"{run / 'run.json'} names code of its own, 'trap:go'", "--allow_code=trap"
    refused(["eval", f"--workdir={run}"], *words)
    refused(["audit", run, runs.finished()], *words)
    refused(["audit", runs.finished(), run], *words)
    refused(runs.kd("train", f"--workdir={run}-2", arg="distilled", teacher__workdir=run), *words)
    with pytest.raises(KdError, match="trap:go"):
        kd.load_trained(run)
    assert not traps.sprung()


def test_a_run_cannot_allow_itself(copied):
    run = copied(("spec", "student", "name"), "trap:go")
    owner = json.loads((run / "run.json").read_text())
    runs.edit(run / "run.json", spec={**owner["spec"], "allow_code": ["trap"]})
    with pytest.raises(KdError, match="--allow_code=trap"):
        assert find(run).spec
    assert not traps.sprung()


@pytest.mark.parametrize("allow", ["", "mine", "runpy"])
@pytest.mark.parametrize("name", ["runpy:run_path", "os:system", "builtins:exec"])
def test_the_standard_library_is_never_called(copied, allow, name):
    run = copied(("spec", "data", "source"), name)
    with pytest.raises(KdError, match="standard library"):
        assert find(run, allow).spec


def test_own_code_is_asked_for_once_it_is_stored(folder, refused, monkeypatch, capfd):
    run = folder / "run"
    assert runs.train(run, **OWN) == 0
    assert runs.train(run, **OWN) == 0  # the same command, which names all that it reads
    refused(["eval", f"--workdir={run}"], f"{run / 'run.json'} names", "--allow_code=mine")
    capfd.readouterr()
    assert main(["eval", f"--workdir={run}", "--allow_code=mine"]) == 0
    first = capfd.readouterr().out
    monkeypatch.setenv("KD_ALLOW_CODE", "other,mine")
    assert main(["eval", f"--workdir={run}"]) == 0
    assert capfd.readouterr().out == first
    monkeypatch.delenv("KD_ALLOW_CODE")
    assert kd.load_trained(run, allow_code="mine").fingerprint == find(run).fingerprint
    assert kd.load_trained(run, allow_code=["mine.models", "mine.losses", "mine.data"])
    teacher = {"teacher__workdir": run, "arg": "distilled"}
    refused(runs.kd("train", f"--workdir={folder / 'student'}", **teacher), "--allow_code=mine")
    allowed = runs.kd("train", f"--workdir={folder / 'student'}", "--allow_code=mine", **teacher)
    assert main(allowed) == 0
    assert runs.train(folder / "same", **teacher, **OWN) == 0  # names that the caller typed


def test_a_stage_reads_what_the_experiment_names(tmp_path):
    config = runs.get_config("distilled")
    student = resolve(config)
    config.student, config.objective = {"name": "mine.models:net"}, {"hard": {"weight": 1.0}}
    stages = [Stage("teacher", resolve(config)), Stage("student", student, teacher="teacher")]
    done = run_stages(stages, tmp_path / "runs")
    assert done["teacher"].trained().fingerprint == find(done["teacher"].workdir).fingerprint
    with pytest.raises(KdError, match="--allow_code=mine"):
        kd.load_trained(done["teacher"].workdir)


def test_what_is_called_is_defined_where_it_is_allowed():
    for name in ("models:net", "models:narrow", "losses:info", "losses:hard", "data:digits"):
        assert stored_object(f"mine.{name}", "run.json", ["mine"])
    for name in ("models:mlp", "models:os", "models:functools", "losses:borrowed", "data:load"):
        with pytest.raises(KdError, match="does not define itself"):
            stored_object(f"mine.{name}", "run.json", ["mine"])
    with pytest.raises(KdError, match="names code of its own"):
        stored_object("minet.models:net", "run.json", ["mine"])
    with pytest.raises(KdError, match="not of the form"):
        stored_object("mine.models:net.__globals__", "run.json", ["mine"])


def test_a_whole_name_allows_that_object_alone():
    assert stored_object("mine.models:net", "run.json", ["mine.models:net"])
    with pytest.raises(KdError, match="names code of its own"):
        stored_object("mine.models:narrow", "run.json", ["mine.models:net"])


def test_allow_code_takes_packages():
    assert packages("a, b.c,") == packages(["a", "b.c"]) == ("a", "b.c")
    for wrong in ("a b", "../a", "a:b:c", ["a/b"]):
        with pytest.raises(KdError, match="allow_code takes names of packages"):
            packages(wrong)
    with pytest.raises(KdError, match="standard library"):
        packages("os.path")


def test_a_wrong_allow_code_is_one_line(refused):
    refused(["eval", f"--workdir={runs.finished()}", "--allow_code=a/b"], "allow_code", "'a/b'")
