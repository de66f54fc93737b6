"""Laws of Hugging Face's folders: what is written is read back as the same network, its numbers are
those of the papers, and a page that says something else is one line.
"""

import copy
import dataclasses
import json

import numpy as np
import pytest

import folders
import kd
import tiny
from kd.cli.main import main
from kd.models import resnet, token_vit
from kd.models.weights import files, tensors
from vit_reference import vit

CLASSES = sorted(folders.FOLDERS)
VITS = [name for name in CLASSES if name != "ResNetForImageClassification"]


def images(side, count=4):
    pixels = np.random.default_rng(3).integers(0, 256, (count, side, side, 3), np.uint8)
    return kd.arrays(pixels, num_classes=10)


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_written_is_read_back_as_the_same_network(name, tmp_path):
    before = folders.trained(name, names=tuple("abcdefghij"))
    before.export(tmp_path / "kept", format="hf")
    after = kd.load(f"hf:{tmp_path / 'kept'}")
    tiny.close((after.params, after.extra), (before.params, before.extra), 0, 0)
    assert after.class_names == before.class_names
    assert after.seen == before.seen
    assert (after.model.made.mean, after.model.made.deviation) == (folders.MEAN, folders.DEVIATION)
    data = images(folders.FOLDERS[name][2])
    np.testing.assert_array_equal(after.logits(data), before.logits(data))
    after.export(tmp_path / "again", format="hf")
    for file in (files.WEIGHTS, "config.json", "preprocessor_config.json"):
        again, kept = (tmp_path / folder / file for folder in ("again", "kept"))
        assert again.read_bytes() == kept.read_bytes()


@pytest.mark.parametrize("name", VITS)
def test_the_numbers_are_those_of_the_papers(name, tmp_path):
    """Against float64 NumPy, from the folder alone."""
    folder = folders.written(tmp_path / "kept", name)
    config = json.loads((folder / "config.json").read_text())
    data = images(8)
    seen = (data.inputs / 255 - np.array(folders.MEAN)) / np.array(folders.DEVIATION)
    wanted = vit(tensors.stored(folder / files.WEIGHTS), config, seen)
    got = kd.load(f"hf:{folder}").logits(data)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


def test_queries_without_biases_and_another_epsilon(tmp_path):
    told = folders.trained("ViTForImageClassification")
    model = token_vit(10, **folders.VIT, qkv_bias=False, epsilon=0.1)
    params = copy.deepcopy(told.params)
    for i in range(2):
        block = params[f"blocks_{i}"]
        for part in ("query", "key", "value"):
            block["attention"][part] = {"kernel": block["attention"][part]["kernel"]}
    other = dataclasses.replace(told, model=model, params=params)
    other.export(tmp_path / "kept", format="hf")
    config = json.loads((tmp_path / "kept" / "config.json").read_text())
    assert (config["qkv_bias"], config["layer_norm_eps"]) == (False, 0.1)
    data = images(8)
    wanted = vit(tensors.stored(tmp_path / "kept" / files.WEIGHTS), config, data.inputs / 255)
    got = kd.load(f"hf:{tmp_path / 'kept'}").logits(data)
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


