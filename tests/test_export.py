"""What is exported answers where kd is not: the same logits from the numbers as they are stored."""

import json
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest
import safetensors.numpy

import kd
import runs
import tiny
from kd.cli.main import main
from kd.models import vit

TERMS = [kd.term("hard")]
POPULATION = kd.product(seed=range(2))

OUTSIDE = """
import sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("kd", "flax", "optax"):
            raise ImportError(name)

sys.meta_path.insert(0, Gone())
import jax.export
import numpy as np

program, inputs, outputs = sys.argv[1:]
run = jax.export.deserialize(bytearray(open(program, "rb").read()))
stored = np.load(inputs)
logits = [np.asarray(run.call(stored[:n])) for n in (1, 3, len(stored))]
assert not {"kd", "flax"} & set(sys.modules)
assert [len(one) for one in logits] == [1, 3, len(stored)]
np.testing.assert_allclose(logits[0], logits[2][:1], 1e-5, 1e-6)
np.save(outputs, logits[2])
"""


def outside(folder, stored, tmp_path):
    """Logits of an exported program for inputs as they are stored, where no kd can be imported."""
    np.save(tmp_path / "inputs.npy", stored)
    paths = [folder / "model.stablehlo", tmp_path / "inputs.npy", tmp_path / "outputs.npy"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", OUTSIDE, *map(str, paths)],
        cwd=tmp_path,
        env=runs.environment(1),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.load(tmp_path / "outputs.npy")


def test_the_number_on_disk_is_the_number_the_model_sees(tmp_path):
    """Bytes in, logits out: the scale is inside."""
    assert main(["export", str(runs.finished()), str(tmp_path / "out")]) == 0
    data = kd.load("digits", "test[:60]")
    assert data.inputs.dtype == np.uint8
    trained = kd.load(runs.finished())
    logits = outside(tmp_path / "out", data.inputs, tmp_path)
    np.testing.assert_allclose(logits, trained.logits(data), rtol=1e-5, atol=1e-6)
    page = json.loads((tmp_path / "out" / "config.json").read_text())
    assert page["inputs"]["scale"] == 1 / 16
    assert page["inputs"]["shape"] == [8, 8]
    assert page["model"]["name"] == "mlp"
    assert page["model"]["options"]["widths"] == [8]
    assert page["platforms"] == ["cpu", "cuda", "tpu"]
    assert page["num_classes"] == 10
    back = kd.load(tmp_path / "out")
    assert back.logits(data).tobytes() == trained.logits(data).tobytes()


def windows():
    random = np.random.default_rng(0)
    frames = random.normal(size=(70, 5)).astype(np.float64)
    labels = np.arange(60) % tiny.CLASSES
    return kd.arrays(frames, labels, starts=np.arange(60, dtype=np.int32), window=4)


def tokens():
    """Windows of text, with a class for each place."""
    text = np.random.default_rng(0).integers(0, 7, 70).astype(np.uint16)
    labels = np.stack([text[i + 1 : i + 5] % tiny.CLASSES for i in range(60)])
    options = {"ids": True, "positions": (4,), "num_classes": tiny.CLASSES}
    return kd.arrays(text, labels, starts=np.arange(60), window=4, **options)


class Normed(nn.Module):
    """Answers by running means, not by those of the batch that it is asked about."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dense(5)(x.mean(axis=1))


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(5)(x.reshape(x.shape[0], -1))


class Tagger(nn.Module):
    """Logits for each place of a row of tokens, which have to be whole numbers."""

    @nn.compact
    def __call__(self, x):
        assert np.issubdtype(x.dtype, np.integer)
        return nn.Dense(tiny.CLASSES)(nn.Embed(7, 3)(x))


CASES = {
    "a vit": (lambda: vit(5, "Ti/2", width=8, depth=2, heads=2), tiny.dataset),
    "windows of frames, float64": (lambda: tiny.DROPPING, windows),
    "a module with batch statistics": (lambda: Normed(), tiny.dataset),
    "a module that flattens by the shape": (lambda: Flat(), tiny.dataset),
    "a model of tokens that answers for each": (Tagger, tokens),
}


@pytest.mark.parametrize("name", CASES)
def test_any_model_of_any_inputs_answers_outside(name, tmp_path):
    make, data = CASES[name][0], CASES[name][1]()
    trained = kd.fit(make(), data, TERMS, epochs=1, batch_size=16)
    assert bool(trained.extra) == ("batch statistics" in name)
    trained.export(tmp_path / "out", format="stablehlo")
    assert not (tmp_path / "out" / "model.safetensors").exists()
    logits = outside(tmp_path / "out", data.inputs[:], tmp_path)
    np.testing.assert_allclose(logits, trained.logits(data), rtol=1e-5, atol=1e-6)
    with pytest.raises(kd.KdError, match="a program and no arrays"):
        kd.load(tmp_path / "out")


def test_the_arrays_are_those_of_the_student(tmp_path):
    done = main(["export", str(runs.finished()), str(tmp_path / "out"), "--format=safetensors"])
    assert done == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
        "bom.cdx.json",
    }
    arrays = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    params = jax.tree_util.tree_leaves_with_path(kd.load(runs.finished()).params)
    assert len(arrays) == len(params)
    for path, leaf in params:
        name = "params/" + jax.tree_util.keystr(path, simple=True, separator="/")
        assert arrays[name].tobytes() == np.asarray(leaf).tobytes()


def test_a_population_is_exported_member_by_member(tmp_path, capsys):
    seeds = {"population__seed": "(0,1)"}
    assert runs.train(tmp_path / "run", **seeds) == 0
    command = ["export", str(tmp_path / "run"), str(tmp_path / "out")]
    assert main(command) == 2
    assert "population of 2 members" in capsys.readouterr().err
    assert main([*command, "--member=2"]) == 2
    assert "2 members, from 0" in capsys.readouterr().err
    assert main([*command, "--member=one"]) == 2
    assert "--member must be a member" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--member=1"]) == 0
    data = kd.load("digits", "test[:60]")
    whole = kd.load(tmp_path / "run").logits(data)
    logits = outside(tmp_path / "out", data.inputs, tmp_path)
    np.testing.assert_allclose(logits, whole[1], rtol=1e-5, atol=1e-6)
    assert tiny.differ(logits, whole[0])
    before = runs.hashes(tmp_path / "out")
    assert main([*command, "--member=0"]) == 2
    assert "already" in capsys.readouterr().err
    assert runs.hashes(tmp_path / "out") == before


def test_a_run_that_has_not_arrived_is_not_exported(tmp_path, capsys):
    assert runs.train(tmp_path / "run", checkpoint_epochs=1) == 0
    (tmp_path / "run" / "evaluation.json").unlink()
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 2
    assert "not finished" in capsys.readouterr().err


class Counting(nn.Module):
    """Asks how many examples there are."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(5)(x.reshape(len(x), -1))


def test_a_model_of_one_number_of_examples_is_refused_in_one_line(tmp_path):
    trained = kd.fit(Counting(), tiny.dataset(), TERMS, epochs=1, batch_size=16)
    advice = r"any number of examples.*reshape\(x\.shape\[0\], -1\).*--format=safetensors"
    with pytest.raises(kd.KdError, match=advice):
        trained.export(tmp_path / "out")
    trained.export(tmp_path / "out", format="safetensors")
    with pytest.raises(kd.KdError, match="unknown format 'onnx'"):
        trained.export(tmp_path / "other", format="onnx")
