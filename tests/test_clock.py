"""Laws of where a run's time goes: every second belongs to one activity, and none is lost."""

import json
import time

import hypothesis.strategies as st
import pytest
from hypothesis import given

import runs
from kd.training import timing
from kd.training.clock import ACTIVITIES, STEPS, WAIT, Clock, goodput


class Hands:
    """A clock's time, moved by hand."""

    def __init__(self):
        self.now = 7.0

    def __call__(self):
        return self.now


NESTED = st.recursive(
    st.lists(st.floats(0, 9), max_size=2),
    lambda inner: st.lists(st.floats(0, 9) | st.tuples(st.sampled_from(ACTIVITIES), inner)),
    max_leaves=12,
)


def spend(clock, hands, doing, parts, own):
    """Let time pass, in activities within activities, and note whose it is."""
    for part in parts:
        if isinstance(part, float):
            hands.now += part
            own[doing] += part
        else:
            activity, inner = part
            with clock.doing(activity):
                spend(clock, hands, activity, inner, own)


@given(NESTED)
def test_every_second_belongs_to_the_innermost_activity(parts):
    hands = Hands()
    clock, own = Clock(now=hands), dict.fromkeys(ACTIVITIES, 0.0)
    spend(clock, hands, "start", parts, own)
    assert clock.seconds == pytest.approx(own)
    assert sum(clock.seconds.values()) == pytest.approx(hands.now - 7.0)
    assert 0 <= goodput(clock.seconds) <= 1


class Work:
    def __init__(self, ready):
        self.ready = ready

    def is_ready(self):
        return self.ready


@pytest.mark.parametrize("ready", [False, True])
def test_the_device_waits_only_when_it_has_nothing_left_to_do(ready):
    hands = Hands()
    clock = Clock(now=hands)
    with clock.doing(STEPS):
        hands.now += 1
        with clock.waiting([Work(True), Work(ready)]):
            hands.now += 2
    assert clock.seconds[WAIT] == (2 if ready else 0)
    assert clock.seconds[STEPS] == (1 if ready else 3)


STARTS = st.lists(
    st.tuples(st.integers(0, 9), st.lists(st.integers(1, 5), min_size=1, max_size=4)), min_size=1
)


@given(STARTS)
def test_steps_that_were_taken_again_are_no_good_and_no_second_is_lost(starts):
    """Of a start, the steps that the next one began without: a step takes a second here."""
    lines, kept, total = [], 0, 0
    for number, (begin, lengths) in enumerate(starts):
        seconds, step = 0, begin
        for length in lengths:
            step, seconds = step + length, seconds + length
            spent = {STEPS: seconds, "save": 1}
            lines.append({"began": number, "from": begin, "step": step, "seconds": spent})
        total += seconds + 1
        following = starts[number + 1][0] if number + 1 < len(starts) else step
        ends = [line["step"] for line in lines if line["began"] == number]
        kept += max([end - begin for end in ends if end <= following], default=0)
    count, seconds = timing.whole(lines)
    assert count == len(starts)
    assert sum(seconds.values()) == total
    assert seconds[STEPS] == kept
    assert seconds[STEPS] + seconds[timing.REPEATED] == total - len(starts)


def test_what_is_damaged_is_left_out(tmp_path):
    path = tmp_path / "timing.jsonl"
    assert timing.read(path) == []
    whole = {"began": 1.0, "from": 0, "step": 2, "seconds": {STEPS: 1.0}}
    odd = [{**whole, "seconds": None}, {**whole, "step": "2"}, [], {"step": 1}]
    texts = ['{"began": 1', *map(json.dumps, [whole, *odd])]
    path.write_text("\n".join(texts))
    assert timing.read(path) == [whole]


def test_a_run_says_where_its_time_went(tmp_path, capfd):
    begun = time.perf_counter()
    assert runs.train(tmp_path / "run", eval_epochs=1, checkpoint_epochs=1) == 0
    wall = time.perf_counter() - begun
    said = capfd.readouterr().err
    lines = timing.read(tmp_path / "run" / "timing.jsonl")
    assert [line["step"] for line in lines] == [2, 3, 4, 6, 6]  # and once more at the end
    for line in lines[:-1]:
        assert line["examples_per_second"] * line["step_seconds"] == pytest.approx(40)
        assert 0 <= line["input_wait"] <= 1
        assert line["memory_bytes"] > 2**20
        assert "mfu" not in line
    assert said.count("no MFU: the peak of a device 'cpu' is not known") == 1
    starts, seconds = timing.whole(lines)
    assert starts == 1
    assert 0 < sum(seconds.values()) < wall
    assert all(seconds[name] > 0 for name in ("start", "compile", "evaluate", "save", STEPS))
    assert f"train: {timing.words(starts, seconds)}\n" in said
    assert runs.train(tmp_path / "run", eval_epochs=1, checkpoint_epochs=1) == 0
    assert "goodput" not in capfd.readouterr().err  # it took no step


def test_a_full_disk_for_timing_is_said_once_and_stops_nothing(tmp_path, capfd):
    (tmp_path / "run" / "timing.jsonl").mkdir(parents=True)
    assert runs.train(tmp_path / "run", checkpoint_epochs=1) == 0
    assert capfd.readouterr().err.count("the run goes on without it") == 1
    runs.same_bytes(tmp_path / "run", runs.finished())
