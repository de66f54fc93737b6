"""Work directories of others, damaged ones, and runs that diverge."""

import contextlib
import os
import shutil

import numpy as np
import pytest

import runs
from kd.cli.main import main
from kd.errors import KdError
from kd.runs.workdir import Workdir, find


@pytest.mark.parametrize(
    ("rate", "evaluate", "what", "newest"),
    [
        (1e-8, None, "the loss is not finite at step 7; checkpoints of before stay", 7),
        (1e-8, 1 / 3, "the model's answers are not finite", 6),
        (10.0, 1 / 3, "the parameters are not finite at step 7; checkpoints of before stay", 6),
    ],
)
def test_a_run_that_diverges_keeps_its_last_good_checkpoint(
    rate, evaluate, what, newest, tmp_path, refused
):
    """The rate explodes half-way: after that the loss is infinite, or the answers, or the
    parameters.
    """
    schedule = {
        "learning_rate": rate,
        "learning_rate_schedule": {"shape": "piecewise", "points": ((50, 3e38),)},
    }
    keys = {
        "optim": schedule,
        "total_steps": 12,
        "checkpoint_epochs": 1 / 3,
        "eval_epochs": evaluate,
    }
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}", **keys)
    for _ in range(2):  # starting again does not help, and does no harm
        refused(command, what, "lower optim.learning_rate")
        kept = runs.restored(tmp_path / "run")
        assert kept["['step']"] == newest
        assert all(np.isfinite(leaf).all() for leaf in kept.values())


def test_a_run_that_diverges_at_once_leaves_its_folder_free(tmp_path, refused):
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}")
    refused(
        [*command, "--config.optim.learning_rate=1e30"],
        "not finite at step 1",
        "in a new work directory",
    )
    assert runs.main([*command, "--config.optim.learning_rate=0.01"]) == 0


def test_a_workdir_of_another_run(tmp_path, refused):
    shutil.copytree(runs.finished(), tmp_path / "run")
    before = runs.hashes(tmp_path / "run")
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}")
    changes = (
        "optim.learning_rate is 0.1 there and 0.2 here",
        "seed is 0 there and 3 here",
        "--workdir",
    )
    refused(
        [*command, "--config.optim.learning_rate=0.2", "--config.seed=3"], "another run", *changes
    )
    refused([*command, "--config.data.train=train[1:121]"], "data.train is 'train[:120]' there")
    for text in ("", "{", "{}", "[]"):
        (tmp_path / "run" / "run.json").write_text(text)
        refused(command, "run.json is damaged")
        refused(["eval", f"--workdir={tmp_path / 'run'}"], "run.json is damaged")
    shutil.copy(runs.finished() / "run.json", tmp_path / "run")
    assert runs.hashes(tmp_path / "run") == before


def test_folders_that_cannot_be_written(tmp_path, refused):
    (tmp_path / "file").write_text("")
    refused(
        runs.kd("train", f"--workdir={tmp_path}/file/run"),
        "cannot write work directory",
        "--workdir",
    )
    refused(
        ["reproduce", "hinton2015-digits", f"--workdir={tmp_path}/file/run"],
        "cannot write",
        "--workdir",
    )


def test_a_folder_that_is_read_only(tmp_path, refused, capfd):
    """Nothing can be trained into it; what lies in it can still be read."""
    with contextlib.ExitStack() as stack:
        folder = tmp_path / "disk"
        if os.geteuid() == 0:  # may write into any folder, but not onto a disk that is read-only
            stack.enter_context(runs.small_disk(folder))
        shutil.copytree(runs.finished(), folder / "run", dirs_exist_ok=True)
        with runs.read_only(folder / "run" if os.geteuid() else folder):
            refused(
                runs.kd("train", f"--workdir={folder / 'run'}"),
                "cannot write work directory",
                "--workdir",
            )
            assert main(["eval", f"--workdir={folder / 'run'}"]) == 0


def test_eval(tmp_path, refused):
    refused(["eval", f"--workdir={tmp_path}"], "not a work directory", "kd train")
    command = ["eval", f"--workdir={runs.finished()}"]
    refused([*command, "--split=tset"], "'tset'", "did you mean 'test'")
    refused([*command, f"--teacher={tmp_path}"], "not a work directory")
    refused([*command, "--config.seed=1"], "a run has a config of its own", "--config.seed=1")


def test_a_run_that_lost_its_name(tmp_path, refused):
    shutil.copytree(runs.finished(), tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    before = runs.hashes(tmp_path / "run")
    refused(
        runs.kd("train", f"--workdir={tmp_path / 'run'}"), "no run.json", "choose another --workdir"
    )
    assert runs.hashes(tmp_path / "run") == before


def test_two_processes_in_one_work_directory(tmp_path, refused):
    shutil.copytree(runs.finished(), tmp_path / "run")
    with find(tmp_path / "run").locked():
        refused(
            runs.kd("train", f"--workdir={tmp_path / 'run'}"),
            "another process is training",
            "wait for it",
        )
    assert runs.train(tmp_path / "run") == 0


def test_who_comes_second_does_not_rename_a_run_that_compiles(tmp_path, refused):
    Workdir(tmp_path / "run").path.mkdir()
    with Workdir(tmp_path / "run").locked():  # claimed, and nothing trained yet
        refused(runs.kd("train", f"--workdir={tmp_path / 'run'}"), "another process is training")
        assert not (tmp_path / "run" / "run.json").exists()


def test_a_run_of_a_longer_name_is_not_taken_for_a_stage(tmp_path):
    shutil.copytree(runs.finished(), tmp_path / "run-old")
    with pytest.raises(KdError, match="is not a work directory"):
        find(tmp_path / "run")
