"""One encoder of texts for BERT, RoBERTa and DistilBERT: teacher and student of token models.

A text is ``[l 2]``, int32: of every place the token and the segment, which is 0 of padding, 1 of
the first text and 2 of the second; of packed texts the number of the document.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd.core.types import Model, Outputs
from kd.errors import KdError, unknown
from kd.models.attention import Relations, attend
from kd.models.dense import Dense, affine, by_rows
from kd.models.linen import linen
from kd.models.made import named
from kd.placement.mesh import over_batch

Family = Literal["bert", "roberta", "distilbert"]
Head = Literal["masked", "sentence", "token", "none"]
"""What is answered: every word at every place, classes (or numbers) of a text or pair of texts,
classes of every place, or the last layer itself."""

SEGMENTS = {"bert": 2, "roberta": 1, "distilbert": 0}
"""Kinds of tokens that have an embedding, by family."""
OFFSET = {"bert": 0, "roberta": 2, "distilbert": 0}
"""Rows of the embedding of positions before the first."""

_drawn = nn.initializers.normal(0.02)
_dense = functools.partial(Dense, kernel_init=_drawn)


SPLIT = {
    "*/attention/[qkv]*/kernel": ("fsdp", "tensor"),
    "*/attention/out/kernel": ("tensor", "fsdp"),
    "*/up/kernel": ("fsdp", "tensor"),
    "*/down/kernel": ("tensor", "fsdp"),
    "embeddings/words/embedding": (None, ("fsdp", "tensor")),
}
"""Paths of a `kd.Rule` by which an encoder is split over ``fsdp`` and ``tensor``: heads and hidden
units over ``tensor``. With `scan` those of blocks begin with None, the axis of blocks."""


@dataclasses.dataclass(frozen=True)
class Form:
    """What all parts of an encoder are told."""

    family: Family
    vocabulary: int
    width: int
    depth: int
    heads: int
    mlp: int
    positions: int
    segments: int
    epsilon: float
    dropout: float
    attention_dropout: float
    packed: bool
    relation_heads: int

    def norm(self, x: jax.Array, name: str) -> jax.Array:
        """Layer normalisation: sums are float32 whatever the type of `x` is, and the type stays."""
        layer = nn.LayerNorm(self.epsilon, dtype=x.dtype, use_fast_variance=False, name=name)
        return layer(x)


class Embed(nn.Module):
    """A row of a table for every identity, float32. Shapes: ``[*b] -> [*b width]``."""

    rows: int
    width: int

    def setup(self) -> None:
        self.embedding = self.param("embedding", _drawn, (self.rows, self.width))

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.embedding[ids]

    def scores(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        """How well each row fits, ``x E' + b``: ``[*b width] -> [*b rows]``."""
        if x.dtype == jnp.bfloat16:
            return affine(x, self.embedding.T, bias)
        return by_rows(lambda rows: rows @ self.embedding.T + bias[None], x)


class Embeddings(nn.Module):
    """Words, positions and kinds added up, and a norm. Shapes: ``[b l], [b l] -> [b l width]``."""

    form: Form
    train: bool
    dtype: Any

    def setup(self) -> None:
        form = self.form
        self.words = Embed(form.vocabulary, form.width)
        self.places = Embed(form.positions + OFFSET[form.family], form.width)
        if form.segments:
            self.kinds = Embed(form.segments, form.width)
        self.norm = nn.LayerNorm(form.epsilon, use_fast_variance=False)
        self.drop = nn.Dropout(form.dropout, deterministic=not self.train)

    def __call__(self, tokens: jax.Array, segments: jax.Array) -> jax.Array:
        form, length = self.form, tokens.shape[1]
        place = jnp.arange(length)[None]
        if form.packed:
            place -= _begins(segments)
        x = self.words(tokens) + self.places(place + OFFSET[form.family])
        if form.segments:
            paired = form.family == "bert" and not form.packed
            kind = (
                jnp.clip(segments - 1, 0, form.segments - 1) if paired else jnp.zeros((1, 1), int)
            )
            x += self.kinds(kind)
        return self.drop(over_batch(self.norm(x).astype(self.dtype)))


def _begins(segments: jax.Array) -> jax.Array:
    """Where the document of each place begins: ``[b l] -> [b l]``."""
    place = jnp.arange(segments.shape[1])[None]
    before = jnp.pad(segments, ((0, 0), (1, 0)))[:, :-1]
    return jax.lax.cummax(jnp.where(segments != before, place, 0), axis=1)


def visible(segments: jax.Array, packed: bool) -> jax.Array:
    """Which places may be seen from which: those of the row that are no padding, of packed texts
    those of the same document. Shapes: ``[b l] -> [b 1 1 l]``, packed ``[b 1 l l]``.
    """
    there = segments > 0
    if not packed:
        return there[:, None, None]
    same = segments[:, :, None] == segments[:, None]
    return (same & there[:, None])[:, None]


