"""Benches of several processes and of runs that are killed: tiny, and their tables."""

import json

import numpy as np

import runs
from bench import agreement, buckets, cpu, lost_work, report
from bench.claims import spread
from kd.evidence import machine

HERE = cpu.name({**machine(), **cpu.here()})


def test_processes_that_agree_are_timed(tmp_path):
    out, sizes = tmp_path / "results.json", "--processes 2 --dispatches 5 --repeats 2"
    assert agreement.main([*sizes.split(), "--out", str(out)]) == 0
    entry = json.loads(out.read_text())["machines"][HERE]["agreement"]
    assert len(entry["ms"]["all"]) == 2
    assert entry["met"] == (entry["ms"]["median"] <= agreement.REACH)
    text = report.OTHERS["agreement"](entry, HERE)
    assert "2 processes of one machine" in text
    assert f"python -m bench.agreement {sizes}" in text


def test_a_kill_loses_what_was_done_since_the_last_copy():
    """Less than a checkpoint would leave: 30 dispatches of 30 ms."""
    sizes = "--kills 1 --checkpoint 30 --dispatch_ms 30"
    [lost] = lost_work.measured(lost_work._parser().parse_args(sizes.split()), 2)
    assert 0 <= lost < 0.9


def test_the_table_of_lost_work():
    seconds = {"without": spread(np.asarray([1.0, 2.0])), "with": spread(np.asarray([0.25, 0.5]))}
    entry = {"kills": 2, "dispatch_ms": 50.0, "checkpoint": 60, "copy": 6, "seconds": seconds}
    entry |= {"versions": {"jax": "0"}, "command": "python -m bench.lost_work"}
    text = report.OTHERS["lost work"](entry, HERE)
    assert "| 1.50 (1.25 to 1.75) | 2.00 | 0.38 (0.31 to 0.44) | 0.50 |" in text


SAVED = """
import json
from bench import buckets
with buckets.emulator() as bucket:
    print(json.dumps(buckets.checkpoints(bucket, 40_000, 1)))
"""


def test_a_checkpoint_in_a_bucket_is_timed_and_read_once():
    done = runs.python("-c", SAVED)  # TensorStore of a process keeps to the first emulator it meets
    assert done.returncode == 0, done.stderr
    saved = json.loads(done.stdout.splitlines()[-1])
    assert 1 < saved["read"] < 1.02
    assert 0 < saved["save"]["median"] < 1
    seconds = spread(np.asarray([1.0, 2.0]))
    entry = dict.fromkeys(("start bucket", "start disk", "metrics", "dispatch ms"), seconds)
    entry |= {**saved, "reach": buckets.REACH, "floats": 66_000_000, "repeats": 1}
    entry |= {"machine": {"load_before": 0, "load_after": 1}, "versions": {"jax": "0"}}
    text = report.OTHERS["buckets"]({**entry, "command": "python"}, HERE)
    assert "a checkpoint of 264 MB stalls the loop" in text
    assert f"| {saved['read']:.3f} | at most 1.01 |" in text
    assert "| 150.00% (100.00 to 200.00) | at most 1% | no |" in text
