"""Tables of soft labels, damaged, and what learning from them makes of them."""

import pathlib

import numpy as np

import runs
from fuzz import folders
from fuzz.archives import KEYS, OF_ARRAYS, OF_BYTES, a_bit, bytes_between, cut, names
from fuzz.oracle import Case, trained
from fuzz.values import choice

ENDINGS = ["npz", "npy", "csv"]
_BYTES = [cut, a_bit, bytes_between]
_CELLS = [*folders.TABLE_DAMAGES[len(folders.FILE_DAMAGES) :]]
OF_ENDING = {
    "npz": [*OF_ARRAYS, *OF_ARRAYS, *OF_BYTES],
    "npy": [*OF_ARRAYS[:3], *OF_ARRAYS[:3], *_BYTES],
    "csv": [*_CELLS, *_BYTES],
}


def soft_labels(random):
    """A table that teaches the digits, with one or two damages, or none."""
    ending = choice(random, ENDINGS)
    kind = choice(random, ["logits", "probabilities"])
    told = bool(random.random() < 0.5) or ending == "npy"
    damages = folders.drawn(random, OF_ENDING[ending])

    def call():
        from kd.cli.main import main

        _written(ending, kind, damages)
        keys = {**KEYS, "data__source": "digits", "data__train": "train[:60]"}
        keys |= {"data__eval": "test", "teacher__source": f"table:set/soft.{ending}"}
        keys |= {"teacher__kind": kind} if told else {}
        return main(runs.kd("train", "--workdir=run", arg="distilled", **keys))

    said = ", ".join(names([damage]) for damage, _ in damages)
    words = f"soft labels, {kind}, {ending}: {said or 'whole'}"
    learns = not damages
    return Case(words, call, lambda *_: trained(pathlib.Path("run"), learns))


def _written(ending, kind, damages):
    arrays, folder = _answers(kind), pathlib.Path("set")
    draws = [(damage, np.random.default_rng(seed)) for damage, seed in damages]
    for damage, draw in draws:
        if damage in OF_ARRAYS:
            damage(draw, arrays)
    path = folder / f"soft.{ending}"
    folder.mkdir()
    if ending == "npz":
        np.savez(path, **arrays)
    elif ending == "npy":
        np.save(path, arrays.get(kind, np.zeros(0)))
    else:
        _csv(path, kind, arrays)
    for damage, draw in draws:
        if damage in _CELLS:
            damage(draw, folder)
        elif damage in OF_BYTES:
            path.write_bytes(damage(draw, path.read_bytes()))


def _answers(kind):
    from sklearn.datasets import load_digits

    logits = 4.0 * np.eye(10, dtype=np.float32)[load_digits().target[:60]]
    logits += np.random.default_rng(0).normal(size=logits.shape).astype(np.float32)
    if kind == "probabilities":
        logits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    arrays = {kind: logits, "index": np.arange(60), "class_names": np.arange(10).astype(str)}
    return arrays | ({"temperature": np.array(2.0)} if kind == "probabilities" else {})


def _csv(path, kind, arrays):
    rows = zip(arrays["index"].tolist(), arrays[kind].tolist(), strict=True)
    word = {"logits": "logit", "probabilities": "prob"}[kind]
    lines = [["index", *(f"{word}_{k}" for k in range(10))], *([i, *row] for i, row in rows)]
    path.write_text("\n".join(",".join(map(str, line)) for line in lines), "utf-8")
