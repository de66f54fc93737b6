"""What a run has recorded is read as it was written: any edit is one line."""

import copy
import json
import shutil

import pytest

import runs
import traps
from kd.errors import KdError
from kd.runs.workdir import Workdir

READERS = {
    "run.json": lambda run: Workdir(run).owner,
    "evaluation.json": lambda run: Workdir(run).evaluation,
}


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(runs.finished(), tmp_path / "run")


def _leaves(content, path=()):
    keys = content if isinstance(content, dict) else range(len(content))
    for key in keys:
        yield (*path, key)
        if isinstance(content[key], (dict, list)):
            yield from _leaves(content[key], (*path, key))


@pytest.mark.parametrize("name", READERS)
def test_no_value_of_a_record_can_be_edited(run, name):
    whole = json.loads((run / name).read_text())
    assert READERS[name](run)
    for path in _leaves(whole):
        changed = copy.deepcopy(whole)
        traps.put(changed, path, "edited")
        (run / name).write_text(json.dumps(changed))
        with pytest.raises(KdError, match="is damaged"):
            READERS[name](run)


@pytest.mark.parametrize("name", READERS)
def test_a_record_of_an_earlier_version_is_read(run, name):
    whole = json.loads((run / name).read_text())
    content = READERS[name](run)
    del whole["digest"]
    (run / name).write_text(json.dumps(whole))
    assert READERS[name](run) == content == whole


def test_a_damaged_record_is_refused_before_a_step_is_taken(run, capfd):
    (run / "evaluation.json").write_text("{")
    (run / "metrics.jsonl").write_text("")
    before = runs.hashes(run)
    capfd.readouterr()
    assert runs.train(run) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("kd: ")
    assert "evaluation.json is damaged" in line
    assert runs.hashes(run) == before


def test_a_record_without_its_run_is_nobody_elses(run, capfd):
    """The folder of a run whose weights and metrics were removed is not free while its record is
    there.
    """
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.jsonl").unlink()
    assert runs.train(run, seed=7) == 2
    assert "belongs to another run" in capfd.readouterr().err
    assert runs.train(run) == 2
    assert "no checkpoints/ to continue from" in capfd.readouterr().err
    (run / "evaluation.json").unlink()
    assert runs.train(run, seed=7) == 0
