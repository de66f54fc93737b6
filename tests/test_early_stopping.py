"""Laws of early stopping: what is kept is the state with the fewest validation errors, whatever
interrupts the run.
"""

import dataclasses
import json
import re

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
import tiny
from kd.config import load_config, resolve
from kd.core.state import State, keep_best, with_best
from kd.runs.load import load_trained
from kd.runs.splits import load_splits
from kd.runs.workdir import find
from kd.training import loop

CADENCE = {"total_steps": 18, "checkpoint_epochs": 2, "eval_epochs": 1, "optim__learning_rate": 0.5}
WATCHED = {**CADENCE, "early_stopping": "train[120:180]"}


def state(value, step):
    """A population of two whose parameters are `value` and 10 `value`."""
    values = jnp.array([value, 10.0 * value])
    return State(jnp.full(2, step), {"w": values}, {}, (), jnp.zeros(2))


@hypothesis.given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6))
def test_each_member_keeps_its_first_fewest_errors(errors):
    kept = with_best(state(0.0, 0)).best
    for step, counts in enumerate(errors, 1):
        now = dataclasses.replace(state(float(step), step), best=kept)
        kept = keep_best(now, jnp.array(counts, jnp.float32)).best
    first = [int(np.argmin([counts[member] for counts in errors])) + 1 for member in range(2)]
    assert kept.step.tolist() == first
    assert kept.params["w"].tolist() == [first[0], 10 * first[1]]
    assert kept.errors.tolist() == [min(counts[member] for counts in errors) for member in range(2)]


@pytest.fixture(scope="module")
def watched():
    workdir = runs.shared() / "run"
    assert runs.train(workdir, arg="population", teacher__workdir=runs.finished(), **WATCHED) == 0
    return workdir


def test_the_result_is_the_run_that_ended_there(watched, tmp_path):
    """The kept parameters are those of an unwatched run of the same shape, seen at that step."""
    kept = load_trained(watched)
    best = json.loads((watched / "evaluation.json").read_text())["best_step"]
    for member, step in enumerate(best):
        other = tmp_path / f"run{member}"
        keys = {"teacher__workdir": runs.finished(), **CADENCE, "total_steps": step}
        assert runs.train(other, arg="population", **keys) == 0
        tiny.close(tiny.take(kept.params, member), tiny.take(load_trained(other).params, member))


def test_it_is_the_best_of_all_that_were_seen(watched):
    last = runs.restored(watched)
    errors = last["['best']['errors']"]
    assert find(watched).spec.early_stopping == "train[120:180]"
    assert (errors < 60).all()
    assert (last["['best']['step']"] % 3 == 0).all()


def test_stopped_and_started_again_it_keeps_the_same(watched, tmp_path):
    broken = tmp_path / "run"
    for fault in ("SIGTERM:8", "commit:12", "none:"):
        keys = {"teacher__workdir": runs.finished(), "mesh__devices": 1, **WATCHED}
        runs.python(
            "tests/faulty.py",
            fault,
            *runs.kd("train", f"--workdir={broken}", arg="population", **keys),
        )
    runs.same_bytes(broken, watched)


def test_before_it_has_looked_the_result_is_what_there_is(tmp_path):
    """And not the zeros that stand where nothing was kept yet."""
    keys = {"teacher__workdir": runs.finished(), **WATCHED, "eval_epochs": 6, "mesh__devices": 1}
    command = runs.kd("train", f"--workdir={tmp_path / 'run'}", arg="population", **keys)
    runs.python("tests/faulty.py", "SIGTERM:8", *command)
    now, last = load_trained(tmp_path / "run"), runs.restored(tmp_path / "run")
    assert not np.isfinite(last["['best']['errors']"]).any()
    np.testing.assert_array_equal(
        now.params["Dense_0"]["kernel"], last["['params']['Dense_0']['kernel']"]
    )
    assert np.abs(now.params["Dense_0"]["kernel"]).max() > 0


def test_what_cannot_be_watched_is_refused(tmp_path, capfd):
    assert runs.train(tmp_path / "a", early_stopping="train[120:180]") == 2
    assert (
        "config.early_stopping looks at a validation split every config.eval_epochs"
        in capfd.readouterr().err
    )
    assert runs.train(tmp_path / "b", early_stopping="validation", eval_epochs=1) == 2
    assert "unknown split of digits" in capfd.readouterr().err


def test_the_library_returns_the_best_state(monkeypatch):
    data, validation = tiny.dataset(64), tiny.dataset(40, seed=9)
    members = kd.product(seed=range(2), learning_rate=(0.5,))
    fitted = kd.fit(
        tiny.PLAIN,
        data,
        [kd.term("hard")],
        population=members,
        epochs=6,
        batch_size=16,
        validation=validation,
    )
    seen = []
    monkeypatch.setattr(loop, "_keep_best", lambda state, errors, *_: seen.append(errors) or state)
    kd.fit(
        tiny.PLAIN,
        data,
        [kd.term("hard")],
        population=members,
        epochs=6,
        batch_size=16,
        validation=validation,
    )
    assert len(seen) == 6
    assert fitted.errors(validation).tolist() == np.min(seen, axis=0).tolist()


# of 597 digits to test and 1,200 to train on, of which 120 are trained on: what to stop by, what to
# measure on, whether they meet
OVERLAPS = {
    "test": ("test", "test[100:200]", True),
    "test[:50%]": ("test[:50%]", "test[298:]", False),
    "test[:60%]": ("test[:60%]", "test[298:]", True),
    "test[0:60]": ("test[0:60]", "test[:60]", True),
    "test[60:]": ("test[60:]", "test[:60]", False),
    "train[200:]": ("train[200:]", "test[:60]", False),
    "train[90%:]": ("train[90%:]", "train[80%:]", True),
    "train[80%:]": ("train[80%:]", "train[80%:]", True),
    "train[80%:90%]": ("train[80%:90%]", "train[90%:]", False),
}


@pytest.mark.parametrize("case", OVERLAPS)
def test_no_example_both_chooses_and_judges_however_it_is_spelled(case):
    stops, judges, meet = OVERLAPS[case]
    overrides = [f"early_stopping={stops}", f"data.eval={judges}", "eval_epochs=1"]
    spec = resolve(load_config(runs.__file__, "", overrides))
    if not meet:
        load_splits(spec)
        return
    with pytest.raises(
        kd.KdError, match=rf"examples that it is measured on, .*{re.escape(judges)}"
    ):
        load_splits(spec)


@pytest.mark.parametrize("stops", ["train", "train[:60]", "train[119:300]", "train[5%:]"])
def test_no_example_is_both_learnt_and_chosen_by(stops):
    spec = resolve(load_config(runs.__file__, "", [f"early_stopping={stops}", "eval_epochs=1"]))
    with pytest.raises(kd.KdError, match=r"examples that it is trained on, .*train\[:120\]"):
        load_splits(spec)