class Attention(nn.Module):
    """Every token looks at every token that it may see. Shapes: ``[b l d] -> [b l d]``.

    Taps, each ``[b q h k]`` before a softmax: ``scores``, and ``query_relations``,
    ``key_relations`` and ``value_relations`` of each with itself, in `relation_heads` heads.
    """

    form: Form
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, seen: jax.Array) -> jax.Array:
        form = self.form
        query, key, value = (_dense(form.width, name=name)(x) for name in ("query", "key", "value"))
        Relations(form.heads, name="scores")(query, key, seen)
        for name, vectors in (("query", query), ("key", key), ("value", value)):
            Relations(form.relation_heads, name=f"{name}_relations")(vectors, vectors, seen)
        drop = None
        if self.train and form.attention_dropout:
            drop = nn.Dropout(form.attention_dropout, deterministic=False)
        query, key, value = (y.reshape(*y.shape[:-1], form.heads, -1) for y in (query, key, value))
        looked = attend(query, key, value, seen, drop)
        return _dense(form.width, name="out")(looked.reshape(x.shape))


class Block(nn.Module):
    """A post-norm block: ``x = norm(x + attention(x)); x = norm(x + mlp(x))``, with an exact GELU.
    Shapes: ``[b l d] -> [b l d]``.

    It answers (x, None), as a body of `nn.scan` does.
    """

    form: Form
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, seen: jax.Array) -> tuple[jax.Array, None]:
        form = self.form
        drop = nn.Dropout(form.dropout, deterministic=not self.train)
        looked = drop(Attention(form, self.train, name="attention")(x, seen))
        x = over_batch(form.norm(x + looked, "attention_norm"))
        hidden = by_rows(_gelu, _dense(form.mlp, name="up")(x))
        x = form.norm(x + drop(_dense(form.width, name="down")(hidden)), "norm")
        return over_batch(x), None


def _gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


