"""Laws of kept answers: a live teacher and its table say the same, and a table fits one data
set.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
import tiny
from kd.config import resolve
from kd.core.step import population
from kd.errors import KdError
from kd.models import linen
from kd.models.precision import in_bfloat16
from kd.placement.mesh import MeshSpec, make_mesh, put, replicated
from kd.runs.load import load_trained
from kd.runs.splits import load_splits
from kd.runs.teachers import load_teacher
from kd.teachers import answers as predict
from kd.teachers import make as kd_teacher
from kd.teachers.trained import Trained

KINDS = ("one", "arithmetic", "geometric", "per_member", "pairs")
PAIRS = (2, 0)


class PerPosition(nn.Module):
    """An answer for each row of an image: ``[b 4 4] -> [b 4 v]``."""

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(tiny.CLASSES)(jnp.tanh(nn.Dense(8)(inputs)))


POSITIONS = linen(PerPosition())
MODELS = {"classes": tiny.WIDE, "positions": POSITIONS}


def teacher(model, kind, devices=1):
    """A live teacher of random weights, on so many devices."""
    params, members = tiny.members(model), kind != "one"
    params = params if members else tiny.take(params, 0)
    if devices > 1:
        params = put(params, replicated(make_mesh(MeshSpec(devices=devices))))
    trained = Trained(model, params, {}, members)
    return trained.teacher(pairs=PAIRS) if kind == "pairs" else trained.teacher(_average(kind))


def _average(kind):
    return "arithmetic" if kind == "one" else kind


def answer(teacher, batch):
    apply = teacher.apply if teacher.pairs is None else jax.vmap(teacher.apply, (0, None))
    return apply(teacher.variables, batch)


def batch(model):
    """One of `tiny`, with labels and weights for every position that `model` answers for."""
    plain = tiny.batch()
    if model is not POSITIONS:
        return plain
    weight = jnp.ones((16, 4)).at[3].set(0.0).at[5, 2].set(0.0)
    labels = jnp.repeat(plain["labels"][:, None], 4, axis=1)
    return {**plain, "weight": weight, "labels": labels}


@functools.cache
def kept(model, kind, devices):
    return kd.precompute(teacher(MODELS[model], kind, devices), tiny.dataset())


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_a_live_teacher_and_its_table_answer_alike(model, kind, devices):
    live, table = teacher(MODELS[model], kind), kept(model, kind, devices)
    ours, theirs = answer(live, tiny.batch()), answer(table, tiny.batch())
    assert ours.average == theirs.average
    tiny.close(ours, theirs)
    again = kd.precompute(table, tiny.dataset())
    assert again.manifest == dataclasses.replace(table.manifest, digest=again.manifest.digest)
    tiny.close(again.variables, table.variables)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_a_live_teacher_and_its_table_teach_alike(model, kind):
    """One step, at the rate 1: what moved is the gradient."""
    states = []
    for taught in (teacher(MODELS[model], kind), kept(model, kind, 1)):
        student = tiny.PLAIN if model == "classes" else POSITIONS
        step = tiny.step(student, taught)
        variables, state = taught.variables, tiny.state(student)
        hparams, examples = tiny.hparams(learning_rate=1.0), batch(MODELS[model])
        if kind == "pairs":
            step = population(step, own_teachers=True)
            variables = tiny.take(variables, list(PAIRS))
            state, hparams, examples = twice((state, hparams, examples))
        states.append(jax.jit(step)(state, variables, examples, hparams))
    tiny.close(*states)
    assert np.isfinite(states[0][1]["loss"].value).all()


def twice(tree):
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), tree)


@pytest.mark.parametrize("members", [False, True])
@pytest.mark.parametrize("devices", [1, 8])
def test_logits_of_positions_keep_their_places(members, devices):
    data, params = tiny.dataset(13), tiny.members(POSITIONS)
    params = params if members else tiny.take(params, 1)
    each = params if members else jax.tree.map(lambda leaf: leaf[None], params)
    wanted = jax.vmap(lambda p: POSITIONS.apply(p, {}, jnp.asarray(data.inputs))[0].logits)(each)
    if devices > 1:
        params = put(params, replicated(make_mesh(MeshSpec(devices=devices))))
    logits = predict.predict(POSITIONS, params, {}, data, members=members, batch_size=5)
    np.testing.assert_allclose(logits, wanted if members else wanted[0], rtol=1e-5, atol=1e-6)


def test_a_manifest_says_what_was_kept():
    data = tiny.dataset()
    manifest = kept("positions", "geometric", 1).manifest
    assert (manifest.rows, manifest.classes, manifest.positions) == (64, tiny.CLASSES, (4,))
    assert (manifest.data, manifest.members, manifest.kind) == (data.fingerprint, 3, "logits")
    assert manifest.bytes == 64 * 3 * 4 * tiny.CLASSES * 4
    assert kept("positions", "pairs", 1).manifest.rows == 64
    assert kept("classes", "one", 1).manifest.digest != manifest.digest


REFUSED = {
    "600 rows for 1,200 examples": (600, 1200, "600 rows and the data has 1200 examples"),
    "1 row": (1, 64, "1 rows and the data has 64 examples"),
    "more rows than examples": (65, 64, "65 rows and the data has 64 examples"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_do_not_fit_are_refused_before_the_first_step(case, monkeypatch):
    rows, examples, message = REFUSED[case]
    monkeypatch.setattr("kd.training.loop.compile_program", None)
    table = kd_teacher.precomputed(np.zeros((rows, tiny.CLASSES), np.float32))
    with pytest.raises(KdError, match=message):
        fit(table, tiny.dataset(examples))


def fit(teacher, data, *terms, **options):
    terms = terms or (kd.term("soft_targets"),)
    return kd.fit(tiny.PLAIN, data, terms, teacher=teacher, epochs=1, batch_size=16, **options)


def test_answers_fit_their_own_data_alone(monkeypatch):
    monkeypatch.setattr("kd.training.loop.compile_program", None)
    table = kept("classes", "one", 1)
    with pytest.raises(KdError, match="kept for another data set"):
        fit(table, tiny.dataset(seed=1))
    with pytest.raises(KdError, match="kept for another data set"):
        kd.precompute(table, tiny.dataset(seed=1))
    with pytest.raises(KdError, match="view changes what the student sees"):
        fit(table, tiny.dataset(), view=kd.jitter(1))
    with pytest.raises(KdError, match="5 classes and the teacher with 7"):
        fit(kd_teacher.precomputed(np.zeros((64, 7))), tiny.dataset())
    with pytest.raises(KdError, match=r"teacher answers for positions \(16, 4\)"):
        fit(kept("positions", "one", 1), tiny.dataset())


def test_random_crops_cannot_be_answered_beforehand():
    images = np.zeros((8, 4, 4, 1), np.uint8)
    data = kd.arrays(images, np.arange(8) % tiny.CLASSES, num_classes=tiny.CLASSES)
    for view in ({"crop": "random", "size": 4}, {"flip": True}):
        stream = kd.data.as_stream(data, **view)
        with pytest.raises(KdError, match="shows others in every epoch"):
            kd.precompute(tiny.teacher(), stream)


@pytest.mark.parametrize("cached", [False, True])
def test_answers_are_handed_over_in_float32(cached):
    """Whatever the teacher computes in: the losses see float32 numbers."""
    model = in_bfloat16(tiny.WIDE)

    def half(params, extra, inputs, train=False, key=None):
        outputs, extra = model.apply(params, extra, inputs, train=train, key=key)
        return outputs.astype(jnp.bfloat16), extra

    params = tiny.take(tiny.members(), 0)
    live = kd_teacher.live(dataclasses.replace(model, apply=half), params)
    taught = kd.precompute(live, tiny.dataset()) if cached else live
    seen = []

    def look(student, teacher, batch, hparams):
        del batch, hparams
        seen.append(teacher.logits.dtype)
        return jnp.sum(student.logits - teacher.logits, axis=-1)

    terms = [kd.term(look)]
    step = tiny.step(teacher=taught, terms=terms)
    jax.eval_shape(step, tiny.state(), taught.variables, tiny.batch(), tiny.hparams(terms))
    assert set(seen) == {jnp.dtype("float32")}
    assert predict.answers(taught, tiny.dataset()).logits.dtype == np.float32


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_teacher_computes_as_it_was_trained(compute, tmp_path):
    """Whatever its student computes in."""
    assert runs.train(tmp_path / "run", compute=compute) == 0
    trained = load_trained(tmp_path / "run")
    wanted = {frozenset({compute})}
    for of_student in ("float32", "bfloat16"):
        config = runs.get_config("distilled")
        config.teacher.workdir, config.compute = str(tmp_path / "run"), of_student
        data = load_splits(resolve(config))[0]
        taught = load_teacher(resolve(config), data)
        examples = kd.data.example_batch(data, 3)
        types = tiny.factors(taught.apply, taught.variables, examples)
        assert set(map(frozenset, types)) == wanted
        ours = predict.answers(taught, data).logits
        np.testing.assert_array_equal(ours, trained.logits(data))
