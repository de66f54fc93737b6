"""Laws of hidden words: how many and which is a function of (seed, step, example) alone."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
import small_text
import tiny
from kd import data as kd_data
from kd import evals
from kd.core import rng
from kd.core.terms import term
from kd.errors import KdError
from kd.models import as_model
from kd.teachers.answers import reading
from kd.teachers.trained import Trained, evaluation
from kd.training import loop

WORDS = small_text.WORDS
SPECIAL = range(len(small_text.SPECIAL))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    text = kd_data.Text(
        tokenizer=str(small_text.write_vocabulary(folder)), length=24, buckets=2, masked=0.15
    )
    return kd_data.from_texts(small_text.sentences(200, longest=20)[0], text=text)


def batch_of(data, length=None):
    rows = jnp.arange(len(data))
    batch = kd_data.gather(kd_data.to_device(data), rows)
    return kd_data.shortened(batch, length, positions=True)


@functools.cache
def compiled(view):
    return jax.jit(view.__call__)


def hidden_by(view, data, step=0, length=None):
    batch = batch_of(data, length)
    return batch, compiled(view)(rng.stream(rng.key(3), step, "view"), batch)


def test_fifteen_in_a_hundred_words_are_hidden_and_eight_in_ten_of_them_masked(texts):
    view = kd_data.masking(texts, 0.15)
    asked = hides = masked = kept = 0
    for step in range(30):
        batch, seen = hidden_by(view, texts, step)
        eligible, hide = batch["weight"] > 0, seen["weight"] > 0
        was, now = batch["inputs"][..., 0], seen["inputs"][..., 0]
        assert not (hide & ~eligible).any()
        assert not (~hide & (was != now)).any()  # the rest is as it was
        assert (np.asarray(was)[np.asarray(hide)] >= len(SPECIAL)).all()
        np.testing.assert_array_equal(seen["labels"], was)
        np.testing.assert_array_equal(seen["inputs"][..., 1], batch["inputs"][..., 1])
        each = np.asarray(hide.sum(axis=1)) - 0.15 * np.asarray(eligible.sum(axis=1))
        assert (np.abs(each) < 1).all()  # of every text, up to one
        asked += int(eligible.sum())
        hides += int(hide.sum())
        masked += int((hide & (now == WORDS.index("[MASK]"))).sum())
        kept += int((hide & (now == was)).sum())
    ordinary = len(WORDS) - len(SPECIAL)
    deviation = np.sqrt(0.25 / hides)
    assert abs(hides / asked - 0.15) < 4 * np.sqrt(0.25 * 30 * 200) / asked
    assert abs(masked / hides - 0.8) < 4 * deviation
    assert abs(kept / hides - 0.1 * (1 + 1 / ordinary)) < 4 * deviation


def test_it_is_a_function_of_key_and_example_whatever_stands_beside_it(texts):
    """The batch, its order, and how far it is padded do not matter; the step and seed do."""
    view = kd_data.masking(texts, 0.3)
    _, seen = hidden_by(view, texts)
    short = texts.order((0,), 8).lengths[0]
    fits = np.flatnonzero(texts.token_lengths <= short)
    _, cut = hidden_by(view, texts, length=short)
    np.testing.assert_array_equal(cut["inputs"][fits], seen["inputs"][fits, :short])
    np.testing.assert_array_equal(cut["weight"][fits], seen["weight"][fits, :short])
    turned = {name: value[::-1] for name, value in batch_of(texts).items()}
    other = compiled(view)(rng.stream(rng.key(3), 0, "view"), turned)
    np.testing.assert_array_equal(other["inputs"][::-1], seen["inputs"])
    assert (hidden_by(view, texts, step=1)[1]["inputs"] != seen["inputs"]).any()


def test_rare_words_are_hidden_more_often(texts):
    """Of words of one text in proportion to ``count^-rare``, up to drawing without replacement."""
    counts = np.bincount(texts.labels[texts.weights > 0], minlength=len(WORDS))
    often, rare = (kd_data.masking(texts, 0.15, rare=power) for power in (0.0, 2.0))
    shares = []
    for view in (often, rare):
        hides = np.zeros(len(WORDS))
        for step in range(10):
            _, seen = hidden_by(view, texts, step)
            hides += np.bincount(seen["labels"][seen["weight"] > 0], minlength=len(WORDS))
        shares.append(hides[len(SPECIAL) :] / np.maximum(counts[len(SPECIAL) :], 1))
    order = np.argsort(counts[len(SPECIAL) :])
    there = order[counts[len(SPECIAL) :][order] > 0]
    fewest, most = there[:4], there[-4:]
    assert shares[1][fewest].mean() > 1.5 * shares[1][most].mean()
    np.testing.assert_allclose(shares[0][fewest].mean(), shares[0][most].mean(), rtol=0.25)
    assert often.identity != rare.identity != kd_data.masking(texts, 0.2, rare=2.0).identity


def test_held_out_words_are_hidden_once_and_judged_without_their_logits(texts):
    view = kd_data.masking(texts, 0.15)
    held_out = kd_data.hidden(texts, view)
    assert held_out.fingerprint == kd_data.hidden(texts, view).fingerprint != texts.fingerprint
    assert 0.1 < held_out.has_label.sum() / texts.has_label.sum() < 0.2
    model = as_model(small_text.Reader(len(WORDS), every=True))
    params, extra = model.init(jax.random.key(0), jnp.asarray(texts.first))
    trained = Trained(model, params, extra)
    judged = held_out.has_label
    logits = trained.logits(held_out)[judged]
    told = evaluation(trained, held_out)["members"][0]

    labels = held_out.labels[judged]
    assert told["errors"] == evals.errors(logits, labels)
    np.testing.assert_allclose(told["perplexity"], evals.perplexity(logits, labels), rtol=1e-5)
    np.testing.assert_allclose(told["nll"], evals.nll(logits, labels), rtol=1e-5)
    np.testing.assert_allclose(told["accuracy"], evals.accuracy(logits, labels))


def test_members_hide_other_words(texts):
    """Which is what a run of its own with that member's seed hides."""
    whole = dataclasses.replace(texts, tokens=dataclasses.replace(texts.tokens, buckets=1))
    terms, view = (term("hard"),), kd_data.masking(texts, 0.15)
    told = {"data": whole, "teacher": None, "batch_size": 8, "steps": 4, "view": view}
    model = small_text.Reader(len(WORDS), every=True)
    columns = {"init_seed": (0, 0), "seed": (3, 4)}
    both = loop.run(tiny.task(model, terms, tiny.members_of(terms, 0.1, **columns), **told))
    alone = tiny.members_of(terms, 0.1, **columns).member(1)
    other = loop.run(tiny.task(model, terms, alone, **told))
    tiny.close(tiny.take(both.params, 1), other.params)
    assert tiny.differ(tiny.take(both.params, 0), other.params)


