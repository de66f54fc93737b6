"""Encoders and Hugging Face's folders: transformers answers as kd does, and reads what kd writes."""

import json

import numpy as np
import pytest

import kd
import texts
from kd.models.weights.encoders import ENCODERS

every_class = pytest.mark.parametrize("name", ENCODERS)
NEAR = {"rtol": 0, "atol": 2e-5}


def parts(name):
    told = ENCODERS[name].told
    return told["family"], told["head"]


def logits(trained, inputs):
    return np.asarray(texts.answers(trained.model, trained.params, inputs).logits)


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch", reason="PyTorch is not here: pip install -e '.[transformers]'")
    return pytest.importorskip(
        "transformers", reason="transformers is not here: pip install -e '.[transformers]'"
    )


def theirs(network, inputs):
    """What a network of transformers answers, with the mask and the kinds that kd reads."""
    import torch

    told = {
        "input_ids": torch.from_numpy(inputs[..., 0]).long(),
        "attention_mask": torch.from_numpy(inputs[..., 1] > 0).long(),
    }
    if network.config.model_type == "bert":
        told["token_type_ids"] = torch.from_numpy(np.maximum(inputs[..., 1] - 1, 0)).long()
    if network.config.model_type == "roberta":  # it tells padding by its token
        told["input_ids"] = torch.where(told["attention_mask"] == 0, 1, told["input_ids"])
    with torch.no_grad():
        return network.eval()(**told)[0].numpy()


def compared(ours, wanted, inputs):
    """At the places that are no padding."""
    if ours.ndim == 3:
        there = inputs[..., 1] > 0
        ours, wanted = ours[there], wanted[there]
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(ours, wanted, **NEAR)


@every_class
def test_transformers_reads_what_kd_writes(name, tmp_path, transformers):
    trained = texts.trained(*parts(name))
    trained.export(tmp_path / "kept", format="hf")
    network, told = getattr(transformers, name).from_pretrained(
        tmp_path / "kept", output_loading_info=True
    )
    fresh = {key for key in told["missing_keys"] if not key.startswith("pooler.")}
    assert not fresh
    assert not told["unexpected_keys"]
    inputs = texts.texts(6, 4)
    compared(logits(trained, inputs), theirs(network, inputs), inputs)


@every_class
def test_kd_reads_what_transformers_writes(name, tmp_path, transformers):
    import torch

    torch.manual_seed(0)
    family, head = parts(name)
    config = texts.trained(family, head)
    config.export(tmp_path / "first", format="hf")
    told = json.loads((tmp_path / "first" / "config.json").read_text())
    network = getattr(transformers, name)(
        getattr(transformers, name).config_class(**{**told, "num_labels": 3})
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    network.save_pretrained(tmp_path / "kept")
    loaded = kd.load(f"hf:{tmp_path / 'kept'}")
    inputs = texts.texts(6, 4)
    compared(logits(loaded, inputs), theirs(network, inputs), inputs)
