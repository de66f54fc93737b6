"""Contrastive distillation: its formula, and a memory that survives everything a run survives."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

import kd
import reference_relations as reference
import tiny
from checkpoints import stopped_and_not
from kd import data as kd_data
from kd.core.heads import trained
from kd.core.losses.contrastive import WIDTH, crd, memory
from kd.errors import KdError
from kd.placement.mesh import MeshSpec
from kd.placement.sharding import Rule, Sharding
from kd.training import loop
from kd.training.program import place
from kd.training.room import check_room

EXAMPLES = 9
NUMBERS = {"tau": 0.5, "negatives": 12.0, "momentum": 0.3}
TERMS = (kd.term("hard"), kd.term("crd", taps={"hidden": "Dense_0"}, **NUMBERS))


def outputs(seed, rows=4):
    random = np.random.default_rng(seed)
    return [
        kd.Outputs(
            jnp.zeros((rows, 2)), taps={"hidden": jnp.asarray(random.normal(size=(rows, *shape)))}
        )
        for shape in ((3,), (2, 2))
    ]


def batch(index, weight=None):
    weight = np.ones(len(index)) if weight is None else weight
    return {"index": jnp.asarray(index, jnp.int32), "weight": jnp.asarray(weight, jnp.float32)}


def owned():
    return memory(jax.random.key(0), *outputs(0), EXAMPLES)


def hparams():
    return {key: jnp.float32(number) for key, number in NUMBERS.items()}


def embedded(sides, heads):
    """Embeddings of length 1, in float64."""
    own = {}
    for side, told in zip(("student", "teacher"), sides, strict=True):
        flat = np.asarray(told.taps["hidden"], np.float64).reshape(len(told.logits), -1)
        weights = heads.dropped[side]
        rows = flat @ np.asarray(weights["kernel"]) + np.asarray(weights["bias"])
        own[side] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return own


def test_three_steps_are_the_formula():
    """The first has nobody to compare with, the second and third have who was seen."""
    heads = owned()
    memories = {side: np.zeros((EXAMPLES, WIDTH)) for side in ("student", "teacher")}
    for step, index in enumerate(([0, 2, 4, 6], [1, 2, 3, 4], [8, 0, 1, 2])):
        sides = outputs(step)
        got, later = crd(*sides, batch(index), hparams(), heads)
        own = embedded(sides, heads)
        wanted, memories = reference.crd(own, memories, index, **NUMBERS)
        np.testing.assert_allclose(got, wanted, rtol=1e-4)
        for side in memories:
            np.testing.assert_allclose(later[side], memories[side], atol=1e-6)
        heads = dataclasses.replace(heads, buffers=later)
    assert not np.any(memories["teacher"][5])  # never seen


def test_the_gradient_is_that_of_finite_differences():
    heads = owned()
    _, later = crd(*outputs(0), batch([0, 1, 2, 3]), hparams(), heads)
    student, teacher = outputs(1)

    def mean(hidden, dropped):
        seen = dataclasses.replace(student, taps={"hidden": jnp.asarray(hidden)})
        own = kd.Heads(dropped=dropped, buffers=later)
        return jnp.mean(crd(seen, teacher, batch([0, 4, 5, 6]), hparams(), own)[0])

    arguments = (student.taps["hidden"], heads.dropped)
    jax.test_util.check_grads(mean, arguments, order=1, modes=["rev"], rtol=0.02, atol=0.02)


def test_padding_is_remembered_nowhere_and_changes_nothing():
    """Padding repeats an index of the batch, and its features must not overwrite the true ones."""
    heads = owned()
    _, before = crd(*outputs(0), batch([0, 1, 2, 3]), hparams(), heads)
    heads = dataclasses.replace(heads, buffers=before)
    sides = outputs(1)
    values, later = crd(*sides, batch([4, 5, 4, 0], [1, 1, 0, 0]), hparams(), heads)
    sliced = [
        dataclasses.replace(o, logits=o.logits[:2], taps={"hidden": o.taps["hidden"][:2]})
        for o in sides
    ]
    wanted, alone = crd(*sliced, batch([4, 5]), hparams(), heads)
    np.testing.assert_allclose(values[:2], wanted, rtol=1e-5)
    tiny.close(later, alone)


def test_what_is_told_from_nothing_costs_little():
    """A pair that lies far from all others pays less than one that lies near them."""
    heads = owned()
    sides = outputs(1)
    own = embedded(sides, heads)
    far = {side: np.zeros((EXAMPLES, WIDTH)) for side in own}
    for side, anchor in (("student", "teacher"), ("teacher", "student")):
        far[side][5:] = -own[anchor].mean(axis=0) / np.linalg.norm(own[anchor].mean(axis=0))
    near = {side: -memory for side, memory in far.items()}
    losses = [reference.crd(own, m, [0, 1, 2, 3], **NUMBERS)[0].mean() for m in (far, near)]
    got = [
        crd(
            *sides,
            batch([0, 1, 2, 3]),
            hparams(),
            dataclasses.replace(heads, buffers=jax.tree.map(jnp.float32, memories)),
        )[0].mean()
        for memories in (far, near)
    ]
    np.testing.assert_allclose(got, losses, rtol=1e-4)
    assert got[0] < got[1]


def task(**options):
    usual = {"members": tiny.members_of(TERMS), "mesh": MeshSpec(devices=1)}
    return tiny.task(terms=TERMS, **{**usual, **options})


def test_a_run_that_was_stopped_remembers_the_same_bytes(tmp_path):
    ends = stopped_and_not(task(steps=6), tmp_path)
    tiny.close(ends[1], ends[0], rtol=0, atol=0)
    remembered = ends[0].heads["crd"].buffers["teacher"]
    assert remembered.shape == (len(tiny.dataset()), WIDTH)
    assert np.any(remembered != 0, axis=1).all()  # 6 steps of 16 are more than an epoch of 64


@pytest.mark.parametrize("sharding", [Sharding(), Sharding(Rule("fsdp"))])
def test_one_and_eight_devices_remember_the_same(sharding):
    alone, spread = (
        loop.run(task(mesh=mesh, sharding=sharding, steps=4))
        for mesh in (MeshSpec(devices=1), MeshSpec(devices=8, fsdp=2))
    )
    tiny.close(spread.heads["crd"].buffers, alone.heads["crd"].buffers, rtol=1e-4, atol=1e-5)
    tiny.close(trained(spread.heads), trained(alone.heads), rtol=1e-4, atol=1e-5)
    tiny.close(spread.params, alone.params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("by", ["vmap", "loop"])
def test_a_member_remembers_what_it_remembers_alone(by):
    members = tiny.members_of(TERMS, seed=(3, 5))
    together = loop.run(task(members=members, members_by=by, steps=4))
    for i in range(2):
        alone = loop.run(task(members=members.member(i), steps=4))
        tiny.close(tiny.take(together.heads, i), alone.heads, rtol=1e-4, atol=1e-5)


def test_the_embeddings_stay_behind():
    learning = task(steps=2)
    assert not loop.result(learning, loop.run(learning)).heads


def test_a_memory_that_does_not_fit_is_refused_with_its_size():
    """Of a billion examples: two memories of 128 numbers each, before any of it is there."""
    data = kd_data.described(10**9, (4, 4, 1), tiny.CLASSES)
    huge = task(data=data, teacher=kd.Teacher({}, _answer, with_taps=lambda _: _answer))
    loop.check(huge)
    with pytest.raises(KdError, match=r"heads of the losses 1\.0 TB.*terms that own less"):
        check_room(huge, place(huge))


def _answer(_, batch):
    flat = batch["inputs"].reshape(len(batch["inputs"]), -1)
    return kd.Outputs(flat[:, : tiny.CLASSES], taps={"Dense_0": flat})


def test_examples_with_positions_are_refused():
    cut = {"index": jnp.zeros(2, jnp.int32), "weight": jnp.ones((2, 2))}
    with pytest.raises(KdError, match="crd remembers one feature of each example"):
        crd(*outputs(0), cut, hparams(), owned())
