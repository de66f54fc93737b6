"""Laws of batches of a few lengths: which one a step has is a function of the step alone, its rows
are one of (seed, step), padding changes nothing, and a run that stopped ends with the same bytes.
"""

import dataclasses
import itertools
import json
import signal

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import monitoring

import faulty
import runs
import small_text
import tiny
from kd import data as kd_data
from kd.core.terms import term
from kd.data.tokens.buckets import Buckets, bucket_lengths
from kd.models import as_model
from kd.teachers.trained import Trained
from kd.training import loop, writers

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=40).map(np.asarray)
HARD = (term("hard"),)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    tokenizer = small_text.write_vocabulary(folder)
    text = kd_data.Text(tokenizer=str(tokenizer), length=20, buckets=2)
    return kd_data.from_texts(*small_text.sentences(90), text=text)


@hypothesis.given(LENGTHS, st.integers(1, 5))
def test_the_buckets_pad_least_of_all(lengths, count):
    def padded(ends):
        return sum(min(end for end in ends if end >= n) for n in lengths.tolist())

    chosen = bucket_lengths(lengths, count)
    present = np.unique(lengths).tolist()
    others = itertools.combinations(present[:-1], min(count, len(present)) - 1)
    assert len(chosen) == min(count, len(present))
    assert padded(chosen) == min(padded((*some, present[-1])) for some in others)


@hypothesis.given(LENGTHS, st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**31 - 1))
def test_a_step_has_one_length_for_every_seed_and_rows_that_fit_it(lengths, count, size, seed):
    size = min(size, len(lengths))
    order = Buckets((seed, seed ^ 1), lengths, count, size)
    steps = kd_data.steps_per_epoch(len(lengths), size)
    for epoch in range(2):
        rows = np.stack([order.rows(epoch * steps + k) for k in range(steps)])
        for step, batch in enumerate(rows, epoch * steps):
            length = order.length(step)
            assert (lengths[batch] <= length).all()
            assert (
                lengths[batch].max(axis=1) > max([0, *(n for n in order.lengths if n < length)])
            ).all()
        for member in range(2):
            seen = rows[:, member].reshape(-1)
            assert len(set(seen.tolist())) == len(seen) == steps * size
            rest = np.setdiff1d(np.arange(len(lengths)), seen)
            ends = np.asarray(bucket_lengths(lengths, count))
            buckets = np.searchsorted(ends, lengths)
            assert buckets[rest].max(initial=0) <= buckets[seen].min()  # the shortest are left out
    again = Buckets((seed ^ 1,), lengths, count, size)
    assert [order.length(k) for k in range(2 * steps)] == [
        again.length(k) for k in range(2 * steps)
    ]
    np.testing.assert_array_equal(order.rows(steps)[1], again.rows(steps)[0])


def test_epochs_and_seeds_differ(data):
    order = data.order((0, 1), 8)
    steps = kd_data.steps_per_epoch(len(data), 8)
    assert len(order.lengths) == 2
    assert (order.rows(0)[0] != order.rows(0)[1]).any()
    epochs = [[order.length(e * steps + k) for k in range(steps)] for e in range(2)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])


def test_less_is_padding_the_more_buckets_there_are(data):
    waste = []
    for buckets in (1, 2, 4, 12):
        tokens = dataclasses.replace(data.tokens, buckets=buckets)
        waste.append(kd_data.padding_waste(dataclasses.replace(data, tokens=tokens), 8))
    assert waste == sorted(waste, reverse=True)
    assert waste[-1] < 0.1 < waste[0]


def task(data, **changes):
    usual = {"data": data, "teacher": None, "batch_size": 8, "steps": 14}
    return tiny.task(small_text.Reader(2), HARD, **{**usual, **changes})


class Padded(Buckets):
    """The same rows in the same order, every batch padded to the longest."""

    lengths = (None,)

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.lengths = (None,)

    def length(self, _):
        return None


