"""The tables of names, one for each network and library that has weights for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kd.models.weights import encoders
from kd.models.weights.names import Naming

ShapeOf = Callable[[str, int], tuple[int, ...]]
"""The shape of our leaf of so many axes, as a file has it."""

_STAGE = r"stages_(\d+)/blocks_(\d+)/"
_BLOCK = r"blocks_(\d+)/"


def _resnet(who: str, *, shortcut: str, head: str) -> Naming:
    """ResNets as PyTorch users write them: ``layer1.0.conv1``."""
    rows = (
        ("stem", "conv1"),
        ("stem_norm", "bn1"),
        (_STAGE + r"conv(\d)", lambda i, j, k: f"layer{i + 1}.{j}.conv{k}"),
        (_STAGE + r"norm(\d)", lambda i, j, k: f"layer{i + 1}.{j}.bn{k}"),
        (_STAGE + "shortcut", lambda i, j: f"layer{i + 1}.{j}.{shortcut}.0"),
        (_STAGE + "shortcut_norm", lambda i, j: f"layer{i + 1}.{j}.{shortcut}.1"),
        ("head", head),
    )
    return Naming(who, rows)


_WRN = Naming(
    "PyTorch",
    (
        ("stem", "conv1"),
        (_STAGE + r"conv(\d)", lambda i, j, k: f"block{i + 1}.layer.{j}.conv{k}"),
        (_STAGE + r"norm(\d)", lambda i, j, k: f"block{i + 1}.layer.{j}.bn{k}"),
        (_STAGE + "shortcut", lambda i, j: f"block{i + 1}.layer.{j}.convShortcut"),
        ("norm", "bn1"),
        ("head", "fc"),
    ),
)
"""Wide residual networks as PyTorch users write them."""

_LAYER = "resnet.encoder.stages.{}.layers.{}"
_HUGGING_FACE_RESNET = Naming(
    "Hugging Face",
    (
        ("stem", "resnet.embedder.embedder.convolution"),
        ("stem_norm", "resnet.embedder.embedder.normalization"),
        (_STAGE + r"conv(\d)", lambda i, j, k: f"{_LAYER.format(i, j)}.layer.{k - 1}.convolution"),
        (
            _STAGE + r"norm(\d)",
            lambda i, j, k: f"{_LAYER.format(i, j)}.layer.{k - 1}.normalization",
        ),
        (_STAGE + "shortcut", lambda i, j: f"{_LAYER.format(i, j)}.shortcut.convolution"),
        (_STAGE + "shortcut_norm", lambda i, j: f"{_LAYER.format(i, j)}.shortcut.normalization"),
        ("head", "classifier.1"),
    ),
)


def _hugging_face_vit(model: str, head: str) -> Naming:
    """Hugging Face's ViT and DeiT, which differ in a word."""
    rows = (
        ("class_token", f"{model}.embeddings.cls_token"),
        ("distillation_token", f"{model}.embeddings.distillation_token"),
        ("positions", f"{model}.embeddings.position_embeddings"),
        ("patches", f"{model}.embeddings.patch_embeddings.projection"),
        *(
            (_BLOCK + ours, _of_layer(f"{model}.encoder.layer.{{}}.{theirs}"))
            for ours, theirs in _VIT_LAYER.items()
        ),
        ("norm", f"{model}.layernorm"),
        ("head", head),
        ("distillation_head", "distillation_classifier"),
    )
    return Naming("Hugging Face", rows)


_VIT_LAYER = {
    "attention_norm": "layernorm_before",
    "attention/query": "attention.attention.query",
    "attention/key": "attention.attention.key",
    "attention/value": "attention.attention.value",
    "attention/out": "attention.output.dense",
    "mlp_norm": "layernorm_after",
    "up": "intermediate.dense",
    "down": "output.dense",
}
"""The modules of a block, and of a layer."""


def _of_layer(name: str) -> Callable[[int], str]:
    return name.format


_VIT = _hugging_face_vit("vit", "classifier")
_DEIT = _hugging_face_vit("deit", "classifier")
_TWO_HEADS = _hugging_face_vit("deit", "cls_classifier")


@dataclasses.dataclass(frozen=True)
class Family:
    """What is known of the weights of one network of `kd.models.MODELS`.

    `namings` are the tables of names that its options allow, Hugging Face's first; `inputs` says
    which images ``[h w c]`` they are of, from options and the shapes of our leaves in the file;
    None of texts, whose arrays alone do not say what they are. `held` are the options that only the
    names of a file's arrays tell.
    """

    namings: Callable[[Mapping[str, Any]], tuple[Naming, ...]]
    inputs: Callable[[Mapping[str, Any], ShapeOf], tuple[int, int, int]] | None
    held: Callable[[Mapping[str, Any], Collection[str]], dict[str, Any]] = lambda *_: {}


def _of_resnet(options: Mapping[str, Any]) -> tuple[Naming, ...]:
    large = options.get("form") == "imagenet"
    return (
        *([_HUGGING_FACE_RESNET] if large else []),
        _resnet("PyTorch", shortcut="downsample", head="fc"),
        _resnet("PyTorch", shortcut="shortcut", head="linear"),
    )


def _of_wrn(options: Mapping[str, Any]) -> tuple[Naming, ...]:
    del options
    return (_WRN,)


def _of_token_vit(options: Mapping[str, Any]) -> tuple[Naming, ...]:
    kind = options.get("distillation", "none")
    return ({"none": _VIT, "token": _DEIT, "head": _TWO_HEADS}[kind],)


def _images_of_resnet(options: Mapping[str, Any], shape: ShapeOf) -> tuple[int, int, int]:
    side = 224 if options.get("form") == "imagenet" else 32
    return side, side, shape("params/stem/kernel", 4)[2]


def _images_of_token_vit(options: Mapping[str, Any], shape: ShapeOf) -> tuple[int, int, int]:
    tokens = 1 if options.get("distillation", "none") == "none" else 2
    patch, _, channels, _ = shape("params/patches/kernel", 4)
    side = patch * math.isqrt(shape("params/positions", 3)[1] - tokens)
    return side, side, channels


def _of_encoder(options: Mapping[str, Any]) -> tuple[Naming, ...]:
    return (encoders.naming(options),)


FAMILIES = {
    "encoder": Family(_of_encoder, None, encoders.held),
    "resnet": Family(_of_resnet, _images_of_resnet),
    "token_vit": Family(_of_token_vit, _images_of_token_vit),
    "wrn": Family(_of_wrn, _images_of_resnet),
}
