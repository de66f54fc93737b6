"""Encoders and Hugging Face's folders: transformers answers as kd does and reads what kd writes;
what kd writes it reads back, and what says something else is one line.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import folders
import kd
import texts
import tiny
from kd.exporting.hugging_face import write_hugging_face
from kd.lineage import DataSet, FirstWeights, Lineage, Weights
from kd.models import encoder
from kd.models.abstract import shapes
from kd.models.repeated import rolled
from kd.models.weights import FAMILIES, files
from kd.models.weights.encoders import ENCODERS
from kd.models.weights.hugging_face import described
from kd.models.weights.names import expected

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


# ------------------------------------------------------------------------- kd's own, both ways


@every_class
def test_what_is_written_is_read_back_as_the_same_network(name, tmp_path):
    family, head = parts(name)
    trained = texts.trained(family, head, pooler=head == "none" and family != "distilbert")
    trained.export(tmp_path / "kept", format="hf")
    after = kd.load(f"hf:{tmp_path / 'kept'}")
    tiny.close(after.params, trained.params, 0, 0)
    assert after.seen == dataclasses.replace(trained.seen, low=None, high=None)
    after.export(tmp_path / "again", format="hf")
    for file in (files.WEIGHTS, "config.json"):
        again, kept = (tmp_path / folder / file for folder in ("again", "kept"))
        assert again.read_bytes() == kept.read_bytes()


def arrays_in(folder):
    return safetensors.numpy.load_file(folder / files.WEIGHTS)


def rewritten(folder, arrays):
    safetensors.numpy.save_file(arrays, folder / files.WEIGHTS)


def test_files_of_other_years_are_the_same_network(tmp_path):
    """Norms under their first names, arrays that nothing reads, the decoder beside its table,
    and numbers of bfloat16.
    """
    texts.trained("bert", "masked").export(tmp_path, format="hf")
    before, arrays = kd.load(f"hf:{tmp_path}"), arrays_in(tmp_path)
    words = arrays["bert.embeddings.word_embeddings.weight"]
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): array
        for name, array in arrays.items()
    }
    old |= {
        "bert.embeddings.position_ids": np.arange(4)[None],
        "cls.seq_relationship.weight": np.zeros((2, 8), np.float32),
        "cls.predictions.decoder.weight": words.copy(),
        "cls.predictions.decoder.bias": arrays["cls.predictions.bias"].copy(),
    }
    rewritten(tmp_path, old)
    tiny.close(kd.load(f"hf:{tmp_path}").params, before.params, 0, 0)
    rewritten(tmp_path, {name: array.astype(jnp.bfloat16) for name, array in arrays.items()})
    rounded = jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), before.params
    )
    tiny.close(kd.load(f"hf:{tmp_path}").params, rounded, 0, 0)
    rewritten(tmp_path, {**old, "cls.predictions.decoder.weight": words + 1})
    with pytest.raises(kd.KdError, match=r"decoder.weight, which is not bert.embeddings.word"):
        kd.load(f"hf:{tmp_path}")


def test_a_pooler_is_kept_where_the_file_has_one(tmp_path):
    texts.trained("bert", "none", pooler=True).export(tmp_path, format="hf")
    assert "pooler" in kd.load(f"hf:{tmp_path}").params
    few = {name: array for name, array in arrays_in(tmp_path).items() if "pooler" not in name}
    rewritten(tmp_path, few)
    assert "pooler" not in kd.load(f"hf:{tmp_path}").params


def test_files_of_at_most_so_many_bytes_and_blocks_of_a_scan(tmp_path):
    trained = texts.trained("bert", "masked")
    scanned = texts.small("bert", "masked", scan=True)
    write_hugging_face(
        tmp_path, scanned, rolled(trained.params), {}, trained.seen, None, largest=2000
    )
    told = json.loads((tmp_path / files.INDEX).read_text())
    sizes = [file.stat().st_size for file in tmp_path.glob("model-*-of-*.safetensors")]
    assert len(sizes) > 2
    assert len(set(told["weight_map"].values())) == len(sizes)
    tiny.close(kd.load(f"hf:{tmp_path}").params, trained.params, 0, 0)


def lineage(folder):
    init = FirstWeights(f"hf:{folder}", "abc", "d", "apache-2.0", copied=("a",), fresh=("b", "c"))
    data = DataSet("glue", "/somewhere", "123", {}, "other")
    return Lineage((data,), {}, {"jax": "1"}, Weights("run:/my/teacher", "def", "e"), init)


def test_the_tokenizer_goes_with_it(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    texts.trained("bert", "sentence").export(source, format="hf")
    for name in ("tokenizer.json", "vocab.txt"):
        (source / name).write_text(f"this is {name}")
    trained = texts.trained("distilbert", "sentence", class_names=("no", "perhaps", "yes"))
    dataclasses.replace(trained, lineage=lineage(source)).export(target, format="hf")
    for name in ("tokenizer.json", "vocab.txt"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert kd.load(f"hf:{target}").class_names == ("no", "perhaps", "yes")


# ---------------------------------------------------------------------------- real shapes, refusals

DISTILBERT = json.loads("""{"architectures": ["DistilBertForMaskedLM"], "model_type": "distilbert",
"activation": "gelu", "attention_dropout": 0.1, "dropout": 0.1, "dim": 768, "hidden_dim": 3072,
"initializer_range": 0.02, "max_position_embeddings": 512, "n_heads": 12, "n_layers": 6,
"pad_token_id": 0, "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "tie_weights_": true,
"sinusoidal_pos_embds": false, "vocab_size": 30522}""")


def of_distilbert():
    """Names and shapes of DistilBERT as it was published."""
    wide, layers = 768, {}
    for i in range(6):
        at = f"distilbert.transformer.layer.{i}."
        linear = {f"attention.{name}_lin": (wide, wide) for name in ("q", "k", "v", "out")}
        linear |= {"ffn.lin1": (4 * wide, wide), "ffn.lin2": (wide, 4 * wide)}
        for name, shape in linear.items():
            layers |= {f"{at}{name}.weight": shape, f"{at}{name}.bias": shape[:1]}
        for name in ("sa_layer_norm", "output_layer_norm"):
            layers |= {f"{at}{name}.{part}": (wide,) for part in ("weight", "bias")}
    return {
        **layers,
        "distilbert.embeddings.word_embeddings.weight": (30522, wide),
        "distilbert.embeddings.position_embeddings.weight": (512, wide),
        **{f"distilbert.embeddings.LayerNorm.{part}": (wide,) for part in ("weight", "bias")},
        **{f"vocab_layer_norm.{part}": (wide,) for part in ("weight", "bias")},
        "vocab_transform.weight": (wide, wide),
        "vocab_transform.bias": (wide,),
        "vocab_projector.bias": (30522,),
    }


def test_distilberts_own_folder_has_these_names_and_shapes():
    told = described(DISTILBERT, "config.json")
    model = encoder(told.classes, **told.options)
    tree = shapes(model, texts.ONE_TEXT)
    naming = FAMILIES["encoder"].namings(told.options)[0]
    assert expected({"params": tree.params, "extra": {}}, naming) == of_distilbert()
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(tree.params)) == 66_985_530


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The config of a folder of each family."""
    told = {}
    for family in texts.FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        texts.trained(family, "masked").export(folder, format="hf")
        told[family] = json.loads((folder / "config.json").read_text())
    return told


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("bert", {"architectures": ["BartModel"]}, "unknown class .*'BartModel'.*BertModel"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type='relative"),
        ("bert", {"hidden_act": "gelu_new"}, "hidden_act='gelu_new', which changes"),
        ("bert", {"hidden_act": None}, "does not say hidden_act"),
        ("bert", {"is_decoder": True}, "is_decoder=True, which changes"),
        ("bert", {"layer_norm_eps": None}, "does not say layer_norm_eps"),
        ("bert", {"type_vocab_size": None}, "does not say type_vocab_size"),
        ("bert", {"vocab_size": None}, "vocab_size must be a whole number"),
        ("bert", {"tie_word_embeddings": False}, "tie_word_embeddings=False, which changes"),
        ("bert", {"embedding_size": 4}, "embedding_size=4, which kd does not know"),
        ("bert", {"num_attention_heads": 3}, "heads=3 do not divide"),
        ("roberta", {"pad_token_id": None}, "does not say pad_token_id"),
        ("roberta", {"pad_token_id": 0}, "pad_token_id=0, which changes"),
        ("roberta", {"max_position_embeddings": 2}, "more than the 2 before the first"),
        ("distilbert", {"activation": "relu"}, "activation='relu', which changes"),
        ("distilbert", {"activation": None}, "does not say activation"),
    ],
)
def test_a_page_that_says_something_else_is_one_line(family, changes, words, pages, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(pages[family]))
    folders.edited(tmp_path / "config.json", **changes)
    told = json.loads((tmp_path / "config.json").read_text())
    with pytest.raises(kd.KdError, match=words):
        encoder(**{"classes": 20, **described(told, "config.json").options})


BARE = {"name": "encoder", "vocabulary": 20}


def test_what_hugging_face_does_not_have_is_one_line(tmp_path):
    odd = texts.trained("distilbert", "token", epsilon=1e-5)
    with pytest.raises(kd.KdError, match=r"Hugging Face's DistilBERT has epsilon=1e-12"):
        odd.export(tmp_path / "kept", format="hf")
    with pytest.raises(kd.KdError, match=r"alone do not say what an encoder of texts computes"):
        kd.load(f"weights:{tmp_path / 'a.safetensors'}", model=BARE)
