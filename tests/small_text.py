"""A small language, generated: sentences of a few words that are good or bad, a tokenizer of them,
and a model that reads them.
"""

import json

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
GOOD, BAD = ("good", "fine", "great", "lovely"), ("bad", "awful", "poor", "dull")
PLAIN = (
    "the",
    "a",
    "film",
    "story",
    "actor",
    "is",
    "was",
    "and",
    "very",
    "it",
    "play",
    "##ed",
    "s",
)
WORDS = (*SPECIAL, *PLAIN, *GOOD, *BAD)

SETTINGS = {
    "tokenizer": "tokenizer.json",
    "columns": ("sentence",),
    "label": "label",
    "names": ("no", "yes"),
    "length": 64,
    "too_long": "refused",
    "buckets": 4,
    "packed": True,
    "masked": 0.15,
    "rare": 0.7,
}
"""A value of every key of config.data.text that is not its default."""


def sentences(n=96, seed=0, longest=12):
    """Sentences and whether each is good: its one telling word says so."""
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(n):
        words = random.choice(
            [w for w in PLAIN if not w.startswith("##")], random.integers(1, longest)
        )
        good = int(random.integers(2))
        words = [*words, random.choice(GOOD if good else BAD)]
        texts.append(" ".join(random.permutation(words).tolist()))
        labels.append(good)
    return texts, labels


def write_vocabulary(folder, words=WORDS):
    """A vocab.txt of WordPiece."""
    file = folder / "vocab.txt"
    file.write_text("".join(f"{word}\n" for word in words), "utf-8")
    return file


def write_tsv(folder, split="train", n=96, seed=0, **options):
    texts, labels = sentences(n, seed, **options)
    rows = ["sentence\tlabel", *(f"{t}\t{y}" for t, y in zip(texts, labels, strict=True))]
    (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    return texts, labels


def write_json_lines(file, texts, labels):
    lines = [json.dumps({"said": t, "y": y}) for t, y in zip(texts, labels, strict=True)]
    file.write_text("\n".join(lines) + "\n", "utf-8")


class Reader(nn.Module):
    """``[b l 2]`` -> ``[b v]``, or ``[b l v]`` of every position: words, and the mean of a text."""

    classes: int
    width: int = 8
    every: bool = False

    @nn.compact
    def __call__(self, tokens):
        assert tokens.dtype == jnp.int32
        there = (tokens[..., 1:] > 0).astype(jnp.float32)
        words = nn.Embed(len(WORDS), self.width)(tokens[..., 0]) * there
        mean = words.sum(axis=1) / there.sum(axis=1)
        if not self.every:
            return nn.Dense(self.classes)(nn.relu(nn.Dense(self.width)(mean)))
        seen = jnp.concatenate([words, jnp.broadcast_to(mean[:, None], words.shape)], axis=-1)
        return nn.Dense(self.classes)(nn.relu(nn.Dense(self.width)(seen)))


def reader(classes, width=8, every=False):
    return Reader(classes, width, every)
