"""Stages and reports in a bucket: what is done is skipped, what was broken off is done again."""

import json

import numpy as np
import pytest

import runs
import stores
from kd.config import resolve
from kd.pages.report import write_report
from kd.runs.stages import Computation, Stage, run_stages
from kd.storage import BucketPath

BROKEN = []


def drawn(folder, done, *, seed):
    """Data of a later stage."""
    inputs = np.random.default_rng(seed).normal(size=(40, 5))
    split = {"inputs": inputs, "labels": np.arange(40) % 2}
    arrays = {f"{name}_{key}": split[key] for name in ("train", "test") for key in split}
    np.savez(folder / "drawn.npz", **arrays)
    if BROKEN:
        raise BROKEN.pop()
    return {"seed": seed}


def summed(folder, done):
    with np.load(done["drawn"].workdir / "drawn.npz") as stored:
        return {"sum": float(stored["train_inputs"].sum())}


def spec():
    return resolve(
        {
            "data": {"source": "npz:drawn.npz", "train": "train", "eval": "test", "batch_size": 20},
            "student": {"name": "mlp", "widths": (4,)},
            "objective": {"hard": {}},
            "total_steps": 2,
            "mesh": {"devices": 1},
        }
    )


def stages():
    options = {"options": {"seed": 3}}
    return [
        Computation("drawn", f"{__name__}:drawn", **options),
        Computation("summed", f"{__name__}:summed", needs=("drawn",)),
        Stage("trained", spec(), data="drawn"),
    ]


def test_stages_in_a_bucket(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_LEASE_SECONDS", "8")
    bucket, said = stores.fresh("gs"), []
    BROKEN.append(RuntimeError("broken off"))
    with pytest.raises(RuntimeError, match="broken off"):
        run_stages(stages(), bucket, said.append)
    done = run_stages(stages(), bucket, said.append)
    here = run_stages(stages(), tmp_path, said.append)
    for name, stage in here.items():
        assert done[name].fingerprint == stage.fingerprint
        assert done[name].evaluation == stage.evaluation
    runs.same_bytes(done["trained"].workdir, here["trained"].workdir)
    assert isinstance(done["trained"].workdir, BucketPath)
    said.clear()
    assert run_stages(stages(), bucket, said.append) == done
    assert [line.split(": ")[1] for line in said] == ["done before, skipped"] * 3


def test_a_report_in_a_bucket_is_that_of_a_disk(tmp_path):
    bucket = stores.fresh("s3")
    results = runs.ROOT / "experiments" / "hinton2015" / "digits" / "results.json"
    for folder in (bucket, tmp_path):
        (folder / "results.json").write_text(results.read_text("utf-8"), "utf-8")
        html = write_report(folder)
        assert html == folder / "report.html"
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert sorted(str(path.relative_to(bucket)) for path in bucket.rglob("*")) == names
    for name in names:
        assert (bucket / name).read_bytes() == (tmp_path / name).read_bytes()
    assert json.loads((bucket / "results.json").read_bytes())
