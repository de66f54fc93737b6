"""Laws of the encoder of texts: what it sees, its scan, types and taps, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import kd
import texts
import tiny
from kd.core.terms import tapped
from kd.models.attention import attend
from kd.models.encoder import SPLIT, visible
from kd.models.precision import in_bfloat16
from kd.models.repeated import rolled, unrolled

NEAR = {"rtol": 1e-5, "atol": 1e-5}
every_family = pytest.mark.parametrize("family", texts.FAMILIES)


def logits(model, params, inputs, **options):
    return np.asarray(texts.answers(model, params, inputs, **options).logits)


@every_family
def test_padding_changes_nothing(family):
    model = texts.small(family, "token")
    params, short, long = texts.drawn(model), texts.texts(5, 3), texts.texts(5, 3, length=8)
    there = short[..., 1] > 0
    wanted, got = logits(model, params, short), logits(model, params, long)[:, :5]
    np.testing.assert_allclose(got[there], wanted[there], **NEAR)
    spoilt = long.copy()
    spoilt[..., 0] = np.where(long[..., 1] > 0, long[..., 0], 7)
    np.testing.assert_allclose(logits(model, params, spoilt)[:, :5][there], wanted[there], **NEAR)


@every_family
def test_packed_texts_are_those_texts_alone(family):
    model = texts.small(family, "token", packed=True)
    params, alone = texts.drawn(model), texts.texts(4, 3, pair=False)
    row = np.zeros((1, 9, 2), np.int32)
    row[0, :4], row[0, 4:7] = alone[0], alone[1, :3]
    row[0, 4:7, 1] = 2
    got = logits(model, params, row)[0]
    wanted = logits(texts.small(family, "token"), params, alone)
    np.testing.assert_allclose(got[:4], wanted[0], **NEAR)
    np.testing.assert_allclose(got[4:7], wanted[1, :3], **NEAR)


def test_kinds_of_tokens_are_read_by_bert_alone():
    for family, reads in (("bert", True), ("roberta", False), ("distilbert", False)):
        model = texts.small(family, "sentence")
        params, paired = texts.drawn(model), texts.texts(4, 4)
        one_text = np.stack([paired[..., 0], np.ones_like(paired[..., 0])], -1)
        same = np.allclose(logits(model, params, paired), logits(model, params, one_text))
        assert same != reads


@pytest.mark.parametrize(
    "options", [{"scan": True}, {"remat": True}, {"scan": True, "remat": True}]
)
def test_a_scan_and_recomputing_change_no_number(options):
    still = {"dropout": 0.0, "attention_dropout": 0.0}
    plain, other = texts.small(**still), texts.small(**options, **still)
    inputs, params = jnp.asarray(texts.texts(5, 3)), texts.drawn(plain)
    own = rolled(params) if "scan" in options else params
    tiny.close(unrolled(own), params, 0, 0)

    def slope(model, tree):
        @jax.jit
        @jax.value_and_grad
        def loss(tree):
            answer, _ = model.apply(tree, {}, inputs, train=True, key=jax.random.key(0))
            return jnp.sum(answer.logits**2)

        return loss(tree)

    value, gradient = slope(plain, params)
    got, slopes = slope(other, jax.tree.map(jnp.asarray, own))
    np.testing.assert_allclose(got, value, rtol=1e-5)
    tiny.close(unrolled(slopes), gradient, 1e-3, 1e-4)


def test_dropout_is_off_in_evaluation_and_a_function_of_its_key():
    model, inputs = texts.small(dropout=0.5, attention_dropout=0.5), texts.texts(5, 3)
    params = texts.drawn(model)
    still, same = (logits(model, params, inputs) for _ in range(2))
    np.testing.assert_array_equal(still, same)
    moved, again = (logits(model, params, inputs, train=True) for _ in range(2))
    np.testing.assert_array_equal(moved, again)
    assert np.abs(moved - still).max() > 0.01


def test_in_bfloat16_its_parameters_and_their_gradients_are_float32():
    model, inputs = texts.small("bert", "masked"), jnp.asarray(texts.texts(5, 3))
    params = texts.drawn(model)
    half = in_bfloat16(model)
    wanted, got = logits(model, params, inputs), logits(half, params, inputs)
    assert 1e-4 < np.abs(got - wanted).max() < 0.2 * np.abs(wanted).max()

    def mean(params):
        return half.apply(params, {}, inputs)[0].logits.mean()

    kinds = jax.tree.map(lambda leaf: leaf.dtype, jax.eval_shape(jax.grad(mean), params))
    assert set(jax.tree.leaves(kinds)) == {jnp.dtype("float32")}
    text = str(jax.make_jaxpr(mean)(params))
    assert "bf16" in text


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_jax(masked):
    random = np.random.default_rng(0)
    query, key, value = (random.normal(size=(2, 5, 3, 4)).astype(np.float32) for _ in range(3))
    seen = visible(jnp.asarray(texts.texts(5, 3)[..., 1]), packed=False) if masked else None
    wanted = jax.nn.dot_product_attention(query, key, value, mask=seen)
    np.testing.assert_allclose(attend(*map(jnp.asarray, (query, key, value)), seen), wanted, **NEAR)


def test_split_over_fsdp_and_tensor_it_trains_as_on_one_device():
    """By the very program that ``kd plan`` compiles."""
    model = texts.small("bert", "masked", depth=1, dropout=0.0, attention_dropout=0.0)
    inputs = texts.texts(*[5, 3, 4, 5] * 2, length=5)
    data = kd.arrays(
        inputs,
        inputs[..., 0],
        num_classes=texts.WORDS,
        ids=True,
        positions=(5,),
        weights=(inputs[..., 1] > 0).astype(np.float32),
    )
    told = {"epochs": 1, "batch_size": 4, "seed": 1}
    alone = kd.fit(model, data, [kd.term("hard")], **told)
    mesh = kd.MeshSpec(devices=8, data=2, fsdp=2, tensor=2)
    split = kd.Sharding(student=kd.Rule("fsdp", paths=SPLIT))
    spread = kd.fit(model, data, [kd.term("hard")], mesh=mesh, sharding=split, **told)
    tiny.close(spread.params, alone.params, 1e-4, 1e-5)
    block = spread.params["blocks_0"]
    assert block["up"]["kernel"].sharding.spec == PartitionSpec("fsdp", "tensor")
    assert block["attention"]["out"]["kernel"].sharding.spec == PartitionSpec("tensor", "fsdp")


# -------------------------------------------------------------------------------------------- taps

TAPS = ("scores", "query_relations", "key_relations", "value_relations")


def test_taps_are_what_attention_is_made_of():
    """In a scan as in blocks of their own; a softmax of the scores weighs the values."""
    inputs, model = texts.texts(5, 3), texts.small()
    params = texts.drawn(model)
    paths = [f"blocks_1/attention/{name}" for name in (*TAPS, "query", "key", "value")]
    taps = texts.answers(model.tapped(tuple(paths)), params, inputs).taps
    query, key, value = (np.asarray(taps[path]).reshape(2, 5, 2, 4) for path in paths[4:])
    there = inputs[..., 1] > 0
    for path, (a, b) in zip(
        paths[:4], ((query, key), (query, query), (key, key), (value, value)), strict=True
    ):
        wanted = np.einsum("bqhd,bkhd->bqhk", a, b) / 2
        got = np.moveaxis(np.asarray(taps[path]), 2, 1)  # [b h q k]
        assert (got[:, :, :, ~there[1]][1] < -1e8).all()
        seen = np.broadcast_to(there[:, None, None], got.shape)
        np.testing.assert_allclose(got[seen], np.moveaxis(wanted, 2, 1)[seen], **NEAR)
    scanned = texts.small(scan=True).tapped(("blocks/1/attention/scores", "blocks/0"))
    own = texts.answers(scanned, jax.tree.map(jnp.asarray, rolled(params)), inputs).taps
    np.testing.assert_allclose(own["blocks/1/attention/scores"], taps[paths[0]], **NEAR)


def test_a_tap_that_nobody_asks_for_costs_nothing():
    inputs, model = jnp.asarray(texts.texts(5, 3)), texts.small()
    params = texts.drawn(model)

    def products(model):
        run = jax.jit(lambda params: model.apply(params, {}, inputs)[0])
        return run.lower(params).compile().as_text().count(" dot(")

    bare = products(model)
    assert products(model.tapped(("blocks_0/attention/value_relations",))) == bare + 1
    assert products(model.tapped(("blocks_0",))) == bare


TERMS = {
    "attention_mse": {"relations": "blocks_1/attention/scores"},
    "hidden_cosine": {"hidden": "blocks_1"},
    "hidden_mse": {"hidden": "embeddings"},
    "minilm": {
        "relations": tuple((f"blocks_1/attention/{name}",) * 2 for name in (TAPS[0], TAPS[3]))
    },
    "pkd": {"hidden": "blocks_0"},
}


def terms(head):
    """Each with what it owns; of every token there is no first one."""
    moved = {"kernel": jnp.eye(texts.WIDTH) * 0.9, "bias": jnp.full(texts.WIDTH, 0.1)}
    owned = {"hidden_mse": kd.Heads(dropped=moved), "hidden_cosine": kd.Heads(), "pkd": kd.Heads()}
    for loss, taps in TERMS.items():
        if (loss, head) != ("pkd", "token"):
            yield kd.term(loss, taps=taps), [owned[loss]] if loss in owned else []


@pytest.mark.parametrize("head", ["sentence", "token"])
def test_a_loss_of_a_padded_text_is_that_of_the_text(head):
    """Of a text its mean over tokens, of every token its own."""
    every = list(terms(head))
    paths = [p[0] for term, _ in every for pairs in term.taps.values() for p in pairs]
    model = texts.small("bert", head, relation_heads=4).tapped(tuple(dict.fromkeys(paths)))

    @jax.jit
    def values(own, taught, inputs):
        sides = [model.apply(params, {}, inputs)[0] for params in (own, taught)]
        return {t.name: t.info.loss(*tapped(t, *sides), {}, {}, *owned) for t, owned in every}

    own, taught = (texts.drawn(model, seed) for seed in (0, 1))
    inputs = jnp.asarray(texts.texts(4, 4, length=7))
    long, short = (values(own, taught, inputs[:, :length]) for length in (7, 4))
    for name, wanted in short.items():
        got = long[name][:, :4] if head == "token" else long[name]
        np.testing.assert_allclose(got, wanted, **NEAR, err_msg=name)
        assert (np.abs(wanted) > 1e-4).all()


def test_a_loss_of_relations_refuses_other_heads():
    term = kd.term("minilm", taps={"relations": "blocks_0/attention/value_relations"})
    inputs = texts.texts(4, 4)
    sides = []
    for options in ({}, {"heads": 4}):
        model = texts.small(**options).tapped(("blocks_0/attention/value_relations",))
        sides.append(texts.answers(model, texts.drawn(model), inputs))
    with pytest.raises(kd.KdError, match=r"student\.relation_heads"):
        term.info.loss(*tapped(term, *sides), {}, {})
    token = texts.small("bert", "token").tapped(("blocks_0",))
    side = texts.answers(token, texts.drawn(token), inputs)
    own = kd.term("pkd", taps={"hidden": "blocks_0"})
    with pytest.raises(kd.KdError, match="compares the first token"):
        own.info.loss(*tapped(own, side, side), {}, {}, kd.Heads())


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vocabulary": None}, "needs vocabulary"),
        ({"head": "masked", "classes": 9}, "answers for the 20 words .* and 9 classes"),
        ({"head": "none", "classes": 9}, "answers with its 8 features and 9"),
        ({"heads": 3}, "heads=3 do not divide"),
        ({"relation_heads": 3}, "relation_heads=3 do not divide"),
        ({"depth": 0}, "needs depth of 1 or more"),
        ({"dropout": 1.0}, r"dropout of an encoder must lie in \[0, 1\)"),
        ({"segments": -1}, "segments of 0 or more"),
    ],
)
def test_what_no_encoder_can_be_is_one_line(options, words):
    with pytest.raises(kd.KdError, match=words):
        texts.small(**{"family": "bert", "head": "sentence", **options})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (jnp.zeros((2, 11, 2), jnp.int32), "texts of 11 tokens are longer than the 10 positions"),
        (jnp.zeros((2, 5), jnp.int32), r"needs tokens and segments \[b l 2\]"),
        (jnp.zeros((2, 5, 2), jnp.float32), "as whole numbers"),
    ],
)
def test_inputs_that_are_no_texts_are_one_line(inputs, words):
    model = texts.small()
    with pytest.raises(kd.KdError, match=words):
        jax.eval_shape(lambda: model.apply(texts.drawn(model), {}, inputs))
