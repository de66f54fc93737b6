"""A short version of every fault, and the page of the long one:
``python -m tests.faults --record``.

Elsewhere: SIGTERM and SIGINT, and a checkpoint half written, in test_resume.py, test_streamed.py
  and test_processes.py;
every damage that a checkpoint can have in test_checkpoint.py; a process that is lost in a
collective in test_distributed.py.
"""

import argparse
import json
import logging
import re

import jax.numpy as jnp
import numpy as np
import pytest

import runs
from faults import __main__ as long
from faults import kinds, page
from faults.cases import CASES, Case, difference, teacher, whole
from faults.child import Fault, Striker
from kd.data import pipeline
from kd.errors import KdError
from kd.training.checkpoint import Checkpoints

SHORT = [Case(1, cached=True, accumulate=2), Case(8), Case(8, stream=True, accumulate=2)]


def exact(row, tried):
    if row.skipped:
        pytest.skip(row.skipped)
    assert (row.wrong, row.exact, row.tried) == ([], tried, tried)


@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.words)
def test_killed_at_random(case):
    exact(kinds.killed(case, 2, np.random.default_rng(0)), 2)


def test_one_of_two_processes_is_killed():
    row = kinds.one_of_two_lost(1, 1, np.random.default_rng(0), patience=5.0)
    exact(row, 1)
    assert row.slowest >= 4.0  # it was not the other's end that ended it


@pytest.mark.parametrize("kind", ["a bit flipped"])
def test_the_newest_checkpoint_is_damaged(kind):
    exact(kinds.damaged(SHORT[-1], kind, 1, np.random.default_rng(0)), 1)


def test_the_disk_fills_while_it_trains():
    exact(kinds.disk_full(SHORT[-1], 1, np.random.default_rng(0)), 1)


def test_other_bytes_are_noticed():
    """What all this rests on: another run is not the same run, and a fault that did not strike is
    no success.
    """
    assert difference(teacher(), whole(SHORT[-1])[0])
    row = kinds.Row("a fault", "somewhere")
    row.add("other bytes", 3)
    assert (row.tried, row.exact, row.wrong) == (3, 0, ["other bytes"])


def test_a_disk_that_fills_behind_the_claim_of_room_is_named(tmp_path, monkeypatch):
    """Another writer took the room: the cause comes from TensorStore, at the end of a long text."""
    monkeypatch.setattr(Checkpoints, "_claim_room", lambda *_: None)
    with runs.small_disk(tmp_path / "disk") as disk:
        checkpoints = Checkpoints(disk / "checkpoints")
        checkpoints.save(2, {"x": jnp.zeros(1000)})
        checkpoints.wait()
        checkpoints.save(4, {"x": np.random.default_rng(0).normal(size=10**6)})
        with pytest.raises(
            KdError, match=r"step 4 in .*: No space left on device; the one of step 2 stays; free"
        ):
            checkpoints.wait()
        checkpoints.close()
        assert Checkpoints(disk / "checkpoints").restore()["x"].shape == (1000,)


def test_a_stream_does_not_let_checkpoints_speak_again(tmp_path):
    """Both keep absl's logger quiet; of two wishes the quieter counts."""
    logger = logging.getLogger("absl")
    Checkpoints(tmp_path).close()
    quiet = logger.level
    pipeline.Batches(lambda *_: {}, 0, 1, {"num_threads": 0, "prefetch_buffer_size": 1}, {}).close()
    assert logger.level == quiet > logging.ERROR


@pytest.mark.parametrize("limit", [1, 4])
def test_a_fault_strikes_once_at_its_event(limit, tmp_path, monkeypatch):
    struck = []
    striker = Striker(
        Fault("kill", "events", (limit - 0.5) / 10, 10.0), tmp_path, tmp_path / "report.json"
    )
    monkeypatch.setattr(striker, "strike", lambda: struck.append(striker.events))
    striker.hear("os.rename", ("a", "b"))  # before the first step
    striker.begin()
    for number in range(10):
        striker.hear("open", ("/elsewhere", "r", 0))
        striker.hear("open", (str(tmp_path / str(number)), "r", 0))
    assert struck == [limit]


def test_cached_and_streamed_is_the_only_combination_left_out():
    assert len(set(CASES)) == len(CASES) == 12
    assert not any(case.cached and case.stream for case in CASES)


def test_the_page_holds_the_results():
    results = json.loads(page.RESULTS.read_text("utf-8"))
    options = argparse.Namespace(kills=20, others=6)
    assert [row["name"] for row in results["rows"]] == long.names(options)
    assert all(row["tried"] or row["skipped"] for row in results["rows"])
    text = page.PAGE.read_text("utf-8")
    block = re.search(r"<!-- faults -->\n(.*)\n<!-- /faults -->", text, re.DOTALL)
    assert block is not None
    assert block[1] == page.markdown(results)
