"""One law: the same pictures make the same student, to the byte, whatever file they lie in."""

import functools

import jax
import numpy as np
import pytest

import kd
import tiny
from bench.prepared import prepare
from kd import data as kd_data
from kd.models import mlp
from pictures import encoded, write

PICTURES = np.random.default_rng(0).integers(0, 256, (24, 28, 28, 1), np.uint8)
LABELS = np.arange(24) % 10
MODEL = mlp(10, (8,))


def file(k):
    return f"train/{LABELS[k]}/{k}.png"


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    """A folder of the pictures, and the order in which they stand there."""
    home = tmp_path_factory.mktemp("pictures")
    write(home / "set", {file(k): encoded(PICTURES[k, :, :, 0]) for k in range(24)})
    names = kd_data.load("folder:set", "train", home).names.tolist()
    assert names != sorted(names)
    return home, [int(name.rpartition("/")[2].removesuffix(".png")) for name in names]


def student(data):
    trained = kd.fit(MODEL, data, [kd.term("hard")], epochs=2, batch_size=8, seed=1)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trained.params)]


@functools.cache
def wanted(order):
    """What arrays of bytes make of them."""
    rows = list(order)
    return student(kd.arrays(PICTURES[rows], LABELS[rows], num_classes=10, scale=1 / 255))


def npz(home, rows, kind):
    path = home / "set.npz"
    told = {"train_inputs": PICTURES[rows].astype(kind), "train_labels": LABELS[rows]}
    np.savez(path, **told, num_classes=10, scale=1 / 255)
    return kd.load("npz:set.npz", "train", home)


def zipped(home, rows):
    write(home / "set.zip", {file(k): encoded(PICTURES[k, :, :, 0]) for k in rows})
    return kd.load("folder:set.zip", "train", home)


def tfds(home, rows):
    prepare(home, {"train": PICTURES[rows]}, label=lambda k: LABELS[rows[k]])
    return kd.load("tfds:mnist", "train", home)


STORES = {
    "folder": lambda home, _: kd.load("folder:set", "train", home),
    "zip": zipped,
    "tfds": tfds,
    **{
        f"npz {kind}": functools.partial(npz, kind=kind)
        for kind in ("u1", "<u2", ">u2", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8")
    },
}


@pytest.mark.parametrize("store", STORES)
def test_the_same_pictures_make_the_same_student(store, ordered):
    home, order = ordered
    got = student(STORES[store](home, order))
    assert [a.tobytes() for a in got] == [a.tobytes() for a in wanted(tuple(order))]


def test_another_order_is_another_student(ordered):
    """So that the law above could fail."""
    assert tiny.differ(wanted(tuple(ordered[1])), wanted(tuple(range(24))))
