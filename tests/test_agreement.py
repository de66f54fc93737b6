"""All processes stop at the same dispatch, whoever got the signal, and few words are said."""

import concurrent.futures
import threading

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from kd.processes import group
from kd.processes.agreement import MOST, PERIOD, Agreement, next_word
from kd.processes.launcher import Place
from kd.processes.peers import Peers

SECONDS = st.floats(0, 100)


class Store:
    """The coordinator's, in memory, for processes that are threads."""

    def __init__(self):
        self.values, self.changed, self.said = {}, threading.Condition(), 0

    def key_value_set(self, key, value, allow_overwrite):  # noqa: ARG002
        with self.changed:
            self.values[key], self.said = value, self.said + 1
            self.changed.notify_all()

    def blocking_key_value_get(self, key, milliseconds):
        with self.changed:
            assert self.changed.wait_for(lambda: key in self.values, milliseconds / 1e3), key
            return self.values[key]

    def key_value_dir_get(self, key):
        with self.changed:
            return [item for item in self.values.items() if item[0].startswith(f"{key}/")]

    def key_value_delete(self, key):
        with self.changed:
            for name in [name for name in self.values if name.startswith(f"{key}/")]:
                del self.values[name]


def decided(count, who, at, dispatches):
    """What each process decides at every dispatch, where one has got signal 15 at one of them."""
    store, here, together = Store(), threading.local(), threading.Barrier(count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group, "peers", lambda: Peers(Place("", count, here.index), store, None))

        def run(index):
            here.index = index
            agreement, decisions = Agreement(), []
            for step in range(dispatches + 1):
                together.wait(20)  # as a step's collectives have it
                received = 15 if index == who and step >= at else None
                decisions.append(agreement.agreed(step, received, at_once=step == dispatches))
                if decisions[-1]:
                    break
            return decisions

        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(run, range(count))), store


@settings(max_examples=12)
@given(st.integers(2, 4), st.data())
def test_all_stop_at_the_same_dispatch(count, data):
    who, dispatches = data.draw(st.integers(0, count - 1)), data.draw(st.integers(1, 80))
    at = data.draw(st.integers(0, dispatches))
    decisions, _ = decided(count, who, at, dispatches)
    assert all(decision == decisions[0] for decision in decisions)
    stopped = len(decisions[0]) - 1
    if who == 0:
        assert decisions[0][-1] == 15
        assert at <= stopped <= at + MOST
    assert set(decisions[0][:-1]) <= {None}
    assert decisions[0][-1] in (15, None)


def test_words_are_few_and_removed():
    _, store = decided(3, None, 0, 1000)
    assert store.said < 1000 / 8
    assert len(store.values) < 64


@given(st.integers(1, MOST), SECONDS)
def test_the_next_word_comes_within_the_period_or_at_the_next_dispatch(dispatches, seconds):
    ahead = next_word(dispatches, seconds)
    assert 1 <= ahead <= min(MOST, 2 * dispatches)
    assert ahead == 1 or ahead * seconds / dispatches <= PERIOD * (1 + 1e-9)


@given(st.integers(1, MOST), SECONDS, SECONDS)
def test_slower_dispatches_have_more_words(dispatches, seconds, more):
    assert next_word(dispatches, seconds + more) <= next_word(dispatches, seconds)
