"""Two processes with two devices each are one process with four, and one device: the same losses,
the same order.
"""

import json
import re

import numpy as np
import pytest

import processes
import runs

LAYOUT = {"mesh__fsdp": 2, "sharding__student__rule": "fsdp", "sharding__teacher__rule": "fsdp"}
SHORT = {"total_steps": 8, "log_steps": 1, "student__widths": (128,), "checkpoint_epochs": 1}


def command(workdir, keys):
    keys = {"teacher__workdir": runs.finished(), "mesh__devices": None, **SHORT, **keys}
    return runs.kd("train", f"--workdir={workdir}", arg="distilled", **keys)


def alone(workdir, devices, **keys):
    done = runs.python("-m", "kd.cli", *command(workdir, keys), devices=devices)
    assert done.returncode == 0, done.stderr
    return losses(workdir)


def losses(workdir):
    return np.asarray([line["loss"] for line in runs.lines(workdir) if "loss" in line])


def pair(workdir, **keys):
    ended = processes.trained(command(workdir, keys))
    assert [code for code, _, _ in ended] == [0, 0], ended
    return ended


@pytest.mark.parametrize("stream", [False, True])
def test_two_processes_are_one(stream, tmp_path):
    keys = {
        "data__stream": stream,
        "teacher__precompute": False,
        "data__eval": "test[:50]",
    }  # uneven over 4
    ended = pair(tmp_path / "pair", **keys, **LAYOUT)
    single = alone(tmp_path / "one", 1, **keys)
    four = alone(tmp_path / "four", 4, **keys, **LAYOUT)
    np.testing.assert_allclose(four, single, rtol=1e-6)
    np.testing.assert_allclose(losses(tmp_path / "pair"), single, rtol=1e-6)
    wrong = [
        json.loads((tmp_path / who / "evaluation.json").read_text())["members"][0]["wrong"]
        for who in ("pair", "one")
    ]
    assert wrong[0] == wrong[1]
    assert "accuracy" in ended[0][1]
    assert [
        line
        for line in ended[1][1].splitlines()
        if "[Gloo]" not in line and "peer ranks" not in line
    ] == []  # process 0 speaks
    a, b = runs.restored(tmp_path / "pair"), runs.restored(tmp_path / "one")
    for path, leaf in b.items():
        np.testing.assert_allclose(a[path], leaf, rtol=1e-4, atol=1e-5, err_msg=path)


def test_what_a_pair_saved_one_goes_on_with_and_back(tmp_path):
    keys = {"data__stream": True, "teacher__precompute": False}
    whole = alone(tmp_path / "whole", 1, **keys)
    broken = tmp_path / "broken"
    ended = processes.trained(command(broken, {**keys, **LAYOUT}), fault="SIGTERM:4")
    assert [code for code, _, _ in ended] == [143, 143]
    at = int(runs.restored(broken)["['step']"])
    assert 4 <= at < 8
    for _, _, err in ended:
        assert f"kd: stopped by SIGTERM after step {at}; the same command continues" in err
    np.testing.assert_allclose(alone(broken, 8, **keys, mesh__fsdp=4), whole, rtol=1e-5)


def test_processes_with_different_configs_and_clocks_say_so(tmp_path):
    mine, theirs = command(tmp_path / "run", {}), command(tmp_path / "run", {"seed": 7})
    ended = processes.ended(
        [
            *processes.launch_training(
                mine, "clock:42", indices=[0], address=(at := processes.address())
            ),
            *processes.launch_training(theirs, indices=[1], address=at),
        ]
    )
    warned, said = ended[0][2].split("\n", 1)
    assert re.fullmatch(
        r"train: process 1 \(.*\): this clock is 42\.\d s behind that of .*", warned
    )
    ended[0] = (*ended[0][:2], said)
    assert [code for code, _, _ in ended] == [2, 2]
    for _, _, err in ended:
        (line,) = err.strip().splitlines()
        assert "the processes do not train the same run: config is" in line
    assert not (tmp_path / "run" / "checkpoints").exists()
