"""Laws of weights from outside in a run: they teach, they are begun with, they are who the run is;
and what cannot be is one line.
"""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

import folders
import kd
import pictures
import runs
import tiny
from kd.cli.main import main
from kd.models.weights import files, tensors
from kd.runs.workdir import find

SIDE = 8
NETWORK = {"name": "token_vit", **folders.VIT}
INPUTS = {"mean": folders.MEAN, "deviation": folders.DEVIATION}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of images, one of Hugging Face, and the arrays of the latter alone."""
    place = tmp_path_factory.mktemp("place")
    pictures.write(place / "set", pictures.draw(shape=(SIDE, SIDE, 3)))
    folders.written(place / "hf", classes=3, names=pictures.CLASSES)
    arrays = {name: np.array(a) for name, a in tensors.stored(place / "hf" / files.WEIGHTS).items()}
    np.savez(place / "weights.npz", **arrays)
    return place


def command(place, workdir, **keys):
    """``kd train`` of a small student on the images, taught by the folder of Hugging Face."""
    told = {
        "data__source": "folder:set",
        "data__train": "train",
        "data__eval": "test",
        "data__data_dir": place,
        "data__batch_size": 8,
        "teacher__source": f"hf:{place / 'hf'}",
        **keys,
    }
    kept = {key: value for key, value in told.items() if value != "nothing"}
    reason = "--licence_override=the test made them"
    return runs.kd("train", f"--workdir={workdir}", reason, arg="distilled", **kept)


def weights(place, **options):
    model = {**NETWORK, **INPUTS, **options}
    return {"teacher__source": f"weights:{place / 'weights.npz'}", "teacher__model": model}


def test_a_folder_of_hugging_face_teaches_and_is_who_the_run_is(place, tmp_path, capsys):
    assert main(command(place, tmp_path / "run")) == 0
    teacher = kd.load(f"hf:{place / 'hf'}")
    told = find(tmp_path / "run").lineage.teacher
    assert told.source == f"hf:{place / 'hf'}"
    assert told.fingerprint == teacher.fingerprint
    owner = json.loads((tmp_path / "run" / "run.json").read_text())
    assert owner["identity"]["teacher"]["workdir"] == teacher.fingerprint
    other = folders.written(tmp_path / "other", classes=3, seed=5)
    capsys.readouterr()
    assert main(command(place, tmp_path / "run", teacher__source=f"hf:{other}")) == 2
    assert "belongs to another run: teacher.workdir is" in capsys.readouterr().err


def test_live_kept_and_arrays_alone_teach_the_same(place, tmp_path):
    """And in the library: whatever the door, the student is the same."""
    assert main(command(place, tmp_path / "kept")) == 0
    assert main(command(place, tmp_path / "live", teacher__precompute=False)) == 0
    assert main(command(place, tmp_path / "arrays", **weights(place))) == 0
    kept, live, arrays = (kd.load(tmp_path / name).params for name in ("kept", "live", "arrays"))
    tiny.close(live, kept)
    tiny.close(arrays, kept, 0, 0)
    data = kd.load("folder:set", "train", place)
    doors = (
        kd.teacher(f"hf:{place / 'hf'}"),
        kd.teacher(f"weights:{place / 'weights.npz'}", model={**NETWORK, **INPUTS}),
    )
    answers = [kd.precompute(door, data).variables.logits for door in doors]
    np.testing.assert_array_equal(*answers)


def test_the_normalisation_is_the_teachers_own(place, tmp_path):
    """The student sees the images as they are; without it the answers are others."""
    bare = {**NETWORK}
    data = kd.load("folder:set", "train", place)
    source = f"weights:{place / 'weights.npz'}"
    whole = kd.load(source, model={**bare, **INPUTS})
    plain = kd.load(source, model=bare)
    normalised = (data.inputs / 255 - np.array(folders.MEAN)) / np.array(folders.DEVIATION)
    shown = kd.arrays(normalised.astype(np.float32), num_classes=3, scale=1.0)
    unasked = dataclasses.replace(plain, seen=None)  # else it refuses such a range
    tiny.close(unasked.logits(shown), whole.logits(data), 1e-4, 1e-5)
    assert np.abs(plain.logits(data) - whole.logits(data)).max() > 1e-3
    assert plain.fingerprint != whole.fingerprint


def test_a_student_is_compared_with_it(place, tmp_path, capsys):
    assert main(command(place, tmp_path / "run")) == 0
    capsys.readouterr()
    assert main(["eval", f"--workdir={tmp_path / 'run'}"]) == 0
    assert "agreement" in capsys.readouterr().out


def test_a_teacher_is_evaluated_before_it_teaches(place, tmp_path, capsys):
    """``kd eval --config``: wherever it comes from, on the held-out data."""
    told = [word for word in command(place, "none") if word.startswith("--config")]
    assert main(["eval", *told]) == 0
    shown = capsys.readouterr().out
    data = kd.load("folder:set", "test", place)
    errors = kd.evals.errors(kd.load(f"hf:{place / 'hf'}").logits(data), data.labels)
    assert f"{errors:.1f}" in shown or f" {errors} " in shown
    assert main(["eval", *told, f"--workdir={tmp_path}"]) == 2
    assert main(["eval"]) == 2
    assert main(["eval", *told, "--teacher=run"]) == 2
    assert main(["eval", f"--workdir={runs.finished()}", "--config.seed=1"]) == 2
    assert main(["eval", *told, "--config.teacher.source=none"]) == 2
    capsys.readouterr()


def test_two_of_them_teach_together(place, tmp_path):
    both = {
        "teacher__source": "none",
        "teachers__a__source": f"hf:{place / 'hf'}",
        "teachers__b__source": f"weights:{place / 'weights.npz'}",
        "teachers__b__model": {**NETWORK, **INPUTS},
    }
    assert main(command(place, tmp_path / "both", **both)) == 0
    assert main(command(place, tmp_path / "one")) == 0
    two, single = (kd.load(tmp_path / name).params for name in ("both", "one"))
    tiny.close(two, single, 1e-4, 1e-5)


# First weights


def student(**options):
    return {"student": {**NETWORK, **INPUTS, **options}}


@pytest.mark.parametrize("scheme", ["hf:hf", "weights:weights.npz"])
def test_a_student_begins_with_it(scheme, place, tmp_path, capsys):
    scheme, _, name = scheme.partition(":")
    keys = {"teacher__source": "nothing", "optim__learning_rate": 1e-9}
    told = {**student(init=f"{scheme}:{place / name}"), **keys}
    assert main(command(place, tmp_path / "run", objective__soft_targets="none", **told)) == 0
    assert "none is fresh" in capsys.readouterr().err
    begun = kd.load(tmp_path / "run")
    whole = kd.load(f"hf:{place / 'hf'}")
    tiny.close(begun.params, whole.params, 1e-5, 1e-6)
    data = kd.load("folder:set", "test", place)
    tiny.close(begun.logits(data), whole.logits(data), 1e-4, 1e-5)
    assert begun.lineage.init.source == f"{scheme}:{place / name}"


def test_a_head_of_other_classes_is_drawn(place):
    whole = kd.load(f"hf:{place / 'hf'}")
    from kd.models import token_vit
    from kd.models.normalised import normalised
    from kd.training.first import first_weights

    model = normalised(token_vit(5, **folders.VIT), *INPUTS.values())
    first = first_weights(whole, model, np.zeros((1, SIDE, SIDE, 3), np.float32), None)
    assert first.record.fresh == ("params/head/bias", "params/head/kernel")
    with pytest.raises(kd.KdError, match=r"normalised otherwise.*student.mean=\(0.4"):
        first_weights(
            whole, token_vit(3, **folders.VIT), np.zeros((1, SIDE, SIDE, 3), np.float32), None
        )


# What cannot be


def bad(place):
    """Keys of a run that is refused, and words of its line."""
    network = {**NETWORK, **INPUTS}
    return {
        "no folder": ({"teacher__source": "hf:/nowhere"}, "there is no folder /nowhere"),
        "its own network": (
            {"teacher__model": NETWORK},
            "says which network it is; leave config.teacher.model out",
        ),
        "no network": (
            {"teacher__source": f"weights:{place / 'weights.npz'}"},
            "holds arrays alone; name their network",
        ),
        "another network": (weights(place, depth=3), "another network"),
        "a network without names": (
            {**weights(place), "teacher__model": {"name": "mlp"}},
            "they are for encoder, resnet, token_vit, wrn",
        ),
        "no file": (
            {**weights(place), "teacher__source": "weights:/nowhere.npz"},
            "/nowhere.npz",
        ),
        "no scheme": ({"teacher__source": "x.safetensors"}, "did you mean weights:x.safetensors"),
        "half of it": (
            {**weights(place), "teacher__model": {**NETWORK, "mean": (0.5,)}},
            "deviation must be numbers",
        ),
        "no deviation": (
            {**weights(place), "teacher__model": {**network, "deviation": (0.0, 1.0, 1.0)}},
            "deviations above 0",
        ),
        "members": ({"teacher__members": 2}, "changes nothing"),
        "kind": ({"teacher__kind": "logits"}, "a model answers with logits"),
        "average": ({"teacher__average": "geometric"}, "it is a single model"),
        "pairs": ({"population__teacher": "(0,)"}, "population.teacher names members"),
        "classes": ({"teacher__classes": "(0, 1)"}, "classes"),
        "a mean of others": ({"student__mean": "(0.5,)"}, "deviation must be numbers"),
        "a part's network": (
            {
                "teacher__source": "none",
                "teachers__a__source": f"hf:{place / 'hf'}",
                "teachers__a__model": NETWORK,
            },
            "teachers.a.model changes nothing",
        ),
        "first weights of a table": ({"student__init": "table:x.csv"}, "must be run:DIR"),
        "first weights of a member": (
            {"student__init": f"hf:{place / 'hf'}?member=0"},
            "must be run:DIR",
        ),
        "first weights of another kind": (
            {"student__init": f"weights:{place / 'weights.npz'}"},
            "they are for encoder, resnet, token_vit, wrn",
        ),
    }


CASES = sorted(bad(pathlib.Path("place")))


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_is_one_line(name, place, tmp_path, capsys):
    keys, words = bad(place)[name]
    capsys.readouterr()
    assert main(command(place, tmp_path / "run", **keys)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert words in said[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda _: kd.load("hf:nowhere"), "there is no folder nowhere"),
        (lambda p: kd.load(f"hf:{p / 'hf'}", model=NETWORK), "leave model out"),
        (lambda p: kd.load(f"weights:{p / 'weights.npz'}"), "name their network in model"),
        (lambda p: kd.load(f"weights:{p / 'weights.npz'}", model=5), "model must name a network"),
        (lambda p: kd.load(f"weights:{p / 'weights.npz'}", model={}), "model.name is missing"),
        (lambda p: kd.load(p / "hf"), "name it hf:"),
        (lambda p: kd.teacher(f"hf:{p / 'hf'}", model=NETWORK), "says which network it is"),
        (lambda p: kd.teacher(f"hf:{p / 'hf'}", kind="logits"), "the teacher is a model"),
        (lambda p: kd.teacher(f"weights:{p / 'weights.npz'}"), "holds arrays alone"),
    ],
)
def test_the_library_refuses_the_same(call, words, place):
    with pytest.raises(kd.KdError, match=words):
        call(place)


def test_it_is_planned_and_checked_without_being_run(place, capsys):
    told = [word for word in command(place, "none") if word.startswith("--config")]
    assert main(["train", "--dry_run", *told]) == 0
    assert main(["train", "--show-sharding", *told]) == 0
    assert "attention/query/kernel" in capsys.readouterr().out
