"""A stream of weighted and partly labelled examples is the data in memory: same batches, same
students.
"""

import json

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
from kd import data as kd_data
from kd.errors import KdError

DRAW = np.random.default_rng(0)
CLASSES = np.arange(40) % 3
INPUTS = (3 * np.eye(3, 4)[CLASSES] + DRAW.normal(size=(40, 4))).astype(np.float32)
WEIGHTS = DRAW.integers(0, 4, 40).astype(np.float32)
SOME = np.where(np.arange(40) % 5 < 2, CLASSES, -1)
DATA = kd.arrays(INPUTS, SOME, num_classes=3, weights=WEIGHTS)
STREAM = kd_data.as_stream(DATA)


def same_batches(data, stream):
    table = kd_data.to_device(data)
    with kd_data.batches(stream, 3, 8) as streamed:
        for step in range(12):
            rows = kd_data.rows(3, step, len(data), 8)
            wanted = kd_data.gather(table, jnp.asarray(rows))
            batch = kd_data.as_seen(next(streamed), stream.unit)
            assert batch.keys() == wanted.keys()
            for key, values in wanted.items():
                np.testing.assert_array_equal(batch[key], values, err_msg=key)
                assert batch[key].dtype == values.dtype
    shapes = [
        {key: (value.shape, value.dtype) for key, value in kd_data.example_batch(one, 8).items()}
        for one in (data, stream)
    ]
    assert shapes[0] == shapes[1]


def test_its_batches_are_those_of_the_data_in_memory():
    same_batches(DATA, STREAM)
    assert STREAM.fingerprint == DATA.fingerprint
    for stream in (kd_data.as_stream(kd.arrays(INPUTS, CLASSES)), STREAM):
        assert kd_data.in_memory(stream).fingerprint == stream.fingerprint


@hypothesis.given(st.integers(0, 39), st.integers(1, 40))
def test_a_slice_has_the_labels_and_weights_of_its_examples(start, stop):
    split = f"train[{start}:{stop}]"
    if start >= stop or not WEIGHTS[start:stop].any():
        with pytest.raises(KdError, match=r"is empty|all 0"):
            STREAM.take(split)
        return
    part, wanted = STREAM.take(split), kd_data.take(DATA, split)
    assert (part.labelled, part.partly_labelled) == (wanted.labelled, wanted.partly_labelled)
    for name in ("labels", "weights", "has_label"):
        np.testing.assert_array_equal(getattr(part, name), getattr(wanted, name))


@pytest.mark.parametrize("weights", ["balanced", {"1": 2.0}, (1.0, 0.5, 2.0)])
def test_classes_weigh_what_they_weigh_in_memory(weights):
    stream, data = (kd.weigh_classes(one, weights) for one in (STREAM, DATA))
    np.testing.assert_array_equal(stream.weights, data.weights)
    assert stream.fingerprint != STREAM.fingerprint
    assert kd.weigh_classes(STREAM, weights).fingerprint == stream.fingerprint
    same_batches(data, stream)
    chosen = stream.of_classes((0, 2)), kd.of_classes(data, (0, 2))
    np.testing.assert_array_equal(chosen[0].weights, chosen[1].weights)
    assert not chosen[0].partly_labelled


def test_weights_of_one_change_nothing():
    stream = kd_data.as_stream(kd.arrays(INPUTS, CLASSES))
    assert kd.weigh_classes(stream, (1.0, 1.0, 1.0)).fingerprint == stream.fingerprint


def test_a_label_below_none_is_refused():
    labels = SOME.copy()
    labels[7] = -2
    stream = kd_data.as_stream(DATA)
    object.__setattr__(stream.source, "data", kd_data.Dataset(INPUTS, labels, 3))
    with pytest.raises(KdError, match="label -2 of example 7 is out of range"):
        stream.read(range(40))


def test_numbers_are_no_streamed_labels():
    with pytest.raises(KdError, match="have classes as labels, and these are numbers"):
        kd_data.as_stream(kd.arrays(INPUTS, INPUTS[:, 0]))


# --- through the command line ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CSV file with weights and gaps, and a table of soft labels of its first rows."""
    path = tmp_path_factory.mktemp("rows")
    cells = [["", "0", "1", "2"][label + 1] for label in SOME]
    rows = zip(INPUTS.tolist(), cells, (1 + WEIGHTS).tolist(), strict=True)
    lines = ["a,b,c,d,label,w", *(",".join(map(str, [*x, y, w])) for x, y, w in rows)]
    (path / "rows.csv").write_text("\n".join(lines))
    np.save(path / "soft.npy", 3 * np.eye(3)[CLASSES[:32]] + DRAW.normal(size=(32, 3)))
    return path


KINDS = {
    "weights": ("csv:rows.csv?weight=w", {}),
    "class weights": ("csv:rows.csv?drop=w", {"data__class_weights": "balanced", "accumulate": 2}),
    "both, a population": (
        "csv:rows.csv?weight=w",
        {"data__class_weights": (0.5, 2.0, 1.0), "population__seed": (0, 1)},
    ),
}


@pytest.mark.parametrize(("kind", "devices"), [*zip(KINDS, (1, 1, 8), strict=True)])
def test_a_student_is_what_it_is_in_memory(kind, devices, folder, tmp_path):
    source, keys = KINDS[kind]
    told = {
        "data__source": source,
        "data__data_dir": folder,
        "data__train": "train[:32]",
        "data__eval": "train[32:]",
        "data__batch_size": 16,
        "objective__soft_targets__temperature": 2.0,
        "teacher__source": f"table:{folder / 'soft.npy'}",
        "teacher__kind": "logits",
        "mesh__devices": 1,
        **keys,
    }
    assert runs.train(tmp_path / "memory", **told) == 0
    told |= {"data__stream": True, "mesh__devices": devices}
    assert runs.train(tmp_path / "streamed", **told) == 0
    ours, theirs = (np.array(runs.losses(tmp_path / name)) for name in ("streamed", "memory"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    ours, theirs = (
        json.loads((tmp_path / name / "evaluation.json").read_text())["members"]
        for name in ("streamed", "memory")
    )
    assert [one["wrong"] for one in ours] == [one["wrong"] for one in theirs]
    assert runs.main(["eval", f"--workdir={tmp_path / 'streamed'}"]) == 0
