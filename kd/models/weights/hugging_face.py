"""What a Hugging Face folder says of its network, in both directions: ``config.json``."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

from kd.errors import KdError, unknown
from kd.models.resnet import LARGE
from kd.models.token_vit import token_vit
from kd.models.vit import sized
from kd.models.weights.architecture import Architecture, Described, Fields, Shape
from kd.models.weights.encoders import ENCODERS

CONFIG = "config.json"
_SINGLE = "single_label_classification"


def described(told: Mapping[str, Any], file: object) -> Described:
    """The network that a ``config.json`` tells of.

    Raises:
      KdError: a class or a field that kd does not know, a field that would change what is computed
        to something else than kd computes, one that is missing or of another type.
    """
    fields, architecture = Fields(file, told), _architecture(told, file)
    _check_known(told, architecture, file)
    for key, values in {**_FIXED, **architecture.fixed}.items():
        if key in told and told[key] not in values:
            raise KdError(
                f"{file} says {key}={told[key]!r:.80}, which changes what the network computes; kd "
                f"has {values[0]!r} alone"
            )
    options = {**architecture.told, **architecture.read(fields)}
    if architecture.texts:
        return _of_texts(architecture, options, fields)
    names = _class_names(told, file)
    side = fields.whole("image_size") if "image_size" in told else 224
    return Described(
        architecture.model,
        options,
        (side, side, fields.whole("num_channels")),
        len(names),
        _words(names),
    )


def _of_texts(architecture: Architecture, options: Mapping[str, Any], fields: Fields) -> Described:
    """Tokens and segments, as many as there are positions."""
    inputs = (options["positions"], 2)
    if architecture.width is not None:
        width = fields.whole(architecture.width)
        return Described(architecture.model, options, inputs, width, None, ids=True)
    names = _class_names(fields.told, fields.file)
    return Described(architecture.model, options, inputs, len(names), _words(names), ids=True)


def _words(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The words for the classes; None where they are numbers alone."""
    return None if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def telling(
    model: str,
    options: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    inputs: Shape,
    class_names: tuple[str, ...] | None,
) -> dict[str, Any]:
    """The ``config.json`` of a network: the inverse of `described`. `shapes` are those of its
    parameters, ``params/...``.

    Raises:
      KdError: a network for which Hugging Face has no class, or images that are not square.
    """
    name = next((n for n, kind in ARCHITECTURES.items() if _is_of(kind, model, options)), None)
    if name is None:
        raise KdError(
            f"Hugging Face has no class for {model} with {dict(options)}; it has some for "
            "encoder, token_vit, and for resnet with form='imagenet'"
        )
    architecture = ARCHITECTURES[name]
    told = {
        "architectures": [name],
        "model_type": architecture.model_type,
        **architecture.write(options, shapes),
    }
    if not architecture.texts:
        told |= _of_images(inputs)
    if architecture.width is not None:
        return told
    return told | _of_classes(shapes["params/head/kernel"][1], class_names, architecture.texts)


def _of_images(inputs: Shape) -> dict[str, Any]:
    if len(inputs) != 3 or inputs[0] != inputs[1]:
        raise KdError(f"Hugging Face's networks see square images [h w c], and this one {inputs}")
    return {"image_size": inputs[0], "num_channels": inputs[2]}


def _of_classes(count: int, class_names: tuple[str, ...] | None, texts: bool) -> dict[str, Any]:
    """One output for a text is a number."""
    names = class_names or tuple(f"LABEL_{i}" for i in range(count))
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": "regression" if texts and count == 1 else _SINGLE,
    }


def _architecture(told: Mapping[str, Any], file: object) -> Architecture:
    names = told.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise KdError(f"{file} does not name one class in architectures; get it anew")
    if names[0] not in ARCHITECTURES:
        raise unknown(f"class in {file}:", names[0], ARCHITECTURES)
    architecture = ARCHITECTURES[names[0]]
    if told.get("model_type") != architecture.model_type:
        raise KdError(
            f"{file} says model_type={told.get('model_type')!r:.40} and names {names[0]}, which is "
            f"{architecture.model_type!r}; get it anew"
        )
    return architecture


def _check_known(told: Mapping[str, Any], architecture: Architecture, file: object) -> None:
    known = {*_ALL, *_IDLE, *_FIXED, *architecture.fields, *architecture.fixed}
    for key in told:
        if key not in known:
            raise KdError(
                f"{file} says {key}={told[key]!r:.80}, which kd does not know; remove it where it "
                "changes nothing that the network computes"
            )


def _class_names(told: Mapping[str, Any], file: object) -> tuple[str, ...]:
    """One for each class, in their order."""
    count = told.get("num_labels", 2)
    names = told.get("id2label")
    if names is None and type(count) is int and count > 0:
        names = {str(i): f"LABEL_{i}" for i in range(count)}
    listed = [names.get(str(i)) for i in range(len(names))] if isinstance(names, Mapping) else []
    if not listed or not all(isinstance(name, str) for name in listed):
        raise KdError(f"{file}: id2label must name every class, from 0; get it anew")
    if len(listed) != told.get("num_labels", len(listed)):
        raise KdError(f"{file}: id2label and num_labels do not agree; get it anew")
    return tuple(map(str, listed))


