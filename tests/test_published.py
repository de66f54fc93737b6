"""Published weights of PyTorch are as good here as their authors say, and teach from the command of
the README.
"""

import json
import os
import pathlib
import re
import zipfile

import pytest

import kd
import runs
from kd.cli.main import main
from kd.config import load_config

BESIDE = runs.ROOT.parent / "shared"
INPUTS = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
RIGHT = {20: 915, 32: 928, 56: 926}
"""Of the 1,000 test images, as the authors' code counts."""


def weights(depth):
    """The file of the network of that depth."""
    paths = list((BESIDE / "models" / "cifar10_resnets").glob(f"resnet{depth}-*.npz"))
    if not paths:
        pytest.skip(
            "no published weights: put resnet20-*.npz into ../shared/models/cifar10_resnets"
        )
    return paths[0]


@pytest.fixture(scope="module")
def images():
    for folder in (os.environ.get("KD_DATA_DIR"), BESIDE / "data"):
        path = pathlib.Path(folder or "nowhere", "images", "cifar10_31k.zip")
        if path.exists():
            return path
    pytest.skip("no CIFAR-10: set KD_DATA_DIR to a folder that holds images/cifar10_31k.zip")


def test_a_published_resnet_is_as_good_as_its_authors_say(images):
    """All three: ``docs/teachers.md`` has the command."""
    path = weights(20)
    data = kd.load(f"folder:{images}", "test")
    assert len(data) == 1000
    told = kd.load(f"weights:{path}", model={"name": "resnet", "depth": 20, **INPUTS})
    assert abs(1000 - int(told.errors(data)) - RIGHT[20]) <= 2
    blind = kd.load(f"weights:{path}", model={"name": "resnet", "depth": 20})
    assert blind.errors(data) > told.errors(data) + 20  # its preprocessing is a part of it


def test_the_config_says_what_the_weights_were_shown():
    told = load_config(runs.ROOT / "configs" / "cifar.py", "distil").teacher.model
    assert {key: tuple(told[key]) for key in INPUTS} == INPUTS


def few_of(images, path, count=40):
    """An archive of the first images of each split."""
    with zipfile.ZipFile(images) as whole, zipfile.ZipFile(path, "w") as part:
        for split in ("train", "test"):
            names = [name for name in whole.namelist() if name.startswith(f"{split}/")]
            for name in names[:count]:
                part.writestr(name, whole.read(name))


def test_the_command_of_the_readme_teaches_with_published_weights(images, tmp_path, monkeypatch):
    """On a few images, for a few steps."""
    text = (runs.ROOT / "README.md").read_text("utf-8")
    [line] = re.findall(r"^kd (train .*weights:resnet20\.npz.*)$", text, re.MULTILINE)
    (tmp_path / "configs").symlink_to(runs.ROOT / "configs")
    few_of(images, tmp_path / "cifar10.zip")
    (tmp_path / "resnet20.npz").symlink_to(weights(20))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KD_DATA_DIR", raising=False)
    few = {"data.batch_size": 16, "total_epochs": "none", "total_steps": 2, "mesh.devices": 1}
    assert main([*line.split(), *(f"--config.{k}={v}" for k, v in few.items())]) == 0
    lineage = json.loads((tmp_path / "runs/resnet8/run.json").read_text())["lineage"]
    assert lineage["teacher"]["source"].endswith(".npz")
    capable = kd.load(tmp_path / "runs" / "resnet8").logits(
        kd.load("folder:cifar10.zip", "test[:9]")
    )
    assert capable.shape == (9, 10)
