"""Runs through each of kd's doors: teachers of every kind, first weights, other labels."""

import csv
import pathlib

import numpy as np

import pictures
from fuzz import oracle

FUNCTION = "fuzz.teaches:answer"
ALLOWED = f"--allow_code={','.join(oracle.ALLOWED)}"


def write(folder):
    """The files that `doors` read: soft labels of the digits, and small data sets."""
    folder.mkdir()
    _soft_labels(folder)
    _tables(folder)
    pictures.write(folder / "images", pictures.draw())
    pictures.write(folder / "images.zip", pictures.draw(ending="jpg"))
    return str(folder.resolve())


def _soft_labels(folder):
    import kd
    from fuzz.teaches import answer

    data = kd.load("digits", "train[:120]")
    logits = answer(data.inputs / 16).astype(np.float32)
    chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.savez(folder / "soft.npz", probabilities=chances, index=np.arange(120), temperature=1.0)
    np.save(folder / "soft.npy", logits)
    header = ["index", *(f"logit_{k}" for k in range(10))]
    _csv(folder / "soft.csv", header, np.column_stack([np.arange(120), logits]).tolist())


def _tables(folder):
    draw = np.random.default_rng(0)
    inputs, classes = draw.normal(size=(200, 4)), np.arange(200) % 3
    inputs[:, :3] += 3 * np.eye(3)[classes]
    rows = [
        [*row, k if place % 4 else "", 1 + place % 3]
        for place, (row, k) in enumerate(zip(inputs, classes, strict=True))
    ]
    _csv(folder / "weighted.csv", ["a", "b", "c", "d", "label", "w"], rows)
    splits = {"train": slice(0, 120), "test": slice(120, None)}
    arrays = {f"{name}_inputs": inputs[rows] for name, rows in splits.items()}
    yes = {f"{name}_labels": np.eye(3)[classes[rows]] for name, rows in splits.items()}
    scores = {f"{name}_labels": inputs[rows].sum(axis=1) for name, rows in splits.items()}
    np.savez(folder / "yes_no.npz", **arrays, **yes)
    np.savez(folder / "scores.npz", **arrays, **scores)


def _csv(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def teachers(bases):
    """Keys of a digits run that is taught, by the kind of its teacher."""
    soft, run = pathlib.Path(bases["data"]), f"run:{bases['hard']}"
    mixed = {
        "teachers__net__source": run,
        "teachers__net__weight": 2.0,
        "teachers__forest__source": f"table:{soft / 'soft.csv'}",
    }
    return {
        "run": {"teacher__source": run},
        "run, live": {"teacher__source": run, "teacher__precompute": False},
        "population": {"teacher__source": f"run:{bases['population']}"},
        "npz": {"teacher__source": f"table:{soft / 'soft.npz'}"},
        "npy": {"teacher__source": f"table:{soft / 'soft.npy'}", "teacher__kind": "logits"},
        "csv": {"teacher__source": f"table:{soft / 'soft.csv'}"},
        "function": {"teacher__source": FUNCTION},
        "several": mixed,
        "several, geometric": {**mixed, "teacher__average": "geometric"},
    }


def runs(bases):
    """Keys of runs of other data, or that begin or end otherwise."""
    here, split = {"data__data_dir": bases["data"]}, {"data__train": "train", "data__eval": "test"}
    images = {**here, **split, "data__batch_size": 8, "data__stream": True}
    rows = {"data__train": "train[:120]", "data__eval": "train[120:]"}
    cropped = {"data__image_size": 4, "data__crop": "random", "data__flip": True}
    validation = {"early_stopping": "train[120:180]", "eval_epochs": 1}
    tagger = {"student": "{'name': 'tagger:tagger', 'width': 8}", "data__source": "sequences:4"}
    return {
        "yes or no": {**here, **split, **_data("npz:yes_no.npz"), **_term("bce")},
        "numbers": {**here, **split, **_data("npz:scores.npz"), **_term("mse")},
        "weighted": {**here, **rows, **_data("csv:weighted.csv?weight=w")},
        "class weights": {**here, **rows, **_data("csv:weighted.csv?drop=w"), **_BALANCED},
        "images": {**images, **_data("folder:images"), "data__stream": False},
        "streamed": {**images, **_data("folder:images.zip"), **cropped},
        "positions": tagger,
        "begun": {"student__init": f"run:{bases['hard']}"},
        "frozen": {"student__init": f"run:{bases['hard']}", "optim__freeze": "('Dense_0/*',)"},
        "patient": {**validation, "patience": 2, "watch": "nll"},
        "stopped early": {**validation, "watch": "accuracy"},
    }


_BALANCED = {"data__class_weights": "balanced"}


def _data(source):
    return {"data__source": source}


def _term(loss):
    return {"objective__hard": "none", f"objective__{loss}__weight": 1.0}
