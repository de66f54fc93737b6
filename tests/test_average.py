"""Laws of the moving average of the parameters: weights that sum to 1, and nothing of the start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kd
import runs
import tiny
from kd.core.step import moved_average


def averaged(values, decay, start=1e6):
    average = jnp.float32(start)
    for count, value in enumerate(values, 1):
        average = moved_average(average, jnp.float32(value), decay, jnp.int32(count))
    return float(average)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20), st.floats(0.01, 0.9999))
def test_it_is_the_weighted_mean_of_what_it_has_seen(values, decay):
    weights = decay ** np.arange(len(values))[::-1]
    wanted = np.average(values, weights=weights)
    assert averaged(values, decay, start=0.0) == pytest.approx(wanted, rel=1e-3, abs=1e-3)


@given(st.floats(0.5, 0.9999), st.integers(1, 30))
def test_what_stands_still_is_its_own_average_whatever_it_started_from(decay, steps):
    assert averaged([2.0] * steps, decay, start=-5.0) == pytest.approx(2.0, rel=1e-4)


def test_a_short_run_at_a_long_decay_has_left_its_random_start():
    """0.999 after 8 steps: the average is near the mean of the steps, not near the start."""
    data, settings = tiny.dataset(), {"epochs": 2, "batch_size": 16, "learning_rate": 0.5}
    fitted = [
        kd.fit(tiny.PLAIN, data, [kd.term("hard")], ema=ema, **settings) for ema in (0, 0.999)
    ]
    start = tiny.PLAIN.init(jax.random.key(0), jnp.zeros((1, 4, 4)))[0]

    def apart(first, other):
        pairs = zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True)
        return float(sum(jnp.sum((a - b) ** 2) for a, b in pairs)) ** 0.5

    way = apart(fitted[0].params, start)
    assert apart(fitted[1].params, fitted[0].params) < 0.8 * way
    assert apart(fitted[1].params, start) > 0.2 * way


def test_stopped_and_started_again_it_is_the_same(tmp_path):
    keys = {"ema": 0.9, "checkpoint_epochs": 1}
    assert runs.train(tmp_path / "whole", **keys) == 0
    broken = tmp_path / "broken"
    for fault in ("SIGTERM:3", "none:"):
        command = runs.kd("train", f"--workdir={broken}", **keys)
        runs.python("tests/faulty.py", fault, *command)
    runs.same_bytes(broken, tmp_path / "whole")