def test_a_program_for_each_length_which_computes_what_padding_would(data, monkeypatch):
    """One compile a length, however long the run; and padding is no part of any number."""
    durations = []

    def listener(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            durations.append(duration)

    monitoring.register_event_duration_secs_listener(listener)
    compiled, ends = [], []
    loop.run(task(data, steps=3))  # it also compiles what the process had not needed before
    for steps in (14, 33):
        durations.clear()
        ends.append(loop.run(task(data, steps=steps), cadence=loop.Cadence(4)))
        compiled.append(len(durations))
    with monkeypatch.context() as patch:
        patch.setattr("kd.data.tokens.buckets.Buckets", Padded)
        durations.clear()
        padded = loop.run(task(data, steps=14), cadence=loop.Cadence(4))
    monitoring.unregister_event_duration_listener(listener)
    assert compiled[0] == compiled[1] == len(durations) + 1  # of two lengths
    tiny.close(ends[0].params, padded.params)
    assert tiny.differ(ends[0].params, ends[1].params)


def test_what_is_evaluated_is_so_whatever_its_padding(data):
    """By length or all as long, in the order of the data; of a population too."""
    padded = dataclasses.replace(data, tokens=dataclasses.replace(data.tokens, buckets=1))
    model = as_model(small_text.Reader(2))
    keys = jax.random.split(jax.random.key(0), 2)
    params, extra = jax.vmap(lambda key: model.init(key, jnp.asarray(data.first)))(keys)
    both = Trained(model, params, extra, members=True)
    for trained in (both, both.member(1)):
        answers = [trained.logits(examples) for examples in (data, padded)]
        np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-6)
    assert np.ptp(answers[0], axis=0).min() > 0


def test_a_member_is_a_run_of_its_own_and_a_stream_is_memory(data):
    members = tiny.members_of(HARD, seed=(3, 4), learning_rate=0.1)
    together = loop.run(task(data, members=members), cadence=loop.Cadence(5))
    alone = loop.run(task(data, members=tiny.members_of(HARD, seed=4)), cadence=loop.Cadence(3))
    tiny.close(tiny.take(together.params, 1), alone.params)
    assert tiny.differ(tiny.take(together.params, 0), alone.params)
    streamed = kd_data.as_stream(data)
    assert streamed.tokens == data.tokens
    other = loop.run(task(streamed, members=tiny.members_of(HARD, seed=4)))
    tiny.close(other.params, alone.params)
    with kd_data.batches(streamed, (0, 1), 8, stop=4, threads=0) as batches:
        order = streamed.order((0, 1), 8)
        for step, batch in enumerate(batches):
            assert batch["inputs"].shape == (2, 8, order.length(step), 2)


TEXT = {
    "data__source": "text:t.tsv",
    "data__train": "train[:80%]",
    "data__eval": "train[80%:]",
    "data__batch_size": 8,
    "data__text__tokenizer": "vocab.txt",
    "data__text__columns": "('sentence',)",
    "data__text__label": "label",
    "data__text__length": 20,
    "data__text__buckets": 2,
    "student": "{'name':'small_text:reader'}",
    "total_steps": 18,
    "eval_epochs": 1,
    "checkpoint_epochs": 1,
    "log_steps": 4,
}


def test_a_run_that_stopped_within_a_line_ends_with_the_same_bytes(tmp_path, monkeypatch):
    small_text.write_vocabulary(tmp_path)
    small_text.write_tsv(tmp_path)
    (tmp_path / "train.tsv").rename(tmp_path / "t.tsv")
    keys = {**TEXT, "data__data_dir": tmp_path}
    assert runs.train(tmp_path / "whole", **keys) == 0
    stopped = []
    for line in (4, 9):
        monkeypatch.setattr(writers, "jsonl", writers.jsonl)
        faulty.at_line(line, "SIGTERM")
        assert runs.train(tmp_path / "broken", **keys) == 128 + signal.SIGTERM
        monkeypatch.undo()
        stopped.append(int(runs.restored(tmp_path / "broken")["['step']"]))
    assert any(step not in (4, 8, 9, 12, 16) for step in stopped)  # lines end there
    assert runs.train(tmp_path / "broken", **keys) == 0
    runs.same_bytes(tmp_path / "broken", tmp_path / "whole")
    measured = json.loads((tmp_path / "whole" / "evaluation.json").read_text())["members"][0]
    assert {"accuracy", "f1", "matthews"} <= set(measured)