def test_a_masked_model_is_trained_by_a_config_and_its_perplexity_falls(tmp_path):
    small_text.write_vocabulary(tmp_path)
    for split, seed in (("train", 0), ("test", 1)):
        lines = small_text.sentences(200, seed)[0]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines), "utf-8")
    keys = {
        "data__source": "text:.",
        "data__data_dir": tmp_path,
        "data__train": "train",
        "data__eval": "test",
        "data__batch_size": 8,
        "data__text__tokenizer": "vocab.txt",
        "data__text__length": 32,
        "data__text__packed": True,
        "data__text__masked": 0.15,
        "data__text__rare": 0.7,
        "student": "{'name':'small_text:reader','every':True}",
        "optim__name": "adam",
        "optim__learning_rate": 0.03,
        "total_steps": 60,
        "log_steps": 30,
        "eval_epochs": 3,
    }
    assert runs.train(tmp_path / "run", **keys) == 0
    told = json.loads((tmp_path / "run" / "evaluation.json").read_text())["members"][0]
    seen = [line["eval/perplexity"] for line in runs.lines(tmp_path / "run") if "eval/nll" in line]
    assert told["perplexity"] < 0.9 * len(WORDS)
    assert seen


def test_words_of_another_tokenizer_are_refused(texts, tmp_path):
    file = small_text.write_vocabulary(tmp_path, (*WORDS, "more"))
    text = kd_data.Text(tokenizer=str(file), length=24)
    other = kd_data.from_texts(["good film"], num_classes=2, text=text)
    model = as_model(small_text.Reader(2))
    params, extra = model.init(jax.random.key(0), jnp.asarray(texts.first))
    trained = Trained(model, params, extra, seen=texts.seen)
    assert trained.logits(texts).shape == (len(texts), 2)
    with pytest.raises(KdError, match="was trained on words of the tokenizer"):
        trained.logits(other)
    with pytest.raises(KdError, match="was trained on words of the tokenizer"):
        reading(trained.teacher(), other)


def test_what_cannot_be_hidden_is_refused(texts, tmp_path):
    plain = dataclasses.replace(texts.tokens, words=False)
    with pytest.raises(KdError, match="words are hidden of text whose labels are its words"):
        kd_data.masking(dataclasses.replace(texts, tokens=plain))
    vocabulary = dataclasses.replace(texts.tokens.vocabulary, mask=None)
    maskless = dataclasses.replace(texts.tokens, vocabulary=vocabulary)
    with pytest.raises(KdError, match="has no word for masks"):
        kd_data.masking(dataclasses.replace(texts, tokens=maskless))
    with pytest.raises(KdError, match="a share must lie in"):
        kd_data.masking(texts, 1.0)
