"""A command that must refuse in one line, and a run that must be as it was."""

import pytest

import runs
from kd.cli.main import main


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
