"""A teacher that sees the same images at another size: live, kept, a function and a table teach
alike.
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
from kd.auditing.measures import audit_workdirs
from kd.config import fingerprint_of, identity, load_config, resolve
from kd.errors import KdError
from kd.models import mlp
from pictures import draw, write

DRAW = np.random.default_rng(0)
LARGE = DRAW.integers(0, 256, (48, 8, 8), np.uint8)
SMALL = LARGE.reshape(48, 4, 2, 4, 2).mean((2, 4)).astype(np.uint8)
LABELS = np.arange(48) % tiny.CLASSES
WIDE = kd.arrays(LARGE, LABELS)
DATA = kd.arrays(SMALL, LABELS, teacher_inputs=LARGE)
TERMS = [kd.term("soft_targets", temperature=3.0)]


@pytest.fixture(scope="module")
def trained():
    columns = {"seed": (0, 1)}
    terms, short = [kd.term("hard")], {"epochs": 2, "batch_size": 16}
    return kd.fit(mlp(tiny.CLASSES, (8,)), WIDE, terms, population=columns, **short)


def fit(teacher, data=DATA, **keys):
    return kd.fit(tiny.PLAIN, data, TERMS, teacher=teacher, epochs=2, batch_size=16, **keys)


def test_live_kept_function_and_table_teach_alike(trained):
    live = trained.teacher("geometric")
    logits = trained.logits(WIDE)
    table = kd.soft_labels(logits=logits, data=DATA, average="geometric")
    one = trained.member(0)
    students = [fit(teacher).params for teacher in (live, kd.precompute(live, DATA), table)]
    for student in students[1:]:
        tiny.close(student, students[0], rtol=1e-4, atol=1e-5)

    def answer(inputs):
        assert inputs.shape[1:] == (8, 8)
        return one.model.apply(one.params, one.extra, jnp.asarray(inputs))[0].logits

    students = [fit(teacher).params for teacher in (one.teacher(), kd.teacher(answer, data=DATA))]
    tiny.close(students[0], students[1], rtol=1e-4, atol=1e-5)
    mixed = kd.mixture([(one.teacher(), 1.0), (kd.precompute(one.teacher(), DATA), 2.0)])
    tiny.close(fit(mixed).params, students[0], rtol=1e-4, atol=1e-5)


def test_the_student_never_sees_them(trained):
    """Its answers do not move with what the teacher sees, and those of the teacher do."""
    one = trained.member(0)
    student = fit(one.teacher())
    other = kd.arrays(SMALL, LABELS, teacher_inputs=LARGE[::-1].copy())
    np.testing.assert_array_equal(student.logits(other), student.logits(DATA))
    with pytest.raises(KdError, match=r"teacher\.image_size"):
        fit(one.teacher(), data=kd.arrays(SMALL, LABELS))
    assert tiny.differ(student.params, fit(one.teacher(), data=other).params)
    assert other.fingerprint != DATA.fingerprint != kd.arrays(SMALL, LABELS).fingerprint


def test_they_stay_with_their_examples_and_in_their_unit():
    part, streamed = kd_data.take(DATA, "train[3:9]"), kd_data.as_stream(DATA).take("train[3:9]")
    np.testing.assert_array_equal(part.taught.inputs, LARGE[3:9])
    np.testing.assert_array_equal(streamed.taught.read(range(6))[0], LARGE[3:9])
    chosen = kd.of_classes(DATA, (1, 3))
    np.testing.assert_array_equal(chosen.taught.inputs, LARGE[np.isin(LABELS, (1, 3))])
    floats = kd.arrays(SMALL, LABELS, teacher_inputs=kd.arrays(LARGE / 255.0, num_classes=1))
    batches = [
        kd_data.gather(kd_data.to_device(data), jnp.arange(5))["teacher_inputs"]
        for data in (DATA, floats)
    ]
    np.testing.assert_allclose(*batches, rtol=1e-5)


def test_audits_show_each_model_its_own(trained):
    one, student = trained.member(0), fit(trained.member(0).teacher())
    audited = kd.audit(one, student, DATA)
    right = (one.logits(WIDE).argmax(-1) == LABELS).mean()
    assert audited["teacher"]["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize(
    ("teacher_inputs", "words"),
    [(LARGE[:3], "3 examples and the data has 48"), (np.full((48, 2), np.nan), "finite numbers")],
)
def test_what_does_not_fit_is_refused(teacher_inputs, words):
    with pytest.raises(KdError, match=words):
        kd.arrays(SMALL, LABELS, teacher_inputs=teacher_inputs)


def test_jitter_is_refused_and_mixup_mixes_both_alike(trained):
    with pytest.raises(KdError, match="jitter shifts what the student sees"):
        fit(trained.member(0).teacher(), view=kd.jitter(1))
    batch = kd_data.gather(kd_data.to_device(DATA), jnp.arange(6))
    mixed = kd_data.mixup()(jax.random.key(0), batch)

    def share(name):
        partner = jnp.roll(batch[name], 1, axis=0)
        ratio = (mixed[name] - partner) / (batch[name] - partner)
        return np.nanmedian(ratio.reshape(6, -1), axis=1)

    np.testing.assert_allclose(share("inputs"), share("teacher_inputs"), rtol=1e-4)


# --- crops ---


class Ramps:
    """Images whose pixels say where they are, across and down."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        place = np.linspace(0, 255, 64).astype(np.uint8)
        across, down = np.meshgrid(place, place)
        return {"image": np.stack([across, down, down], axis=-1), "label": index % 2}


