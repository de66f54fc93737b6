"""Small encoders of texts, drawn at random, and texts that are filled up."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kd.data.seen import Seen
from kd.models import encoder
from kd.models.abstract import shapes
from kd.teachers.trained import Trained

WORDS, WIDTH, POSITIONS = 20, 8, 10
SMALL = {
    "vocabulary": WORDS,
    "width": WIDTH,
    "depth": 2,
    "heads": 2,
    "mlp": 12,
    "positions": POSITIONS,
}
FAMILIES = ("bert", "roberta", "distilbert")
HEADS = {"masked": WORDS, "sentence": 3, "token": 3, "none": WIDTH}
"""The heads, and how many numbers each answers with."""
ONE_TEXT = jax.ShapeDtypeStruct((1, 4, 2), np.int32)


@functools.cache
def small(family="bert", head="sentence", **options):
    classes = options.pop("classes", HEADS[head])
    return encoder(classes, family, head, **{**SMALL, **options})


def drawn(model, seed=0):
    """Parameters drawn by NumPy: biases and scales too differ from what they start as."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(0.1, 0.4, leaf.shape), jnp.float32),
        shapes(model, ONE_TEXT).params,
    )


def trained(family, head, seed=0, class_names=None, **options):
    """As if it had been trained."""
    model = small(family, head, **options)
    seen = Seen((POSITIONS, 2), "int32", ids=True)
    return Trained(model, drawn(model, seed), {}, seen=seen, class_names=class_names)


def texts(*lengths, seed=0, length=None, pair=True):
    """``[b l 2]``: texts of so many tokens, the latter half of each a second text, filled up."""
    length = max(lengths) if length is None else length
    random, rows = np.random.default_rng(seed), np.zeros((len(lengths), length, 2), np.int32)
    for row, count in zip(rows, lengths, strict=True):
        row[:count, 0] = random.integers(2, WORDS, count)
        row[:count, 1] = np.where(pair & (np.arange(count) >= (count + 1) // 2), 2, 1)
    return rows


def answers(model, params, inputs, train=False):
    """In one program: the loop over single operations takes longer to begin."""
    return _program(model, train)(params, jnp.asarray(inputs), jax.random.key(0))


@functools.cache
def _program(model, train):
    def run(params, inputs, key):
        return model.apply(params, {}, inputs, train=train, key=key if train else None)[0]

    return jax.jit(run)
