"""Encoders of texts as Hugging Face has them: names of parameters and fields of ``config.json``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Mapping
from typing import Any

from kd.errors import KdError
from kd.models.encoder import OFFSET, SEGMENTS, encoder
from kd.models.weights.architecture import Architecture, Fields, Shape
from kd.models.weights.names import Naming

_BLOCK = r"blocks_(\d+)/"
_DEEPEST = 1000  # blocks; each is traced before a file is looked at
_EXACT = {"hidden_act": ("gelu",)}
_ENCODES = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "problem_type": (
        None,
        "single_label_classification",
        "multi_label_classification",
        "regression",
    ),
}

# ------------------------------------------------------------------------------------------- names

_BERT_LAYER = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}
_DISTILBERT_LAYER = {
    "attention/query": "attention.q_lin",
    "attention/key": "attention.k_lin",
    "attention/value": "attention.v_lin",
    "attention/out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "norm": "output_layer_norm",
}
_EMBEDDINGS = {
    "embeddings/words": "embeddings.word_embeddings",
    "embeddings/places": "embeddings.position_embeddings",
    "embeddings/kinds": "embeddings.token_type_embeddings",
    "embeddings/norm": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
}
_CLASSES = {"head": "classifier"}
_HEADS: dict[str, dict[str, dict[str, str]]] = {
    "bert": {
        "masked": {
            "transform": "cls.predictions.transform.dense",
            "transform_norm": "cls.predictions.transform.LayerNorm",
            "bias": "cls.predictions.bias",
        },
        "sentence": _CLASSES,
        "token": _CLASSES,
    },
    "roberta": {
        "masked": {
            "transform": "lm_head.dense",
            "transform_norm": "lm_head.layer_norm",
            "bias": "lm_head.bias",
        },
        "sentence": {"neck": "classifier.dense", "head": "classifier.out_proj"},
        "token": _CLASSES,
    },
    "distilbert": {
        "masked": {
            "transform": "vocab_transform",
            "transform_norm": "vocab_layer_norm",
            "bias": "vocab_projector.bias",
        },
        "sentence": {"neck": "pre_classifier", **_CLASSES},
        "token": _CLASSES,
    },
}
_DECODER = {
    "bert": "cls.predictions.decoder",
    "roberta": "lm_head.decoder",
    "distilbert": "vocab_projector",
}
"""The decoder of masked words: the table of words and the bias of the head once more."""
_IDLE_ARRAYS = (r"(.+\.)?embeddings\.position_ids", r"cls\.seq_relationship\..+")
_POOLER = r"(.+\.)?pooler\.dense\..+"


def naming(options: Mapping[str, Any]) -> Naming:
    """The table of names of an encoder with these options."""
    told = _told(options)
    return _naming(told["family"], told["head"], _keeps_pooler(told))


@functools.cache
def _naming(family: str, head: str, pooler: bool) -> Naming:
    inside = "" if head == "none" else f"{family}."
    layer = "transformer.layer" if family == "distilbert" else "encoder.layer"
    parts = _DISTILBERT_LAYER if family == "distilbert" else _BERT_LAYER
    heads = _HEADS[family].get(head, {})
    rows = (
        *((ours, inside + theirs) for ours, theirs in _EMBEDDINGS.items()),
        *(
            (_BLOCK + ours, f"{inside}{layer}.{{}}.{theirs}".format)
            for ours, theirs in parts.items()
        ),
        *heads.items(),
    )
    tied = {}
    if head == "masked":
        words, decoder = f"{inside}embeddings.word_embeddings", _DECODER[family]
        tied = {f"{decoder}.weight": f"{words}.weight"}
        if heads["bias"] != f"{decoder}.bias":
            tied[f"{decoder}.bias"] = heads["bias"]
    idle = (*_IDLE_ARRAYS, *(() if pooler else (_POOLER,)))
    return Naming("Hugging Face", rows, idle, tied)


def held(options: Mapping[str, Any], arrays: Collection[str]) -> dict[str, Any]:
    """The options that only the arrays of a file tell: whether there is a pooler that its head does
    not read.
    """
    told = _told(options)
    there = any(name.endswith("pooler.dense.weight") for name in arrays)
    if told["head"] == "sentence" or told["family"] == "distilbert":
        return {}
    return {"pooler": True} if there else {}


def _keeps_pooler(told: Mapping[str, Any]) -> bool:
    return told["pooler"] or (told["head"] == "sentence" and told["family"] == "bert")


def _told(options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an encoder, those by default too."""
    bound = inspect.signature(encoder).bind(**{"classes": 1, **options})
    bound.apply_defaults()
    return bound.arguments