def test_a_crop_is_of_the_same_part_and_so_is_a_flip():
    views = {"crop": "random", "flip": True}
    small, large = (kd_data.Stream(Ramps(), 2, "ramps", size=size, **views) for size in (8, 24))
    both = dataclasses.replace(small, teacher_inputs=large)
    assert both.fingerprint != small.fingerprint
    with kd_data.batches(both, (0, 1), 20) as streamed, kd_data.batches(small, (0, 1), 20) as alone:
        for _ in range(3):
            batch, plain = next(streamed), next(alone)
            np.testing.assert_array_equal(batch["inputs"], plain["inputs"])
            means = [batch[name].mean((2, 3)) for name in ("inputs", "teacher_inputs")]
            np.testing.assert_allclose(*means, atol=3)
            tilts = [
                batch[name][..., -1, 0].astype(float).mean(-1) - batch[name][..., 0, 0].mean(-1)
                for name in ("inputs", "teacher_inputs")
            ]
            assert np.array_equal(np.sign(tilts[0]), np.sign(tilts[1]))
            assert np.ptp(means[0]) > 30  # they are of different parts


# --- through the command line ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, and a teacher of them at 8 pixels and of the native 12."""
    path = tmp_path_factory.mktemp("sizes")
    write(path / "set", draw({"train": 8, "test": 4}, shape=(12, 12, 3)))
    for size in (8, "none"):
        teacher = path / f"teacher-{size}"
        assert runs.train(teacher, **keys_of(path), data__image_size=size) == 0
    return path


def keys_of(path):
    source = {"data__source": "folder:set", "data__data_dir": path}
    return {**source, "data__train": "train", "data__eval": "test", "data__batch_size": 8}


def student(folder, workdir, size=8, **more):
    taught = {"teacher__workdir": folder / f"teacher-{size}", "teacher__image_size": size}
    if size == "none":
        taught["teacher__image_size"] = "native"
    keys = {**keys_of(folder), **taught, "data__image_size": 4, **more}
    return runs.train(workdir, arg="distilled", **keys)


LIVE = {"teacher__precompute": False}
STREAMED = {**LIVE, "data__stream": True}
WAYS = {
    8: {"kept": {}, "live": LIVE, "devices": {**STREAMED, "mesh__devices": 8}},
    "none": {"kept": {}, "streamed": STREAMED},
}


@pytest.mark.parametrize("size", WAYS)
def test_a_run_teaches_at_its_own_size(size, folder, tmp_path):
    for name, keys in WAYS[size].items():
        assert student(folder, tmp_path / name, size, **keys) == 0
        wanted, losses = (np.array(runs.losses(tmp_path / way)) for way in ("kept", name))
        np.testing.assert_allclose(losses, wanted, rtol=1e-4, err_msg=name)
    run = tmp_path / "kept"
    assert student(folder, run, size) == 0  # and is found again
    assert runs.main(["eval", f"--workdir={run}"]) == 0
    teacher = folder / f"teacher-{size}"
    own = json.loads((teacher / "evaluation.json").read_text())["members"][0]
    audited = audit_workdirs(teacher, run)
    assert audited["teacher"]["accuracy"] == pytest.approx(own["accuracy"])


def test_a_run_teaches_random_crops_at_its_own_size(folder, tmp_path):
    views = {"data__stream": True, "data__crop": "random", "data__flip": True, "data__mixup": True}
    keys = {**views, "teacher__precompute": False, "objective__hard": "none"}
    assert student(folder, tmp_path / "run", **keys) == 0
    assert len(runs.losses(tmp_path / "run")) > 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"teacher__image_size": 0}, "config.teacher.image_size must be 1 or more"),
        ({"teacher__image_size": "big"}, "config.teacher.image_size must be"),
        ({"teacher__image_size": 4}, "config.teacher.image_size=4 changes nothing"),
        ({"data__image_size": "none", "teacher__image_size": "native"}, "changes nothing"),
        ({"data__jitter_pixels": 1, "teacher__precompute": False}, "jitter_pixels shifts"),
        ({"teacher__workdir": "none", "teacher__source": "table:x.npz"}, "a table has answered"),
        ({"objective__soft_targets": "none"}, "no term of config.objective reads a teacher"),
        ({"teacher__image_size": 6}, "cannot read inputs of shape (6, 6, 3)"),
        ({"teacher__image_size": "none"}, "teacher.image_size says"),
    ],
)
def test_bad_input(keys, words, folder, tmp_path, capfd):
    capfd.readouterr()
    assert student(folder, tmp_path / "run", **keys) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert words in line


def test_data_that_is_no_images_has_no_size(folder, tmp_path, capfd):
    np.savez(tmp_path / "a.npz", train_inputs=DRAW.normal(size=(24, 4)), train_labels=LABELS[:24])
    keys = {"data__source": f"npz:{tmp_path / 'a.npz'}", "data__eval": "train"}
    assert student(folder, tmp_path / "run", **keys, data__image_size="none") == 2
    assert "need images of bytes" in capfd.readouterr().err


def test_it_is_part_of_who_the_run_is():
    base = ["teacher.workdir=/nowhere", "data.image_size=4"]
    file = runs.ROOT / "tests" / "runs.py"
    prints = [
        fingerprint_of(identity(resolve(load_config(file, "distilled", [*base, *more]))))
        for more in ([], ["teacher.image_size=8"], ["teacher.image_size=native"])
    ]
    assert len(set(prints)) == 3
