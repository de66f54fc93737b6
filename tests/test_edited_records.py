"""What a run has recorded is read as it was written: any edit is one line."""

import copy
import json
import shutil

import pytest

import runs
import traps
from kd.errors import KdError
from kd.workdir import Workdir

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
