"""Several processes of one run whose work directory lies in a bucket."""

import pytest

import processes
import runs
import stores

KEYS = {
    "total_steps": 8,
    "log_steps": 1,
    "student__widths": (128,),
    "checkpoint_epochs": 1,
    "data__stream": True,
    "teacher__precompute": False,
    "mesh__devices": None,
    "mesh__fsdp": 2,
    "sharding__student__rule": "fsdp",
}


def train(workdir, fault="none:"):
    """The exit codes of two processes with two devices each, and what they said on stderr."""
    keys = {"teacher__workdir": runs.finished(), **KEYS}
    command = runs.kd("train", f"--workdir={workdir}", arg="distilled", **keys)
    return [(code, err) for code, _, err in processes.trained(command, fault)]


@pytest.mark.parametrize("scheme", stores.SCHEMES[:1])
def test_two_processes_stop_in_a_bucket_and_end_with_the_bytes_of_a_disk(scheme, tmp_path):
    """Each writes its own pieces, and reads those of its devices."""
    bucket = stores.fresh(scheme) / "run"
    stopped = train(bucket, "SIGTERM:4")
    assert [code for code, _ in stopped] == [143, 143], stopped
    step = int(runs.restored(bucket)["['step']"])
    assert 4 <= step < 8
    written = [path.name for path in (bucket / "checkpoints" / "steps" / str(step)).rglob("*")]
    assert {"index.json", "process-1.json"} <= set(written)
    for workdir in (bucket, tmp_path / "run"):
        ended = train(workdir)
        assert [code for code, _ in ended] == [0, 0], ended
    runs.same_bytes(bucket, tmp_path / "run")