_DEFAULTS = {"distillation": "none", "form": "cifar", "family": "bert", "head": "sentence"}
"""Options by which classes differ, where a model was made without them."""


def _is_of(architecture: Architecture, model: str, options: Mapping[str, Any]) -> bool:
    told = {**_DEFAULTS, **options}
    return architecture.model == model and all(
        told.get(key) == value for key, value in architecture.told.items()
    )


def _read_vit(fields: Fields) -> dict[str, Any]:
    return {
        **{ours: fields.whole(theirs) for ours, theirs in _VIT_SIZES.items()},
        "depth": fields.whole(_VIT_SIZES["depth"], _DEEPEST),
        "epsilon": fields.number("layer_norm_eps"),
        "qkv_bias": fields.switch("qkv_bias", True),
    }


def _write_vit(options: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, Any]:
    del shapes
    told = inspect.signature(token_vit).bind(**{"classes": 1, **options})
    told.apply_defaults()
    size, patch = sized(**{key: told.arguments[key] for key in ("variant", *_VIT_SIZES)})
    own = {**dataclasses.asdict(size), "patch": patch}
    return {
        **{theirs: own[ours] for ours, theirs in _VIT_SIZES.items()},
        "layer_norm_eps": told.arguments["epsilon"],
        "qkv_bias": told.arguments["qkv_bias"],
        "hidden_act": "gelu",
    }


_DEEPEST = 1000  # blocks; each is traced before a file is looked at
_VIT_SIZES = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
    "patch": "patch_size",
}


def _read_resnet(fields: Fields) -> dict[str, Any]:
    blocks, widths = fields.wholes("depths"), fields.wholes("hidden_sizes")
    bottleneck = fields.told.get("layer_type") == "bottleneck"
    for depth, size in LARGE.items():
        wide = 4 if size.bottleneck else 1
        width = widths[0] / (size.widths[0] * wide) if widths else 0
        scaled = tuple(wide * round(channels * width) for channels in size.widths)
        if (size.blocks, size.bottleneck, scaled) == (blocks, bottleneck, widths):
            stem = fields.whole("embedding_size")
            return {"depth": depth, "width": width, "stem": stem}
    raise KdError(
        f"{fields.file}: depths={list(blocks)}, hidden_sizes={list(widths)} and layer_type="
        f"{fields.told.get('layer_type')!r:.40} are no ResNet of {', '.join(map(str, LARGE))}"
    )


def _write_resnet(options: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, Any]:
    size = LARGE[options["depth"]]
    last = "conv3" if size.bottleneck else "conv2"
    stages = [f"params/stages_{i}/blocks_0/{last}/kernel" for i in range(len(size.blocks))]
    return {
        "depths": list(size.blocks),
        "hidden_sizes": [shapes[stage][3] for stage in stages],
        "embedding_size": shapes["params/stem/kernel"][3],
        "layer_type": "bottleneck" if size.bottleneck else "basic",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
    }


_ALL = (
    *("architectures", "model_type", "image_size", "num_channels"),
    *("id2label", "label2id", "num_labels"),
)
_FIXED: dict[str, tuple[Any, ...]] = {"problem_type": (_SINGLE, None), "pruned_heads": ({},)}
_IDLE_FIELDS = """
_name_or_path name_or_path transformers_version torch_dtype dtype torchscript use_bfloat16 use_cache
_attn_implementation_autoset chunk_size_feed_forward tf_legacy_loss

initializer_range hidden_dropout_prob attention_probs_dropout_prob finetuning_task

return_dict output_hidden_states output_attentions encoder_stride pooler_output_size pooler_act
out_features out_indices stage_names task_specific_params

is_encoder_decoder is_decoder cross_attention_hidden_size add_cross_attention tie_encoder_decoder
tie_word_embeddings max_length min_length do_sample early_stopping num_beams num_beam_groups
diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty
no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores
return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values
exponential_decay_length_penalty suppress_tokens begin_suppress_tokens tokenizer_class prefix
bos_token_id pad_token_id eos_token_id sep_token_id decoder_start_token_id
"""
"""Fields that change no logit of a classifier of images in evaluation: where it came from and how
it is held, training, what is answered besides, text.
"""
_IDLE = frozenset(_IDLE_FIELDS.split())


def _vit(model_type: str, distillation: str) -> Architecture:
    return Architecture(
        model_type,
        "token_vit",
        {"distillation": distillation},
        (*_VIT_SIZES.values(), "layer_norm_eps", "qkv_bias"),
        _read_vit,
        _write_vit,
        {"hidden_act": ("gelu",)},
    )


ARCHITECTURES = {
    **ENCODERS,
    "ViTForImageClassification": _vit("vit", "none"),
    "DeiTForImageClassification": _vit("deit", "token"),
    "DeiTForImageClassificationWithTeacher": _vit("deit", "head"),
    "ResNetForImageClassification": Architecture(
        "resnet",
        "resnet",
        {"form": "imagenet"},
        ("depths", "hidden_sizes", "embedding_size", "layer_type"),
        _read_resnet,
        _write_resnet,
        {
            "hidden_act": ("relu",),
            "downsample_in_first_stage": (False,),
            "downsample_in_bottleneck": (False,),
        },
    ),
}