def test_it_is_who_its_weights_and_its_preprocessing_are(tmp_path):
    """The fingerprint, which kept answers carry, is of both, and of no place."""
    folder = folders.written(tmp_path / "kept")
    first = kd.load(f"hf:{folder}").fingerprint
    assert kd.load(f"hf:{folders.written(tmp_path / 'copy')}").fingerprint == first
    assert kd.load(f"hf:{folders.written(tmp_path / 'other', seed=1)}").fingerprint != first
    folders.edited(folder / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    assert kd.load(f"hf:{folder}").fingerprint != first
    data = images(8)
    kept = kd.precompute(kd.teacher(f"hf:{folder}"), data)
    assert kept.manifest.teacher == kd.load(f"hf:{folder}").fingerprint


def test_several_files_and_an_index_are_the_same_network(tmp_path):
    whole = folders.written(tmp_path / "whole")
    parts = folders.written(tmp_path / "parts")
    arrays = {name: np.array(a) for name, a in tensors.stored(parts / files.WEIGHTS).items()}
    (parts / files.WEIGHTS).unlink()
    names = sorted(arrays)
    from test_tensors import sharded

    halves = {"1.safetensors": names[::2], "2.safetensors": names[1::2]}
    sharded(parts, {file: {n: arrays[n] for n in some} for file, some in halves.items()})
    assert kd.load(f"hf:{parts}").fingerprint == kd.load(f"hf:{whole}").fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["ViTModel"]}, "unknown class in .*config.json: 'ViTModel'"),
        ({"architectures": ["ViTForImageClassification", "B"]}, "does not name one class"),
        ({"architectures": None}, "does not name one class"),
        ({"model_type": "deit"}, "model_type='deit'"),
        ({"hidden_act": "gelu_new"}, "hidden_act='gelu_new', which changes what"),
        ({"hidden_act": "relu"}, "kd has 'gelu' alone"),
        ({"problem_type": "multi_label_classification"}, "problem_type='multi_label"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads="),
        ({"interpolate_pos_encoding": True}, "interpolate_pos_encoding=True, which kd does not"),
        ({"quantization_config": {}}, "quantization_config={}, which kd does not know"),
        ({"hidden_size": None}, "hidden_size must be a whole number from 1 to 1,048,576, got None"),
        ({"hidden_size": "12"}, "hidden_size must be a whole number"),
        ({"hidden_size": 0}, "hidden_size must be a whole number"),
        ({"hidden_size": True}, "hidden_size must be a whole number"),
        ({"patch_size": [4, 2]}, "patch_size must be a whole number"),
        ({"num_attention_heads": 5}, "5 heads do not divide"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps must be a number"),
        ({"qkv_bias": 1}, "qkv_bias must be true or false"),
        ({"qkv_bias": False}, "attention.attention.query.bias"),
        ({"intermediate_size": 21}, "another network"),
        ({"num_hidden_layers": 3}, r"encoder.layer.2.attention.attention.key.bias \[12\]"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers must be a whole number from 1 to 1,000"),
        ({"num_channels": 1}, "of 3 channels"),
        ({"image_size": 12}, "makes images of 8 pixels .* positions for 12"),
        ({"id2label": {"0": "a"}}, "another network"),
        ({"id2label": {"1": "a", "2": "b"}}, "id2label must name every class"),
        ({"id2label": {"0": 5}}, "id2label must name every class"),
        ({"id2label": []}, "id2label must name every class"),
        ({"num_labels": 3}, "id2label and num_labels do not agree"),
    ],
)
def test_a_page_that_says_something_else_is_one_line(changes, words, tmp_path):
    folder = folders.written(tmp_path / "kept")
    folders.edited(folder / "config.json", **changes)
    with pytest.raises(kd.KdError, match=words):
        kd.load(f"hf:{folder}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depths": [2, 2, 2]}, "are no ResNet of 18, 34, 50"),
        ({"hidden_sizes": [4, 8, 16, 33]}, "are no ResNet of"),
        ({"hidden_sizes": []}, "are no ResNet of"),
        ({"layer_type": "bottleneck"}, "are no ResNet of"),
        ({"embedding_size": 8}, "another network"),
        ({"downsample_in_first_stage": True}, "downsample_in_first_stage=True"),
        ({"downsample_in_bottleneck": True}, "downsample_in_bottleneck=True"),
        ({"hidden_act": "gelu"}, "kd has 'relu' alone"),
    ],
)
def test_a_resnet_that_is_another_is_one_line(changes, words, tmp_path):
    folder = folders.written(tmp_path / "kept", "ResNetForImageClassification")
    folders.edited(folder / "config.json", **changes)
    with pytest.raises(kd.KdError, match=words):
        kd.load(f"hf:{folder}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_mean": None}, "image_mean must be numbers"),
        ({"image_mean": [0.5]}, "must be of the same channels"),
        ({"image_mean": [0.5] * 2, "image_std": [0.5] * 2}, "of 2 channels"),
        ({"image_std": [0.5, 0.5, 0]}, "deviations above 0"),
        ({"image_std": [0.5, 0.5, "x"]}, "image_deviation must be numbers"),
        ({"do_normalize": "no"}, "do_normalize must be true or false"),
        ({"rescale_factor": 0}, "rescale_factor must be"),
        ({"size": {"height": 8, "width": 9}}, "size must be that of a square"),
        ({"size": 9}, "positions are not interpolated"),
        ({"do_center_crop": True, "crop_size": "8"}, "crop_size must be that of a square"),
    ],
)
def test_preprocessing_that_cannot_be_is_one_line(changes, words, tmp_path):
    folder = folders.written(tmp_path / "kept")
    folders.edited(folder / "preprocessor_config.json", **changes)
    with pytest.raises(kd.KdError, match=words):
        kd.load(f"hf:{folder}").logits(images(8))


