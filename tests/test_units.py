"""A teacher sees what it was trained on, whatever the scale at which its student sees the same
examples.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
import tiny
from kd import data as kd_data
from kd.auditing.evaluate import evaluate_workdir
from kd.config import resolve
from kd.data.stored import prepare
from kd.errors import KdError
from kd.runs.teachers import load_teacher
from kd.teachers.answers import answers, reading
from test_numbers import BYTES, LABELS, saved

HARD, SOFT = kd.term("hard"), kd.term("soft_targets", temperature=2.0)
OWN = kd.arrays(BYTES, LABELS)  # what the teacher is trained on: bytes, divided by 255
TEACHER = kd.fit(tiny.PLAIN, OWN, [HARD], epochs=2, batch_size=40)
OTHERS = {
    "bytes that are not divided": kd.arrays(BYTES, LABELS, scale=1.0),
    "sixteenths of bytes": kd.arrays(BYTES, LABELS, scale=1 / 16),
    "bytes as floats": kd.arrays(BYTES.astype(np.float32), LABELS),
    "floats": kd.arrays(BYTES / 255, LABELS),
    "sixteen bits": kd.arrays(BYTES.astype(np.uint16) * 257, LABELS),
}
LIKE_OWN = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_teacher_answers_for_other_storage_as_for_its_own(what, streamed):
    data = kd_data.as_stream(OTHERS[what]) if streamed else OTHERS[what]
    want = TEACHER.logits(OWN)
    np.testing.assert_allclose(TEACHER.logits(data), want, **LIKE_OWN)
    table = kd.precompute(TEACHER.teacher(), data)
    np.testing.assert_allclose(table.variables.logits, want, **LIKE_OWN)
    assert table.manifest.data == data.fingerprint
    taught = reading(TEACHER.teacher(), data)
    np.testing.assert_allclose(answers(taught, data).logits, want, **LIKE_OWN)
    assert reading(taught, data) is not None  # once is enough: a second time changes nothing
    np.testing.assert_allclose(answers(reading(taught, data), data).logits, want, **LIKE_OWN)


@pytest.mark.parametrize("what", OTHERS)
def test_a_live_teacher_and_its_table_teach_the_same(what):
    data, short = OTHERS[what], {"epochs": 1, "batch_size": 40, "learning_rate": 1e-5}
    live = kd.fit(tiny.PLAIN, data, [SOFT], teacher=TEACHER.teacher(), **short)
    table = kd.precompute(TEACHER.teacher(), data)
    tiny.close(kd.fit(tiny.PLAIN, data, [SOFT], teacher=table, **short).params, live.params, 1e-4)


def test_a_view_of_the_students_inputs_is_the_teachers_too():
    data, view = OTHERS["bytes that are not divided"], kd.jitter(1)
    taught = reading(TEACHER.teacher(), data)
    rows = jnp.arange(20)
    pairs = [
        (teacher, kd_data.gather(kd_data.to_device(examples), rows))
        for teacher, examples in ((taught, data), (TEACHER.teacher(), OWN))
    ]
    first, other = (
        teacher.apply(teacher.variables, view(jax.random.key(0), batch)) for teacher, batch in pairs
    )
    np.testing.assert_allclose(first.logits, other.logits, **LIKE_OWN)


REFUSED = {
    "centred": kd.arrays(BYTES / 255 * 2 - 1, LABELS),
    "percent": kd.arrays(BYTES / 2.55, LABELS),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_unit_that_cannot_be_known_is_refused(what):
    data = REFUSED[what]
    attempts = [
        lambda: TEACHER.logits(data),
        lambda: kd.precompute(TEACHER.teacher(), data),
        lambda: kd.fit(tiny.PLAIN, data, [SOFT], teacher=TEACHER.teacher()),
        lambda: kd.fit(tiny.PLAIN, OWN, [HARD], validation=data, epochs=1),
    ]
    for attempt in attempts:
        with pytest.raises(KdError, match=r"uint8 x 1/255, 0 to 1"):
            attempt()


def test_validation_in_another_storage_of_one_range_is_taken():
    short = {"epochs": 1, "batch_size": 40}
    fits = [
        kd.fit(tiny.PLAIN, OWN, [HARD], validation=data, **short)
        for data in (OWN, OTHERS["floats"])
    ]
    tiny.close(fits[0].params, fits[1].params, 0, 0)


def spec_of(path, **data):
    config = runs.get_config("distilled")
    config.data.source, config.data.train, config.data.eval = f"npz:{path}", "train", "test"
    config.data.update(data)
    config.teacher.workdir, config.teacher.precompute = str(runs.finished()), False
    return resolve(config)


def digits():
    splits = {name: kd.load("digits", name) for name in ("train", "test")}
    inputs = {f"{name}_inputs": data.inputs for name, data in splits.items()}
    labels = {f"{name}_labels": data.labels for name, data in splits.items()}
    return {**inputs, **labels}


@pytest.mark.parametrize("scale", [None, 1 / 16, 1.0])
@pytest.mark.parametrize("stream", [False, True])
def test_a_run_on_bytes_hears_from_its_teacher_what_that_learned(scale, stream, tmp_path):
    """It learned from digits x 1/16, and the run of the student sees the same bytes otherwise."""
    np.savez(tmp_path / "digits.npz", **digits())
    spec = spec_of(tmp_path / "digits.npz", scale=scale, stream=stream)
    data = kd_data.load(spec.data.source, "train", scale=scale)
    examples = kd_data.as_stream(data) if stream else data
    taught = load_teacher(spec, examples)
    want = kd.load_trained(runs.finished()).logits(kd.load("digits", "train"))
    np.testing.assert_allclose(answers(taught, examples).logits, want, **LIKE_OWN)


def test_a_run_keeps_its_scale_and_its_teacher_is_measured_in_its_own(tmp_path):
    np.savez(tmp_path / "digits.npz", **digits())
    keys = {
        "arg": "distilled",
        "data__source": f"npz:{tmp_path / 'digits.npz'}",
        "teacher__workdir": runs.finished(),
    }
    assert runs.train(tmp_path / "run", data__scale="1/16", **keys) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["inputs"]["scale"] == record["identity"]["data"]["scale"] == 1 / 16
    assert runs.train(tmp_path / "same", arg="distilled", teacher__workdir=runs.finished()) == 0
    assert evaluate_workdir(tmp_path / "run") == evaluate_workdir(tmp_path / "same")
    assert runs.train(tmp_path / "run", data__scale="1/8", **keys) == 2  # another run


def test_bytes_and_floats_mix_where_the_model_sees_one_range(tmp_path, capfd):
    for name, test, code in (("one", BYTES / 255, 0), ("two", BYTES / 1.0, 2)):
        source = f"npz:{saved(tmp_path / f'{name}.npz', BYTES, test)}"
        capfd.readouterr()
        keys = {"data__source": source, "data__train": "train", "data__eval": "test"}
        assert runs.train(tmp_path / name, total_steps=1, **keys) == code
    assert "config.data.eval is float64 as stored, 0 to 255" in capfd.readouterr().err


def test_stored_becomes_seen_in_one_place():
    stored = np.arange(-3, 3, dtype=np.int32)
    host, device = (prepare(kind(stored), np.float32(0.5)) for kind in (np.asarray, jnp.asarray))
    np.testing.assert_array_equal(host, device)
    assert host.dtype == device.dtype == np.float32


def test_a_damaged_record_of_inputs_is_one_line(tmp_path):
    assert runs.train(tmp_path / "run", total_steps=1) == 0
    path = tmp_path / "run" / "run.json"
    owner = json.loads(path.read_text())
    for inputs in ({}, {**owner["inputs"], "scale": 0}, {**owner["inputs"], "shape": 3}, [1]):
        runs.edit(path, inputs=inputs)
        with pytest.raises(KdError, match="damaged"):
            kd.load_trained(tmp_path / "run")
    runs.edit(path, inputs=None)  # of a run before there were any
    assert kd.load_trained(tmp_path / "run").seen is None
    assert dataclasses.replace(TEACHER, seen=None).logits(OTHERS["floats"]).any()
