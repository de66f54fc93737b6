"""Hugging Face's own library answers as kd does, and reads what kd writes. It needs
``pip install -e .[transformers]``.
"""

import dataclasses

import numpy as np
import pytest

import folders
import kd
from kd.models.weights import files

torch = pytest.importorskip("torch", reason="PyTorch is not here: pip install -e '.[transformers]'")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not here: pip install -e '.[transformers]'"
)

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 4,
}
RESNET = {"embedding_size": 16, "depths": [2, 2, 2, 2], "hidden_sizes": [16, 32, 64, 128]}
WIDE = {"embedding_size": 8, "depths": [3, 4, 6, 3], "hidden_sizes": [32, 64, 128, 256]}
NETWORKS = {
    "ViT": ("ViTForImageClassification", "ViTConfig", SIZES),
    "ViT without biases": (
        "ViTForImageClassification",
        "ViTConfig",
        {**SIZES, "qkv_bias": False, "layer_norm_eps": 1e-6},
    ),
    "DeiT": ("DeiTForImageClassification", "DeiTConfig", SIZES),
    "DeiT, two heads": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", SIZES),
    "ResNet-18": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {**RESNET, "layer_type": "basic"},
    ),
    "ResNet-50": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {**WIDE, "layer_type": "bottleneck"},
    ),
}


def drawn(name):
    """A network of transformers with random weights and statistics, in evaluation."""
    model, config, sizes = NETWORKS[name]
    torch.manual_seed(0)
    network = getattr(transformers, model)(getattr(transformers, config)(num_labels=7, **sizes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for label, buffer in network.named_buffers():
            if label.endswith(("running_mean", "running_var")):
                buffer.add_(0.2 * torch.rand_like(buffer))
    return network.eval()


def pixels(side, count=3):
    return np.random.default_rng(2).integers(0, 256, (count, side, side, 3), np.uint8)


def answers(network, folder, images):
    """Logits of transformers for images of bytes, with the preprocessing of the folder."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    seen = (images * processor.rescale_factor - processor.image_mean) / processor.image_std
    with torch.no_grad():
        inputs = torch.from_numpy(seen.transpose(0, 3, 1, 2).astype(np.float32))
        return network(inputs).logits.numpy()


def kept(network, folder, side):
    network.save_pretrained(folder)
    options = {"image_mean": folders.MEAN, "image_std": folders.DEVIATION}
    size = {"height": side, "width": side}
    transformers.ViTImageProcessor(size=size, **options).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_transformers(name, tmp_path):
    network, side = drawn(name), 32 if "ResNet" in name else 16
    folder = kept(network, tmp_path / "kept", side)
    images = pixels(side)
    wanted = answers(network, folder, images)
    got = kd.load(f"hf:{folder}").logits(kd.arrays(images, num_classes=7))
    assert np.abs(wanted).max() > 0.1
    assert np.abs(got - wanted).max() < 2e-5 * max(1, np.abs(wanted).max())


@pytest.mark.parametrize("name", sorted(folders.FOLDERS))
def test_transformers_reads_what_kd_writes(name, tmp_path):
    trained = folders.trained(name, classes=7, names=tuple("abcdefg"))
    trained.export(tmp_path / "kept", format="hf")
    model = getattr(transformers, name)
    network, told = model.from_pretrained(tmp_path / "kept", output_loading_info=True)
    counters = {key for key in told["missing_keys"] if key.endswith("num_batches_tracked")}
    assert set(told["missing_keys"]) == counters
    assert not told["unexpected_keys"]
    assert not told["mismatched_keys"]
    assert network.config.id2label[2] == "c"
    side = trained.seen.shape[0]
    images = pixels(side)
    wanted = answers(network.eval(), tmp_path / "kept", images)
    got = trained.logits(kd.arrays(images, num_classes=7))
    assert np.abs(got - wanted).max() < 2e-5 * max(1, np.abs(wanted).max())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_read_bit_for_bit(dtype, tmp_path):
    """As transformers computes with these weights in float32."""
    network = drawn("ViT").to(getattr(torch, dtype))
    folder = kept(network, tmp_path / "kept", 16)
    images = pixels(16)
    wanted = answers(network.float(), folder, images)
    got = kd.load(f"hf:{folder}").logits(kd.arrays(images, num_classes=7))
    np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_shards_of_transformers_are_read(tmp_path):
    network = drawn("ViT")
    folder = kept(network, tmp_path / "kept", 16)
    whole = kd.load(f"hf:{folder}").fingerprint
    network.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    for name in ("preprocessor_config.json",):
        (tmp_path / "parts" / name).write_bytes((folder / name).read_bytes())
    assert (tmp_path / "parts" / files.INDEX).exists()
    assert kd.load(f"hf:{tmp_path / 'parts'}").fingerprint == whole


def test_a_pooler_is_refused(tmp_path):
    """A network without a head of classes."""
    folder = kept(drawn("ViT"), tmp_path / "kept", 16)
    config = transformers.ViTConfig(**SIZES)
    transformers.ViTModel(config).save_pretrained(folder)
    with pytest.raises(kd.KdError, match="unknown class"):
        kd.load(f"hf:{folder}")


def test_arrays_alone_are_the_same_network(tmp_path):
    """``weights:FILE``, where the file alone is there."""
    network = drawn("ViT")
    folder = kept(network, tmp_path / "kept", 16)
    model = {"name": "token_vit", "width": 32, "depth": 3, "heads": 4, "mlp": 48, "patch": 4}
    inputs = {"mean": folders.MEAN, "deviation": folders.DEVIATION}
    told = kd.load(f"weights:{folder / files.WEIGHTS}", model={**model, **inputs})
    whole = kd.load(f"hf:{folder}")
    data = kd.arrays(pixels(16), num_classes=7)
    assert dataclasses.asdict(told.seen) == dataclasses.asdict(whole.seen)
    np.testing.assert_array_equal(told.logits(data), whole.logits(data))
