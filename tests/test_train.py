"""The loop: one compile, members that are runs of their own, any number of devices, evaluate,
checkpoint, write.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import monitoring

import runs
import tiny
from kd import data as kd_data
from kd.core.members import product
from kd.core.terms import term
from kd.core.types import Model
from kd.placement.mesh import MeshSpec, make_mesh
from kd.teachers.answers import predict
from kd.training import loop
from kd.training.checkpoint import Checkpoints

ONE = MeshSpec(devices=1)
SEEDS, RATES = (3, 5), (0.1, 0.03)


def quick(model):
    """The same model with weights that compile in no time: those of `tiny`, and a bias that the
    seed decides.
    """

    params = tiny.take(tiny.members(model, 1), 0)

    def init(key, inputs):
        bias = jax.random.bits(key, (8,)) / jnp.float32(2**32)
        return {**params, "Dense_0": {**params["Dense_0"], "bias": bias}}, {}

    return Model(init, model.apply)


PLAIN, DROPPING = quick(tiny.PLAIN), quick(tiny.DROPPING)
MEMBERS = tiny.members_of(learning_rate=RATES, seed=SEEDS)


def task(model=PLAIN, **changes):
    return tiny.task(model, **changes)


def population(members=MEMBERS, **changes):
    """Two members with seeds and rates of their own, dropout and jitter."""
    return task(DROPPING, members=members, view=kd_data.jitter(1), **changes)


class Log(Checkpoints):
    """A writer, an evaluation and checkpoints that note what happens, as (step, kind, values)."""

    def __init__(self):
        self.events = []

    def start_writing(self, resumed_at):
        assert resumed_at == 0
        return [self.write]

    def write(self, step, values):
        self.events.append((step, "evaluated" if "eval/x" in values else "metrics", values))

    def evaluate(self, state):
        return {"eval/x": int(np.max(state.step))}

    def restore(self, example=None):
        assert example.step.ndim <= 1

    last_position = None

    def wait(self):
        pass

    def save(self, step, tree, position=None):
        # data in memory has none; a line that the end cuts short is kept for a longer run
        assert position is None or (position["data"] is None and position["log"]["rows"])
        assert int(np.max(tree.step)) == step
        self.events.append((step, "saved", None))

    def steps(self, kind):
        return [step for step, what, _ in self.events if what == kind]

    def metrics(self, name="loss"):
        return np.stack([values[name] for _, what, values in self.events if what == "metrics"])


def run(task, *, cadence=loop.Cadence(3), devices=1, full=False):
    """The last state and the log of a run; with `full`, evaluated and saved too."""
    log = Log()
    options = {"evaluate": log.evaluate, "checkpoints": log} if full else {}
    task = dataclasses.replace(task, mesh=make_mesh(MeshSpec(devices=devices)))
    return loop.run(task, cadence=cadence, start_writing=log.start_writing, **options), log


def counting():
    """A model that counts how often its training step is traced."""
    traces = []

    def apply(params, extra, inputs, train=False, key=None):
        traces.append(train)
        return PLAIN.apply(params, extra, inputs, train, key)

    return Model(PLAIN.init, apply), traces


def test_one_compile_however_long_the_run(monkeypatch, tmp_path):
    """Odd-length tails, evaluations and checkpoints included: the number of steps does not
    matter.
    """
    compiled = []
    real = loop.compile_program
    monkeypatch.setattr(loop, "compile_program", lambda *a: compiled.append(1) or real(*a))
    durations = []

    def listener(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            durations.append(duration)

    monitoring.register_event_duration_secs_listener(listener)
    names = []
    for steps in (7, 7, 31):  # the first run also compiles what the process had not needed before
        model, traces = counting()
        compiled.clear()
        durations.clear()
        checkpoints = Checkpoints(tmp_path / str(len(names)))
        loop.run(
            task(model, steps=steps, mesh=ONE),
            cadence=loop.Cadence(3, 4, 5),
            checkpoints=checkpoints,
        )
        checkpoints.close()
        names.append((sum(traces), len(compiled), len(durations)))
    monitoring.unregister_event_duration_listener(listener)
    assert names[1] == names[2]
    traced, programs, _ = names[2]
    assert programs == 1
    assert 1 <= traced <= 4


@pytest.fixture(scope="module")
def together():
    return run(population())


@pytest.mark.parametrize("member", [0, 1])
def test_a_member_is_a_run_of_its_own(together, member):
    single = task(
        DROPPING,
        members=tiny.members_of(learning_rate=RATES[member], seed=SEEDS[member]),
        view=kd_data.jitter(1),
    )
    alone, log = run(single)
    state, logs = together
    tiny.close(tiny.take(state, member), alone)
    np.testing.assert_allclose(logs.metrics()[:, member], log.metrics(), rtol=1e-5)
    assert tiny.differ(tiny.take(state.params, 0), tiny.take(state.params, 1))
    start = loop.initial_state(population())
    assert not tiny.differ(tiny.take(start.params, member), loop.initial_state(single).params)


@pytest.mark.parametrize("devices", [8])
def test_any_number_of_devices_is_the_same_run(together, devices):
    state, log = run(population(), devices=devices)
    tiny.close(state, together[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log.metrics(), together[1].metrics(), rtol=1e-4)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)} == {devices}


def test_the_cadence_does_not_touch_the_numbers(together):
    state, log = run(population(), cadence=loop.Cadence(5, 2, 3), full=True)
    tiny.close(state, together[0], rtol=1e-6, atol=1e-7)
    assert log.steps("metrics") == [2, 3, 4, 5, 6, 7]


def test_evaluate_then_checkpoint_then_step_then_write():
    _, log = run(task(), cadence=loop.Cadence(2, 4, 3), full=True)
    assert log.steps("metrics") == [2, 3, 4, 6, 7]
    assert log.steps("evaluated") == [4, 7]  # and always at the end
    assert log.steps("saved") == [3, 6, 7]
    order = {"metrics": 0, "evaluated": 1, "saved": 2}
    places = [(step, order[kind]) for step, kind, _ in log.events]
    # a checkpoint is never ahead of the metrics and the evaluation of its step
    assert places == sorted(places)
    assert [values["eval/x"] for _, kind, values in log.events if kind == "evaluated"] == [4, 7]


@given(
    st.integers(1, 9),
    st.none() | st.integers(1, 9),
    st.none() | st.integers(1, 9),
    st.integers(1, 40),
)
def test_every_multiple_is_a_stop_and_nothing_else(dispatch, evaluate, checkpoint, total):
    cadence, step, stops = loop.Cadence(dispatch, evaluate, checkpoint), 0, []
    while step < total:
        step = cadence.next_stop(step, total)
        stops.append(step)
    everies = [every for every in (dispatch, evaluate, checkpoint) if every]
    assert stops == [
        s for s in range(1, total + 1) if s == total or any(s % every == 0 for every in everies)
    ]


def test_a_line_of_metrics_is_a_weighted_mean():
    """Batches of unequal weight, three in a line: every example counts once, not every batch."""

    def labelled_one_or_two(key, batch):
        return {
            **batch,
            "weight": jnp.isin(batch["labels"], jnp.asarray([1, 2])).astype(jnp.float32),
        }

    weighted = task(view=labelled_one_or_two, steps=6)
    _, one_by_one = run(weighted, cadence=loop.Cadence(1))
    _, in_threes = run(weighted, cadence=loop.Cadence(3))
    rows = [kd_data.rows(3, step, 64, 16) for step in range(6)]
    counts = np.asarray([np.isin(weighted.data.labels[r], [1, 2]).sum() for r in rows])
    assert len(set(counts[:3])) > 1
    for name in ("loss", "loss/hard", "accuracy"):
        each = one_by_one.metrics(name)
        wanted = [np.average(each[part], weights=counts[part]) for part in (slice(3), slice(3, 6))]
        np.testing.assert_allclose(in_threes.metrics(name), wanted, rtol=1e-5)
        assert np.abs(in_threes.metrics(name)[0] - each[:3].mean()) > 1e-4


def test_a_transfer_set_without_labels():
    terms = (term("soft_targets", temperature=3.0),)
    unlabelled = dataclasses.replace(tiny.dataset(), labels=None)
    state, log = run(task(data=unlabelled, terms=terms))
    labelled, _ = run(task(terms=terms))
    tiny.close(state, labelled)
    assert set(log.events[0][2]) == {"loss", "loss/soft_targets", "agreement"}


def test_terms_and_columns_become_the_members_of_a_run():
    columns = product(soft_targets__temperature=(1.0, 6.0), seed=(3, 5))
    state, _ = run(task(members=tiny.members_of(**columns)))
    terms = (tiny.TERMS[0], term("soft_targets", temperature=6.0))
    alone, _ = run(task(terms=terms, members=tiny.members_of(terms, seed=5)))
    tiny.close(tiny.take(state, 3), alone)


def test_a_live_teacher_and_its_precomputed_logits_are_the_same_teacher(tmp_path, capfd):
    """Through the command line, with an ensemble; and the student is not the one that learns
    alone.
    """
    assert runs.train(tmp_path / "teachers", population={"seed": (0, 1, 2)}) == 0
    params = {}
    for precompute in (True, False):
        workdir, teacher = (
            tmp_path / str(precompute),
            {"workdir": str(tmp_path / "teachers"), "precompute": precompute},
        )
        assert runs.train(workdir, arg="distilled", teacher=teacher) == 0
        params[precompute] = {
            k: v for k, v in runs.restored(workdir).items() if k.startswith("['params']")
        }
        assert all("agreement" in line for line in runs.lines(workdir) if "loss" in line)
    assert params[True].keys() == params[False].keys()
    for path in params[True]:
        np.testing.assert_allclose(params[True][path], params[False][path], rtol=1e-5, atol=1e-6)
    alone = runs.restored(runs.finished())
    assert any(np.abs(params[True][path] - alone[path]).max() > 1e-3 for path in params[True])
    evaluation = json.loads((tmp_path / "teachers" / "evaluation.json").read_text())
    assert len(evaluation["members"]) == 3


def windowed():
    """The data of `tiny` as windows of one row of frames, which hold nothing twice, and stacked."""
    frames = np.random.default_rng(1).normal(size=(80, 4)).astype(np.float32)
    starts, labels = np.random.default_rng(2).integers(0, 76, size=64), np.arange(64) % tiny.CLASSES
    stacked = np.stack([frames[start : start + 4] for start in starts])
    return kd_data.arrays(frames, labels, starts=starts, window=4), kd_data.arrays(stacked, labels)


def test_windowed_data_trains_and_predicts_like_stacked_data():
    windows, other = windowed()
    states = [run(task(data=data, view=None))[0] for data in (windows, other)]
    tiny.close(states[0], states[1], rtol=0, atol=0)
    logits = [
        predict(PLAIN, states[0].params, {}, data, members=False, batch_size=10)
        for data in (windows, other)
    ]
    np.testing.assert_array_equal(*logits)


def test_members_may_differ_in_their_first_weights_alone():
    """Each is the run that starts with the weights of its own seed and does the rest by the shared
    one.
    """
    members = tiny.members_of(seed=3, init_seed=(5, 6))
    starts = [
        loop.initial_state(task(DROPPING, members=tiny.members_of(seed=seed))) for seed in (3, 5, 6)
    ]
    first = loop.initial_state(population(members))
    for i in range(2):
        tiny.close(tiny.take(first.params, i), starts[1 + i].params, rtol=0, atol=0)
        np.testing.assert_array_equal(
            jax.random.key_data(first.key[i]), jax.random.key_data(starts[0].key)
        )
    assert tiny.differ(tiny.take(first.params, 0), tiny.take(first.params, 1))
    ends = run(population(dataclasses.replace(members, init_seeds=(5, 5))))[0]
    # the same batches and dropout
    tiny.close(tiny.take(ends.params, 0), tiny.take(ends.params, 1), rtol=0, atol=0)
    assert tiny.members_of(init_seed=range(2)).init_seeds == (0, 1)
    assert tiny.members_of(seed=(1, 2)).init_seeds == (1, 2)