def test_what_old_pages_leave_out_and_what_changes_nothing(tmp_path):
    folder = folders.written(tmp_path / "kept")
    first = kd.load(f"hf:{folder}")
    folders.edited(
        folder / "config.json", qkv_bias=None, problem_type=None, torch_dtype="float32", top_k=50
    )
    page = folder / "preprocessor_config.json"
    folders.edited(page, do_rescale=None, rescale_factor=None, do_normalize=None, size=8)
    assert kd.load(f"hf:{folder}").fingerprint == first.fingerprint
    folders.edited(page, do_normalize=False)
    assert kd.load(f"hf:{folder}").model.made.mean is None


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", files.WEIGHTS])
def test_a_file_that_is_missing_or_cut_is_one_line(file, tmp_path):
    folder = folders.written(tmp_path / "kept")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-5])
    with pytest.raises(kd.KdError, match=file):
        kd.load(f"hf:{folder}")
    (folder / file).unlink()
    with pytest.raises(kd.KdError, match=file):
        kd.load(f"hf:{folder}")


def test_a_folder_that_is_not_there_is_not_damaged(tmp_path, capsys):
    for place, words in (
        (tmp_path / "nowhere", f"there is no folder {tmp_path / 'nowhere'}; name"),
        (tmp_path, f"there is no {tmp_path / 'config.json'}; name"),
    ):
        assert main(["export", f"hf:{place}", str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"kd: {words}")


def test_images_of_another_size_are_refused(tmp_path):
    folder = folders.written(tmp_path / "kept")
    with pytest.raises(kd.KdError, match=r"learnt 5 positions.*data.image_size"):
        kd.load(f"hf:{folder}").logits(images(12))


def test_a_network_that_hugging_face_has_not_is_not_written(tmp_path):
    told = folders.trained("ViTForImageClassification")
    small = resnet(10, 8)
    for other, words in (
        (dataclasses.replace(told, model=small), "Hugging Face has no class for resnet"),
        (dataclasses.replace(told, model=tiny.PLAIN), "no names of weights from outside"),
        (dataclasses.replace(told, seen=dataclasses.replace(told.seen, dtype="float32")), "bytes"),
        (dataclasses.replace(told, seen=dataclasses.replace(told.seen, shape=(8, 8))), "bytes"),
    ):
        with pytest.raises(kd.KdError, match=words):
            other.export(tmp_path / "kept", format="hf")
    folders.written(tmp_path / "kept")
    with pytest.raises(kd.KdError, match=r"holds .* already"):
        folders.written(tmp_path / "kept")


def test_the_command_writes_one_and_reads_one(tmp_path, capsys):
    folder = folders.written(tmp_path / "kept")
    assert main(["export", f"hf:{folder}", str(tmp_path / "own")]) == 0
    own = kd.load(tmp_path / "own")
    np.testing.assert_array_equal(own.logits(images(8)), kd.load(f"hf:{folder}").logits(images(8)))
    assert main(["export", str(tmp_path / "own"), str(tmp_path / "hf"), "--format=hf"]) == 0
    assert (tmp_path / "hf" / files.WEIGHTS).read_bytes() == (folder / files.WEIGHTS).read_bytes()
    capsys.readouterr()
    assert main(["export", str(folder), str(tmp_path / "no")]) == 2
    assert f"name it hf:{folder}" in capsys.readouterr().err
