"""A run that was killed or stopped anywhere, and started again, ends with the bytes of one that
never was.
"""

import signal
import subprocess
import sys

import pytest

import faulty
import runs
from kd.processes.signals import StopSignals
from kd.runs.load import load_trained
from kd.training import loop, writers

CADENCE = {
    "total_steps": 18,
    "checkpoint_epochs": 2,
    "eval_epochs": 1,
}  # 3 steps an epoch: checkpoints of 6, 12, 18
SIGKILL, SIGTERM, SIGINT = -signal.SIGKILL, 128 + signal.SIGTERM, 128 + signal.SIGINT  # exit codes
FAULTS = {
    1: [  # where it breaks off, exit code, newest whole checkpoint
        ("line:4", SIGKILL, None),  # before the first checkpoint
        ("SIGTERM:8", SIGTERM, 9),  # step 9 was under way: it is finished and saved
        ("commit:12", SIGKILL, 9),
        ("sums:18", SIGKILL, 12),
    ],
    8: [("compile:", SIGINT, None), ("SIGINT:14", SIGINT, 15), ("line:18", SIGKILL, 15)],
}


def start(fault, workdir, teacher, devices=1):
    """`kd train` of the population in a process of its own."""
    keys = {"teacher__workdir": teacher, "mesh__devices": devices, **CADENCE}
    command = runs.kd("train", f"--workdir={workdir}", arg="population", **keys)
    return runs.python("tests/faulty.py", fault, *command, devices=devices)


@pytest.mark.parametrize("devices", FAULTS)
def test_killed_and_stopped_and_started_again(devices, tmp_path):
    whole, broken, teacher = tmp_path / "whole", tmp_path / "broken", runs.finished()
    assert start("none:", whole, teacher, devices).returncode == 0
    for fault, code, newest in FAULTS[devices]:
        done = start(fault, broken, teacher, devices)
        assert done.returncode == code, (fault, done.stderr)
        assert not (broken / "evaluation.json").exists()
        if code > 0:
            after = f" after step {newest}" if newest else ""
            message = (
                f"kd: stopped by {signal.Signals(code - 128).name}{after}; the same command "
                "continues"
            )
            assert message in done.stderr.splitlines()
            assert "Traceback" not in done.stderr
        if newest is not None:
            assert runs.restored(broken)["['step']"].tolist() == [newest, newest]
    done = start("none:", broken, teacher, devices)
    assert done.returncode == 0, done.stderr
    runs.same_bytes(broken, whole)
    assert runs.restored(whole)["['step']"].tolist() == [18, 18]


def test_a_run_is_read_while_it_trains(tmp_path, capfd):
    """Checkpoints come and go, and every one that is read is whole; what is being written is no
    damage.
    """
    keys = {"total_steps": 120, "checkpoint_epochs": 1 / 3, "log_steps": 1, "mesh__devices": 1}
    command = [
        sys.executable,
        "-m",
        "kd.cli",
        *runs.kd("train", f"--workdir={tmp_path / 'run'}", **keys),
    ]
    training = subprocess.Popen(
        command, env=runs.environment(1), cwd=runs.ROOT, stderr=subprocess.DEVNULL
    )
    reads, sums = 0, tmp_path / "run" / "checkpoints" / "checksums"
    while training.poll() is None:
        if list(sums.glob("*.json")):
            assert load_trained(tmp_path / "run").params
            reads += 1
    assert training.wait() == 0
    assert reads > 2
    assert "damaged" not in capfd.readouterr().out


def test_a_signal_in_the_last_step_is_not_forgotten(tmp_path, monkeypatch, capfd):
    """Otherwise the next stage of an experiment would start."""
    monkeypatch.setattr(writers, "jsonl", writers.jsonl)  # restores it afterwards
    faulty.at_line(6, "SIGTERM")
    workdir = tmp_path / "run"
    assert runs.train(workdir, checkpoint_epochs=1) == SIGTERM
    assert (
        "kd: stopped by SIGTERM after step 6; the same command continues" in capfd.readouterr().err
    )
    monkeypatch.undo()
    assert runs.train(workdir, checkpoint_epochs=1) == 0
    runs.same_bytes(workdir, runs.finished())


@pytest.fixture
def interruptible():
    """SIGINT means what it means in the foreground: a shell ignores it for what it starts in the
    background.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_second_sigint_interrupts_at_once():
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with (
        StopSignals(noting=False),
        pytest.raises(KeyboardInterrupt),
    ):  # nowhere to save: nothing to wait for
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_outside_the_steps_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(loop, "run", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert runs.train(tmp_path / "run") == SIGINT
    assert capfd.readouterr().err == "kd: stopped by SIGINT; the same command continues\n"
