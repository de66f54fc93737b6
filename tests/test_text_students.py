"""Laws of the recurrent student, and of tokenizers that do not fit a model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import texts
from kd.data import Vocabulary
from kd.models import bilstm
from kd.models.precision import in_bfloat16
from kd.models.vocabulary import check_vocabulary

SMALL = bilstm(3, vocabulary=texts.WORDS, width=5, states=4, hidden=6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def last(cell, rows):
    """The state of an LSTM after the last row, in float64, gate by gate."""
    c = h = np.zeros(4)
    for row in rows:
        i, f, g, o = (
            row @ cell[f"i{gate}"]["kernel"]
            + h @ cell[f"h{gate}"]["kernel"]
            + cell[f"h{gate}"]["bias"]
            for gate in "ifgo"
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def test_it_reads_each_text_from_both_ends_and_no_padding():
    inputs, params = texts.texts(5, 3, length=6), texts.drawn(SMALL)
    got = np.asarray(texts.answers(SMALL, params, inputs).logits)
    tree = {name: params[name] for name in params}
    for text, answer in zip(inputs, got, strict=True):
        words = np.asarray(tree["words"]["embedding"])[text[text[:, 1] > 0, 0]]
        states = [
            last(tree[f"{way}_cell"], rows)
            for way, rows in (("forward", words), ("backward", words[::-1]))
        ]
        x = np.concatenate(states) @ tree["hidden"]["kernel"] + tree["hidden"]["bias"]
        wanted = np.maximum(x, 0) @ tree["head"]["kernel"] + tree["head"]["bias"]
        np.testing.assert_allclose(answer, wanted, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_it_answers_nearly_the_same():
    inputs, params = texts.texts(5, 3), texts.drawn(SMALL)
    wanted, got = (
        np.asarray(texts.answers(model, params, inputs).logits)
        for model in (SMALL, in_bfloat16(SMALL))
    )
    assert 1e-5 < np.abs(wanted - got).max() < 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [({"width": 0}, "needs width of 1 or more"), ({"dropout": 1.0}, r"lie in \[0, 1\)")],
)
def test_what_no_bilstm_can_be_is_one_line(options, words):
    with pytest.raises(kd.KdError, match=words):
        bilstm(3, vocabulary=9, **options)
    with pytest.raises(kd.KdError, match=r"needs tokens and segments \[b l 2\]"):
        SMALL.apply(texts.drawn(SMALL), {}, jnp.zeros((2, 3)))


def test_a_tokenizer_of_more_words_than_embeddings_is_one_line_that_shows_both():
    facts = {"pad": 0, "cls": 1, "sep": 2, "mask": None, "unk": None, "special": (0, 1, 2)}
    vocabulary = Vocabulary(size=texts.WORDS, fingerprint="a" * 64, **facts)
    params = texts.drawn(SMALL)
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    check_vocabulary(vocabulary, params, "the student")
    check_vocabulary(vocabulary, {"Embed_0": {"embedding": np.zeros((2, 3))}}, "a network")
    more = dataclasses.replace(vocabulary, size=texts.WORDS + 1)
    for arrays in (params, members):
        words = rf"a+ has {texts.WORDS + 1} words and the teacher has embeddings of {texts.WORDS}"
        with pytest.raises(kd.KdError, match=words):
            check_vocabulary(more, arrays, "the teacher")
