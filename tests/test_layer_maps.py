"""A student may begin with some of its teacher's blocks, scanned or not, in runs and in Python."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import kd
import runs
import texts
import tiny
from kd.config import parse_layers, resolve
from kd.lineage import FirstWeights, Lineage
from kd.models.repeated import rolled, unrolled
from kd.training.first import first_weights

DEEP = {"depth": 5, "family": "bert"}


def teacher(scan=False, **options):
    trained = texts.trained(head="masked", **{**DEEP, **options})
    if not scan:
        return trained
    model = texts.small(head="masked", **{**DEEP, **options}, scan=True)
    return dataclasses.replace(trained, model=model, params=rolled(trained.params))


def begun(trained, model, layers):
    """The student's parameters as they begin: what is copied, zeros where they are drawn."""
    first = first_weights(trained, model, texts.texts(4), None, layers=layers)
    nothing = jax.tree.map(np.zeros_like, texts.drawn(model))
    leaves = {name.removeprefix("params/"): leaf for name, leaf in first.leaves.items()}
    return kd.core.leaves.with_leaves(nothing, leaves), first


@pytest.mark.parametrize("scans", [(False, False), (True, False), (False, True), (True, True)])
def test_each_block_is_the_teachers_that_the_map_names(scans):
    trained = teacher(scans[0])
    model = texts.small("distilbert", "masked", depth=3, scan=scans[1])
    params, first = begun(trained, model, (0, 2, 4))
    theirs, ours = unrolled(trained.params), unrolled(params)
    for own, layer in enumerate((0, 2, 4)):
        tiny.close(ours[f"blocks_{own}"], theirs[f"blocks_{layer}"], 0, 0)
    tiny.close(ours["embeddings"]["words"], theirs["embeddings"]["words"], 0, 0)
    assert first.record.layers == (0, 2, 4)
    assert "its blocks 0, 2, 4; none is fresh" in first.text


def test_of_another_depth_without_a_map_the_first_blocks_are_taken():
    trained = teacher()
    params, first = begun(trained, texts.small("bert", "token", depth=3), None)
    tiny.close(params["blocks_2"], trained.params["blocks_2"], 0, 0)
    assert first.record.fresh == ("params/head/bias", "params/head/kernel")
    assert first.record.layers == ()


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        ((0, 2, 5), {}, r"name block 5 and the first weights have 5 blocks, 0 to 4"),
        ((0, 2), {}, "name 2 blocks and the student has 3"),
        ((0, 2, 4), {"width": 12, "mlp": 16}, "have no block of the shape"),
    ],
)
def test_a_map_that_does_not_fit_is_one_line(layers, options, words):
    model = texts.small("bert", "token", depth=3, **options)
    with pytest.raises(kd.KdError, match=words):
        first_weights(teacher(), model, texts.texts(4), None, layers=layers)


@pytest.mark.parametrize("layers", [(), (-1, 2), (0, 1.5), "0,2", 3, (True,)])
def test_a_map_that_is_none_is_one_line(layers):
    with pytest.raises(kd.KdError, match="must be the blocks of the first weights"):
        parse_layers({"init": "hf:DIR", "layers": layers})
    with pytest.raises(kd.KdError, match="changes nothing without"):
        parse_layers({"layers": (0, 2)})


def config(**keys):
    told = runs.get_config("distilled")
    for key, value in keys.items():
        setattr(told.student, key, value)
    return told


def test_the_teacher_is_what_the_first_weights_are_of(tmp_path):
    told = config(init="teacher")
    told.teacher.workdir = str(runs.finished())
    spec = resolve(told)
    assert spec.student["init"] == f"run:{runs.finished()}"
    told.teacher.workdir = None
    with pytest.raises(kd.KdError, match="there is no single teacher"):
        resolve(told)
    told.teacher.source = f"weights:{tmp_path}/a.safetensors"
    told.teacher.model = {"name": "resnet", "depth": 20}
    with pytest.raises(kd.KdError, match="takes the teacher's weights and it is weights:"):
        resolve(told)


def test_a_run_begins_with_its_teacher_and_records_it(tmp_path, capsys):
    keys = {"student__widths": (16,), "student__init": "teacher", "teacher__precompute": False}
    teacher = {"teacher__workdir": str(runs.finished())}
    code = runs.train(tmp_path / "run", arg="distilled", **keys, **teacher)
    assert code == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["lineage"]["init"]["fingerprint"] == kd.load(runs.finished()).fingerprint
    assert record["lineage"]["init"]["layers"] == []


def test_what_was_recorded_without_layers_is_read():
    weights = FirstWeights("run:a", "b", "c", layers=(0, 2))
    told = Lineage((), {}, {}, init=weights).to_json()
    assert Lineage.from_json(json.loads(json.dumps(told))).init == weights
    del told["init"]["layers"]
    assert Lineage.from_json(told).init == dataclasses.replace(weights, layers=())
