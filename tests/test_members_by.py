"""How a population is computed changes no number: at once, one after another, or in groups."""

import dataclasses
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kd
import runs
import tiny
from kd import data as kd_data
from kd.core.step import of_members
from kd.models import mlp
from kd.placement.mesh import MeshSpec
from kd.teachers.answers import answers
from kd.teachers.trained import Trained, precompute
from kd.training import loop
from kd.training.ways import at_once, way_of

SEEDS, RATES = (3, 5, 7, 11, 13), (0.1, 0.03, 0.2, 0.05, 0.07)
WAYS = ("loop", 2, 9)
TEACHERS = Trained(tiny.WIDE, tiny.members(), {}, members=True)


def task(seeds=SEEDS, by="vmap", mesh=None, **changes):
    """Students with seeds and rates of their own, dropout and jitter; or the one of a seed."""
    rates = RATES[0] if isinstance(seeds, int) else RATES[: len(seeds)]
    usual = {
        "model": tiny.DROPPING,
        "members": tiny.members_of(seed=seeds, learning_rate=rates),
        "steps": 5,
        "view": kd_data.jitter(1),
        "mesh": MeshSpec(devices=1, members_by=by) if mesh is None else mesh,
    }
    return tiny.task(**{**usual, **changes})


def run(task, **options):
    """The last state, and every loss, of a run."""
    losses = []

    def start_writing(_):
        return [lambda _, values: losses.append(values["loss"])]

    state = loop.run(task, cadence=loop.Cadence(2), start_writing=start_writing, **options)
    return state, np.stack(losses)


def same(changed, by, rtol=1e-5):
    """A task computed one way is the task computed by vmap."""
    state, losses = run(changed)
    wanted, wanted_losses = run(dataclasses.replace(changed, members_by=by))
    tiny.close(jax.device_get(state), jax.device_get(wanted), rtol=rtol)
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-6)
    return state


@pytest.mark.parametrize("by", WAYS)
def test_every_way_is_vmap(by):
    same(task(), by)


def test_in_a_loop_a_member_has_the_bytes_of_a_run_of_its_own():
    state, _ = run(task(by="loop"))
    alone, _ = run(task(SEEDS[0]))
    tiny.close(tiny.take(state, 0), alone, rtol=0, atol=0)


@pytest.mark.parametrize(("by", "cached"), [("loop", False), (2, True)])
def test_paired_teachers(by, cached):
    paired = TEACHERS.teacher(pairs=(2, 0, 2, 1, 1))
    teacher = precompute(paired, tiny.dataset()) if cached else paired
    same(task(teacher=teacher, view=None), by)


def test_in_parts_averaged_and_streamed():
    stream = kd_data.as_stream(tiny.dataset())
    same(task(accumulate=4, ema=0.5, data=stream), 2)


def test_early_stopping_keeps_the_same_states():
    held_out = tiny.dataset(seed=1)

    def best(by):
        stopping = task(by=by, early_stopping=True)
        options = {"cadence": loop.Cadence(1, evaluate=1)}
        return loop.run(
            stopping,
            validate=lambda state: loop.latest(stopping, state).errors(held_out),
            **options,
        ).best

    tiny.close(best("loop"), best("vmap"))


@pytest.mark.parametrize(("by", "streamed"), [("loop", False), (3, True)])
def test_members_that_lie_on_several_devices(by, streamed):
    data = kd_data.as_stream(tiny.dataset()) if streamed else tiny.dataset()
    wanted, _ = run(task(SEEDS[:4], data=data))
    mesh = MeshSpec(devices=8, member=2, fsdp=2, members_by=by)
    state, _ = run(task(SEEDS[:4], data=data, mesh=mesh))
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)} == {8}
    tiny.close(jax.device_get(state), jax.device_get(wanted), rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 9))
def test_any_groups_of_any_parts_are_every_member_once(parts, each, size):
    own = {"a": jnp.arange(parts * each * 2.0).reshape(-1, 2), "b": jnp.arange(parts * each)}
    answer = of_members(lambda mine: mine["a"].sum() * 10 + mine["b"], own, size, parts)
    np.testing.assert_array_equal(answer, own["a"].sum(axis=1) * 10 + own["b"])


def test_stopped_anywhere_it_ends_with_the_same_bytes(tmp_path):
    keys = {"teacher__workdir": runs.finished(), "mesh__members_by": "loop"}
    keys["checkpoint_epochs"] = 1
    assert runs.train(tmp_path / "whole", arg="population", **keys) == 0
    command = runs.kd("train", f"--workdir={tmp_path / 'broken'}", arg="population", **keys)
    assert runs.python("tests/faulty.py", "SIGTERM:3", *command).returncode == 143
    assert runs.train(tmp_path / "broken", arg="population", **keys) == 0
    runs.same_bytes(tmp_path / "broken", tmp_path / "whole")


def test_the_library_takes_it_too():
    def params(by):
        mesh = kd.MeshSpec(devices=1, members_by=by)
        students = kd.product(seed=range(3))
        options = {"epochs": 1, "batch_size": 16, "population": students, "mesh": mesh}
        return kd.fit(tiny.PLAIN, tiny.dataset(), [kd.term("hard")], **options).params

    tiny.close(params("loop"), params("auto"))


class Convolving(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(tiny.CLASSES)(nn.Conv(2, (3, 3))(x[..., None]).reshape(len(x), -1))


CONVOLVING = kd.linen(Convolving())


def test_auto_is_what_was_measured():
    """Many parameters, or a convolution, are a loop on a CPU and on nothing else."""

    wide = mlp(tiny.CLASSES, (700, 700))  # 2 MB
    of_five = {"small": tiny.PLAIN, "wide": wide, "convolutions": CONVOLVING}
    ways = {name: at_once(task(by="auto", model=model)) for name, model in of_five.items()}
    assert ways == {"small": None, "wide": 1, "convolutions": 1}
    said = way_of(task(by="auto", model=CONVOLVING))
    assert said.startswith("5 members one after another (loop), auto: a CPU computes convolutions")
    assert way_of(task(by=2, model=CONVOLVING)) == "5 members 2 at a time"
    assert at_once(task(SEEDS[:2], "auto", model=wide)) is None
    assert at_once(task(by=4, model=wide)) == 4
    streamed = {"data": kd_data.as_stream(tiny.dataset())}
    assert at_once(task(by="auto", model=wide, **streamed)) is None
    assert at_once(task(by="auto", model=CONVOLVING, **streamed)) == 1
    chips = types.SimpleNamespace(platform="gpu")
    on_gpu = types.SimpleNamespace(devices=np.asarray(chips))
    changed = task(by="auto", model=wide)
    object.__setattr__(changed, "mesh", on_gpu)
    assert at_once(changed) is None


@pytest.mark.parametrize(("model", "by_loop"), [(tiny.PLAIN, False), (CONVOLVING, True)])
def test_each_answers_as_it_does_alone(model, by_loop):
    """A CPU asks members that convolve one after another, and all others at once."""
    several = Trained(model, tiny.members(model), {}, members=True)
    data = tiny.dataset()
    teacher = several.teacher("per_member")
    asked = [several.logits(data), answers(teacher, data).logits]
    for i in range(several.count):
        alone = several.member(i).logits(data)
        for together in asked:
            np.testing.assert_allclose(together[i], alone, rtol=1e-5, atol=1e-6)
    program = str(jax.make_jaxpr(teacher.apply)(teacher.variables, kd_data.example_batch(data, 2)))
    assert ("scan" in program) == by_loop
