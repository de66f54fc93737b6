"""Streamed data is data in memory, read later: the same batches, the same losses, the same bytes
after a stop.
"""

import json
import signal

import jax
import numpy as np
import pytest

import faulty
import runs
from kd.training import writers

STREAMED = {"data__stream": True}
LIVE = {"teacher__precompute": False}
CADENCE = {
    "total_steps": 18,
    "checkpoint_epochs": 2,
    "eval_epochs": 1,
    "log_steps": 4,
}  # a line is not a checkpoint


def losses(workdir):
    return np.asarray([line["loss"] for line in runs.lines(workdir) if "loss" in line])


@pytest.mark.parametrize("arg", ["", "distilled", "population"])
def test_streamed_is_in_memory(arg, tmp_path):
    keys = {"teacher__workdir": runs.finished(), **LIVE} if arg else {}
    assert runs.train(tmp_path / "memory", arg=arg, **keys) == 0
    assert runs.train(tmp_path / "streamed", arg=arg, **STREAMED, **keys) == 0
    np.testing.assert_allclose(
        losses(tmp_path / "streamed"), losses(tmp_path / "memory"), rtol=1e-6
    )
    evaluations = [
        json.loads((tmp_path / name / "evaluation.json").read_text())
        for name in ("memory", "streamed")
    ]
    for member, other in zip(*(e["members"] for e in evaluations), strict=True):
        assert member["wrong"] == other["wrong"]
        assert member["nll"] == pytest.approx(other["nll"], rel=1e-5)
    memory, streamed = (runs.restored(tmp_path / name) for name in ("memory", "streamed"))
    assert memory.keys() == streamed.keys()
    for path, leaf in memory.items():
        np.testing.assert_allclose(streamed[path], leaf, rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("devices", [1, 8])
def test_stopped_within_a_line_and_killed_and_started_again(devices, tmp_path):
    keys = {
        "teacher__workdir": runs.finished(),
        "mesh__devices": devices,
        **LIVE,
        **STREAMED,
        **CADENCE,
        "accumulate": 5,
    }
    if devices == 8:
        keys |= {"mesh__fsdp": 2, "sharding__student__rule": "fsdp", "accumulate": 1, "ema": 0.5}

    def start(fault, workdir):
        command = runs.kd("train", f"--workdir={workdir}", arg="population", **keys)
        return runs.python("tests/faulty.py", fault, *command, devices=devices)

    assert start("none:", tmp_path / "whole").returncode == 0
    broken = tmp_path / "broken"
    for fault, code in (
        ("SIGTERM:6", 128 + signal.SIGTERM),
        ("line:12", -signal.SIGKILL),
        ("none:", 0),
    ):
        done = start(fault, broken)
        assert done.returncode == code, done.stderr
    runs.same_bytes(broken, tmp_path / "whole")
    assert losses(tmp_path / "whole").shape[0] > 5


def test_a_stop_in_the_midst_of_a_line_loses_nothing_of_it(tmp_path, monkeypatch):
    """The steps of the line that were taken are in the checkpoint, to the bit."""
    assert runs.train(tmp_path / "whole", **STREAMED, **CADENCE) == 0
    stopping = {
        3: 5,
        9: 10,
    }  # a line is written at step 3: stop at once, two steps into the next line

    def stop_at(step):
        monkeypatch.setattr(writers, "jsonl", writers.jsonl)
        faulty.at_line(step, "SIGTERM")

    for step in stopping:
        stop_at(step)
        assert runs.train(tmp_path / "broken", **STREAMED, **CADENCE) == 128 + signal.SIGTERM
        monkeypatch.undo()
        at = int(runs.restored(tmp_path / "broken")["['step']"])
        assert at > step
    assert runs.train(tmp_path / "broken", **STREAMED, **CADENCE) == 0
    runs.same_bytes(tmp_path / "broken", tmp_path / "whole")


def test_the_position_of_another_data_set_is_refused(tmp_path, capfd, monkeypatch):
    from kd.runs import workdir as kd_workdir

    monkeypatch.setattr(writers, "jsonl", writers.jsonl)
    faulty.at_line(3, "SIGTERM")
    assert runs.train(tmp_path / "run", **STREAMED, **CADENCE) == 128 + signal.SIGTERM
    monkeypatch.undo()
    before = runs.hashes(tmp_path / "run" / "checkpoints")
    monkeypatch.setattr(kd_workdir, "_difference", lambda *_: "")
    owner = json.loads((tmp_path / "run" / "run.json").read_text())
    capfd.readouterr()
    real = kd_workdir.fingerprint_of
    monkeypatch.setattr(
        kd_workdir,
        "fingerprint_of",
        lambda who: owner["fingerprint"] if "data_fingerprint" in who else real(who),
    )
    assert runs.train(tmp_path / "run", **STREAMED, **CADENCE, data__train="train[120:240]") == 2
    message = capfd.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("kd: ")
    assert "data set" in message
    assert runs.hashes(tmp_path / "run" / "checkpoints") == before


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"data__flip": True}, "set config.data.stream=true too"),
        ({"data__stream": True, "data__crop": "random"}, "set config.data.image_size"),
        ({"data__stream": True, "data__image_size": 0}, "config.data.image_size must be 1 or more"),
        ({"data__examples": 7}, "config.data.examples declares 7 and train[:120] has 120"),
        ({"ema": 1.0}, "config.ema is a decay"),
        ({"accumulate": 0}, "config.accumulate must be 1 or more"),
        ({"accumulate": 3}, "batch_size 40 does not divide over 3 parts"),
        (
            {"mesh__fsdp": 3},
            "the mesh data 1 x fsdp 3 x tensor 1 x member 1 has 3 places and there is 1 device",
        ),
        ({"mesh__member": 2, "mesh__devices": 2}, "mesh.member is 2 and this is a single run"),
        ({"sharding__student__paths": {"Dense_9/*": ("fsdp",)}}, "no parameter matches"),
        ({"sharding__student__rule": "fspd"}, "config.sharding.student.rule must be"),
        ({"data__mixup": True, "data__jitter_pixels": 1}, "objective.hard needs labels"),
        ({"optim__clip_norm": -1.0}, "optim.clip_norm must be 0 or more"),
    ],
)
def test_bad_input(keys, words, tmp_path, capfd):
    assert runs.train(tmp_path / "run", **keys) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert words in line
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_cached_teacher_cannot_answer_for_what_is_streamed(tmp_path, capfd):
    keys = {"teacher__workdir": runs.finished(), "data__stream": True}
    assert runs.train(tmp_path / "run", arg="distilled", **keys) == 2
    assert "config.teacher.precompute" in capfd.readouterr().err


def test_the_result_is_the_average(tmp_path):
    from kd.runs.load import load_trained

    assert runs.train(tmp_path / "run", ema=0.5) == 0
    saved = runs.restored(tmp_path / "run")
    trained = jax.tree_util.tree_leaves_with_path(load_trained(tmp_path / "run").params)
    for path, leaf in trained:
        np.testing.assert_array_equal(saved["['ema']" + jax.tree_util.keystr(path)], leaf)
        assert np.any(saved["['params']" + jax.tree_util.keystr(path)] != leaf)