# ------------------------------------------------------------------------------------------ fields

_SIZES = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
    "positions": "max_position_embeddings",
}
_CHANCES = {"dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"}
_DISTILBERT_SIZES = {
    **_SIZES,
    "width": "dim",
    "depth": "n_layers",
    "heads": "n_heads",
    "mlp": "hidden_dim",
}
_DISTILBERT_CHANCES = {"dropout": "dropout", "attention_dropout": "attention_dropout"}
_OWN_EPSILON = 1e-12  # of DistilBERT, whose page does not say it
_PADDING = 1  # RoBERTa's token; positions begin after it
_USUAL = 0.1  # what transformers takes where a page says no probability
_IDLE_FIELDS = (
    *("classifier_dropout", "gradient_checkpointing", "output_past", "directionality"),
    *("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
    *("pooler_size_per_head", "pooler_type", "qa_dropout", "seq_classif_dropout", "tie_weights_"),
    "sinusoidal_pos_embds",
)
"""Fields that change no answer in evaluation: training, first weights, heads that are not here."""


def _read(
    family: str, sizes: Mapping[str, str], chances: Mapping[str, str], fields: Fields
) -> dict[str, Any]:
    told = {
        **{ours: fields.whole(theirs) for ours, theirs in sizes.items()},
        "depth": fields.whole(sizes["depth"], _DEEPEST),
        **{ours: fields.chance(theirs, _USUAL) for ours, theirs in chances.items()},
    }
    told["positions"] -= OFFSET[family]
    if told["positions"] < 1:
        raise fields.wrong(sizes["positions"], f"more than the {OFFSET[family]} before the first")
    if family == "distilbert":
        fields.must_say("activation")
        return told
    fields.must_say("hidden_act", "layer_norm_eps", "type_vocab_size")
    if family == "roberta":
        fields.must_say("pad_token_id")
    told |= {
        "segments": fields.whole("type_vocab_size"),
        "epsilon": fields.number("layer_norm_eps"),
    }
    return told


def _write(
    family: str,
    sizes: Mapping[str, str],
    chances: Mapping[str, str],
    options: Mapping[str, Any],
    shapes: Mapping[str, Shape],
) -> dict[str, Any]:
    told = _told(options)
    told["vocabulary"] = shapes["params/embeddings/words/embedding"][0]
    told["mlp"] = told["mlp"] or 4 * told["width"]
    told["positions"] += OFFSET[family]
    fields = {theirs: told[ours] for ours, theirs in {**sizes, **chances}.items()}
    segments = SEGMENTS[family] if told["segments"] is None else told["segments"]
    if family == "distilbert":
        if told["epsilon"] != _OWN_EPSILON or segments:
            raise KdError(
                f"Hugging Face's DistilBERT has epsilon={_OWN_EPSILON} and no segments, and this "
                f"one {told['epsilon']} and {segments}; leave out format=hf"
            )
        return {**fields, "activation": "gelu", "pad_token_id": 0, "tie_word_embeddings": True}
    return {
        **fields,
        "type_vocab_size": segments,
        "layer_norm_eps": told["epsilon"],
        "hidden_act": "gelu",
        "pad_token_id": _PADDING if family == "roberta" else 0,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
    }


def _architecture(family: str, head: str) -> Architecture:
    own = family == "distilbert"
    sizes = _DISTILBERT_SIZES if own else _SIZES
    chances = _DISTILBERT_CHANCES if own else _CHANCES
    fixed: dict[str, tuple[Any, ...]] = {**_ENCODES}
    fixed |= {"activation": ("gelu",)} if own else _EXACT
    if family == "roberta":
        fixed["pad_token_id"] = (_PADDING,)
    if head == "masked":
        fixed["tie_word_embeddings"] = (True,)
    width = {"masked": sizes["vocabulary"], "none": sizes["width"]}.get(head)
    return Architecture(
        family,
        "encoder",
        {"family": family, "head": head},
        (*sizes.values(), *chances.values(), "layer_norm_eps", "type_vocab_size", *_IDLE_FIELDS),
        functools.partial(_read, family, sizes, chances),
        functools.partial(_write, family, sizes, chances),
        fixed,
        texts=True,
        width=width,
    )


_CLASS_OF = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert"}
_CLASS_FOR = {
    "masked": "ForMaskedLM",
    "sentence": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "none": "Model",
}

ENCODERS = {
    _CLASS_OF[family] + _CLASS_FOR[head]: _architecture(family, head)
    for family in _CLASS_OF
    for head in _CLASS_FOR
}
