"""Small runs on the digits, through the command line: this file is their config
(``--config=tests/runs.py:ARG``).
"""

import atexit
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from kd.cli.main import main
from kd.config import base_config
from kd.runs.workdir import Workdir
from kd.storage import BucketPath
from kd.training.bucket_checkpoint import checkpoints_in

ROOT = pathlib.Path(__file__).resolve().parents[1]


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty for hard labels, ``distilled`` for a teacher too, ``population`` for two
    members, jittered.
    """
    config = base_config()
    config.data.train, config.data.eval = "train[:120]", "test[:60]"
    config.data.batch_size = 40
    config.student = {"name": "mlp", "widths": (8,)}
    config.objective = {"hard": {"weight": 1.0}}
    config.optim.learning_rate = 0.1
    config.total_steps = 6
    config.log_steps = 2
    config.mesh.devices = 1
    if arg:
        config.objective.soft_targets = {"weight": 0.5, "temperature": 2.0}
    if arg == "population":
        config.population = {"seed": (0, 1), "learning_rate": (0.1, 0.05)}
        config.student.hidden_dropout = 0.5
        config.data.jitter_pixels = 1
        config.teacher.precompute = False
    return config


def kd(command, *arguments, arg="", **keys):
    """Arguments of ``kd train ...``; `keys` are config keys, two underscores for a dot."""
    config = [f"--config={ROOT / 'tests' / 'runs.py'}:{arg}"] if command == "train" else []
    overrides = [f"--config.{key.replace('__', '.')}={value}" for key, value in keys.items()]
    return [command, *config, *map(str, arguments), *overrides]


def train(workdir, *arguments, arg="", **keys):
    """``kd train`` in this process: its exit code."""
    return main(kd("train", f"--workdir={workdir}", *arguments, arg=arg, **keys))


def edit(path, **changes):
    """Edit a JSON file of a run as somebody does who mends its digest too: None removes a key."""
    content = {**json.loads(path.read_text("utf-8")), **changes}
    kept = {key: value for key, value in content.items() if value is not None}
    Workdir(path.parent).write(path.name, kept)


def environment(devices):
    """That of a process on so many fake devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONWARNINGS": "error"}


def python(*arguments, devices=1):
    """A Python process of its own, on so many fake devices."""
    import stores  # not where this file is a config

    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    done.stderr = stores.without_its_line(done.stderr)
    return done


@functools.cache
def finished(arg=""):
    """A finished run, trained once in this process and shared: nobody may change it."""
    folder = shared()
    assert train(folder / "run", arg=arg, checkpoint_epochs=1) == 0
    return folder / "run"


def shared():
    """A folder for runs that tests share, in a bucket where theirs are."""
    if scheme := os.environ.get("KD_TESTS_IN"):
        import stores  # not where this file is a config

        return stores.fresh(scheme)
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def restored(workdir):
    """The newest checkpoint, as a dictionary from path to array."""
    checkpoints = checkpoints_in(workdir / "checkpoints", read_only=True)
    leaves = jax.tree_util.tree_leaves_with_path(checkpoints.restore())
    checkpoints.close()
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def losses(workdir):
    """The loss of every dispatch."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def same_bytes(first, other):
    """Both runs hold the same metrics and the same parameters, optimiser state and key, bit for
    bit.
    """
    a, b = restored(first), restored(other)
    assert a.keys() == b.keys()
    different = [path for path in a if a[path].tobytes() != b[path].tobytes()]
    assert not different
    for name in ("metrics.jsonl", "evaluation.json"):
        assert (first / name).read_text() == (other / name).read_text()


@contextlib.contextmanager
def small_disk(folder):
    """A disk of 2 MB at `folder`; skips the test where it cannot be mounted."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", *options], capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder):
    """Make a folder that holds a disk (for root), or any folder (for others), read-only for a
    while.
    """

    def switch(mode, bits):
        if os.geteuid() == 0:
            subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)
        else:
            folder.chmod(bits)

    switch("ro", 0o555)
    try:
        yield
    finally:
        switch("rw", 0o755)


def lines(workdir):
    """The metrics of a run, an object per line."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def copied(folder, place):
    """All files of a folder, in another place."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = place / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


def removed(folder):
    """None of its files is left, and on a disk no folder."""
    if folder.exists() and not isinstance(folder, BucketPath):
        shutil.rmtree(folder)
    for path in folder.rglob("*"):
        path.unlink(missing_ok=True)


def moved(folder, place):
    copied(folder, place)
    removed(folder)


def hashes(folder):
    """Every file below `folder` and the hash of what it holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