class Encoder(nn.Module):
    """Embeddings, blocks, and a head. Shapes: ``[b l 2] -> [b v]`` of a text, ``[b l v]`` of every
    place.

    Modules: ``embeddings``, ``blocks_0/attention/query``, ..., ``blocks_0/norm``; with `scan`
    ``blocks``, whose parameters have a leading axis. Heads: ``transform``, ``transform_norm`` and
    ``bias`` of masked words; ``pooler`` (BERT) or ``neck``, and ``head``, of classes.
    """

    classes: int
    form: Form
    head: Head
    pooler: bool
    scan: bool
    remat: bool

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False, dtype: Any = jnp.float32) -> Outputs:
        _check_inputs(inputs, self.form)
        tokens, segments = inputs[..., 0], inputs[..., 1]
        embeddings = Embeddings(self.form, train, dtype, name="embeddings")
        x = self._blocks(embeddings(tokens, segments), visible(segments, self.form.packed), train)
        pooled = _dense(self.form.width, name="pooler")(x[:, 0]) if self.pooler else None
        logits = self._answer(x, pooled, embeddings.words, train)
        return Outputs(logits, places=segments > 0)

    def _blocks(self, x: jax.Array, seen: jax.Array, train: bool) -> jax.Array:
        if self.scan:
            # within a scan nothing is merged across the barrier anyway
            block: Any = nn.remat(Block, prevent_cse=False) if self.remat else Block
            scanned = nn.scan(
                block,
                variable_axes={"params": 0, "intermediates": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(nn.broadcast,),  # pyright: ignore[reportArgumentType]
                length=self.form.depth,
            )
            return scanned(self.form, train, name="blocks")(x, seen)[0]
        block = nn.remat(Block) if self.remat else Block
        for i in range(self.form.depth):
            x, _ = block(self.form, train, name=f"blocks_{i}")(x, seen)
        return x

    def _answer(
        self, x: jax.Array, pooled: jax.Array | None, words: Embed, train: bool
    ) -> jax.Array:
        form = self.form
        if self.head == "none":
            return x
        if self.head == "masked":
            x = _gelu(_dense(form.width, name="transform")(x))
            x = form.norm(x, "transform_norm")
            return words.scores(
                x, self.param("bias", nn.initializers.zeros_init(), (self.classes,))
            )
        drop = nn.Dropout(form.dropout, deterministic=not train)
        if self.head == "token":
            return _dense(self.classes, name="head")(drop(x))
        if pooled is None:
            pooled = _dense(form.width, name="neck")(x[:, 0])
        pooled = jax.nn.relu(pooled) if form.family == "distilbert" else jnp.tanh(pooled)
        return _dense(self.classes, name="head")(drop(pooled))


def check_texts(inputs: jax.Array) -> None:
    """Raise a `KdError` unless `inputs` are tokens and segments, ``[b l 2]``."""
    if inputs.ndim != 3 or inputs.shape[-1] != 2 or not jnp.issubdtype(inputs.dtype, jnp.integer):
        raise KdError(
            "a model of texts needs tokens and segments [b l 2] as whole numbers, got inputs of "
            f"shape {inputs.shape}, {inputs.dtype}; give it a source of texts"
        )


def _check_inputs(inputs: jax.Array, form: Form) -> None:
    check_texts(inputs)
    if inputs.shape[1] > form.positions:
        raise KdError(
            f"texts of {inputs.shape[1]} tokens are longer than the {form.positions} positions of "
            "this encoder; cut the texts, or give it more positions"
        )


@named
def encoder(
    classes: int,
    family: Family = "bert",
    head: Head = "sentence",
    *,
    vocabulary: int | None = None,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    mlp: int | None = None,
    positions: int = 512,
    segments: int | None = None,
    epsilon: float = 1e-12,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    pooler: bool = False,
    packed: bool = False,
    relation_heads: int | None = None,
    scan: bool = False,
    remat: bool = False,
) -> Model:
    """An encoder of texts: BERT, RoBERTa or DistilBERT, with a head for masked words, for a text or
    pair of texts (classes, or with one output a number), for every token, or none.

    Post-norm blocks of `width`, `depth`, attention `heads` and `mlp` (4 width), an exact GELU,
    learnt `positions`. `vocabulary` is how many words have an embedding, by default `classes` of
    the head of masked words, which answers for each by the same table. `segments` kinds of tokens
    have an embedding (BERT 2, RoBERTa 1, of which the first is used, DistilBERT none). `dropout`
    and `attention_dropout` are probabilities, as in BERT. `pooler` keeps BERT's pooler where the
    head does not read it. `packed`: texts of several documents, each of which sees itself alone.
    `relation_heads`: into how many heads the relations that losses read are cut, by default
    `heads`. With `scan` one compiled block is repeated; with `remat` a block's inner activations
    are computed anew in the backward pass. Softmax and norms are float32.

    Raises:
      KdError: an unknown family or head, sizes below 1, heads that do not divide the width, no
        vocabulary, a head of masked words that answers for another number of words, probabilities
        outside [0, 1); when it is applied, inputs of another form, or longer than the positions.

    Source: Devlin et al. (2019), "BERT"; Liu et al. (2019), "RoBERTa"; Sanh et al. (2019),
    "DistilBERT".
    """
    _check_names(family, head)
    if vocabulary is None and head == "masked":
        vocabulary = classes
    if vocabulary is None:
        raise KdError("an encoder needs vocabulary, how many words have an embedding; set it")
    form = Form(
        family=family,
        vocabulary=vocabulary,
        width=width,
        depth=depth,
        heads=heads,
        mlp=4 * width if mlp is None else mlp,
        positions=positions,
        segments=SEGMENTS[family] if segments is None else segments,
        epsilon=float(epsilon),
        dropout=float(dropout),
        attention_dropout=float(attention_dropout),
        packed=packed,
        relation_heads=heads if relation_heads is None else relation_heads,
    )
    _check_sizes(form, classes)
    _check_head(form, head, classes)
    pooled = pooler or (head == "sentence" and family == "bert")
    return linen(Encoder(classes, form, head, pooled, scan, remat), mixed=True)


def _check_names(family: str, head: str) -> None:
    if family not in get_args(Family):
        raise unknown("family of encoders", str(family), get_args(Family))
    if head not in get_args(Head):
        raise unknown("head of an encoder", str(head), get_args(Head))


def _check_sizes(form: Form, classes: int) -> None:
    sizes = ("vocabulary", "width", "depth", "heads", "mlp", "positions", "relation_heads")
    for name, value in {"classes": classes, **{key: getattr(form, key) for key in sizes}}.items():
        if value < 1:
            raise KdError(f"an encoder needs {name} of 1 or more, got {value}")
    for name in ("heads", "relation_heads"):
        if form.width % getattr(form, name):
            raise KdError(
                f"{name}={getattr(form, name)} do not divide an encoder's width of {form.width}; "
                "choose a number that does"
            )
    if form.segments < 0:
        raise KdError(f"an encoder needs segments of 0 or more, got {form.segments}")
    for name in ("epsilon", "dropout", "attention_dropout"):
        if not 0 <= getattr(form, name) < 1:
            raise KdError(f"{name} of an encoder must lie in [0, 1), got {getattr(form, name)}")


def _check_head(form: Form, head: Head, classes: int) -> None:
    if head == "masked" and classes != form.vocabulary:
        raise KdError(
            f"the head of masked words answers for the {form.vocabulary} words that have an "
            f"embedding and {classes} classes are asked for; set student.classes to the rows of "
            "the embedding"
        )
    if head == "none" and classes != form.width:
        raise KdError(
            f"an encoder without a head answers with its {form.width} features and {classes} "
            "classes are asked for; give it a head, or set student.classes to its width"
        )
