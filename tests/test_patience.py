"""Laws of patience and of the metric that is watched: a run ends where it would have ended,
whatever interrupts it and whoever trains beside it.
"""

import dataclasses
import json

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
import tiny
from kd import evals
from kd.core.patience import has_run_out, still_counts
from kd.core.state import State, keep_best, with_best
from kd.runs.load import load_trained

EVERY = 3
WATCHED = {
    "total_steps": 60,
    "checkpoint_epochs": 2,
    "eval_epochs": 1,
    "optim__learning_rate": 0.5,
    "early_stopping": "train[120:180]",
    "patience": 2,
}


def state(step):
    return State(jnp.full(2, step), {"w": jnp.full(2, float(step))}, {}, (), jnp.zeros(2))


def alone(errors, patience):
    """The look at which one run's best state is, and the one at which it ends."""
    best, kept = None, 0
    for look, value in enumerate(errors, 1):
        if best is None or value < best:
            best, kept = value, look
        if look - kept >= patience:
            return kept, look
    return kept, len(errors)


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8),
    st.integers(1, 3),
)
def test_each_member_keeps_what_it_would_have_kept_alone(errors, patience):
    kept, last = with_best(state(0)).best, 0
    for look, counts in enumerate(errors, 1):
        now = dataclasses.replace(state(look * EVERY), best=kept)
        open_ = still_counts(now.step, kept.step, EVERY, patience)
        kept, last = keep_best(now, jnp.array(counts, jnp.float32), open_).best, look
        if np.all(has_run_out(np.asarray(now.step), np.asarray(kept.step), EVERY, patience)):
            break
    told = [alone([counts[member] for counts in errors], patience) for member in range(2)]
    assert (kept.step // EVERY).tolist() == [best for best, _ in told]
    assert last == max(end for _, end in told)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("patience") / "run"
    assert runs.train(workdir, arg="population", teacher__workdir=runs.finished(), **WATCHED) == 0
    return workdir


def test_it_ends_when_the_last_member_has_run_out(stopped):
    told = json.loads((stopped / "evaluation.json").read_text())
    assert told["step"] < WATCHED["total_steps"]
    assert told["step"] == max(told["best_step"]) + WATCHED["patience"] * EVERY
    assert len(set(told["best_step"])) == 2  # or the law would be about one member


def test_stopped_and_started_again_it_ends_at_the_same_step(stopped, tmp_path):
    broken = tmp_path / "run"
    for fault in ("SIGTERM:8", "commit:12", "none:", "none:"):
        keys = {"teacher__workdir": runs.finished(), "mesh__devices": 1, **WATCHED}
        arguments = runs.kd("train", f"--workdir={broken}", arg="population", **keys)
        runs.python("tests/faulty.py", fault, *arguments)
    runs.same_bytes(broken, stopped)


def test_a_member_is_a_run_of_its_own(stopped, tmp_path):
    together, told = load_trained(stopped), json.loads((stopped / "evaluation.json").read_text())
    for member, rate in enumerate((0.1, 0.05)):
        keys = {
            "teacher__workdir": runs.finished(),
            "student__hidden_dropout": 0.5,
            "data__jitter_pixels": 1,
            "teacher__precompute": False,
            **WATCHED,
            "seed": member,
            "optim__learning_rate": rate,
        }
        assert runs.train(tmp_path / str(member), arg="distilled", **keys) == 0
        alone = load_trained(tmp_path / str(member))
        own = json.loads((tmp_path / str(member) / "evaluation.json").read_text())
        assert own["best_step"] == told["best_step"][member]
        tiny.close(tiny.take(together.params, member), alone.params)


def test_a_finished_run_is_read_and_not_trained_on(stopped, capfd):
    before = (stopped / "metrics.jsonl").read_bytes()
    assert runs.train(stopped, arg="population", teacher__workdir=runs.finished(), **WATCHED) == 0
    assert (stopped / "metrics.jsonl").read_bytes() == before
    assert "looks after the best one" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"patience": 3}, "config.patience=3 changes nothing: it is about config.early_stopping"),
        ({"watch": "nll"}, "config.watch=nll changes nothing"),
        ({"patience": 0, "early_stopping": "train[120:180]"}, "config.patience must be 1 or more"),
        ({"watch": "errrors", "early_stopping": "train[120:180]"}, "did you mean 'errors'"),
        ({"watch": "rmse", "early_stopping": "train[120:180]"}, "unknown metric of classes labels"),
    ],
)
def test_what_cannot_be_watched_is_refused(keys, message, tmp_path, capfd):
    assert runs.train(tmp_path / "run", eval_epochs=1, **keys) == 2
    assert message in capfd.readouterr().err


def test_who_a_run_is_says_what_it_watches(tmp_path):
    prints = set()
    for number, keys in enumerate(({}, {"watch": "nll"}, {"patience": 9})):
        workdir = tmp_path / str(number)
        keys = {"eval_epochs": 1, "early_stopping": "train[120:180]", **keys}
        assert runs.train(workdir, **keys) == 0
        prints.add(json.loads((workdir / "run.json").read_text())["fingerprint"])
    assert len(prints) == 3


# --- in the library ---


def fitted(validation, **options):
    terms = [kd.term("hard")]
    options = {"batch_size": 16, "learning_rate": 0.5, **options}
    return kd.fit(tiny.PLAIN, tiny.dataset(64), terms, validation=validation, **options)


def test_the_library_stops_too(monkeypatch):
    looks = []
    badness = kd.Trained.badness

    def look(self, data, metric):
        looks.append(badness(self, data, metric))
        return looks[-1]

    monkeypatch.setattr(kd.Trained, "badness", look)
    validation = tiny.dataset(40, seed=9)
    trained = fitted(validation, epochs=60, patience=2, watch="nll")
    values = np.array(looks)
    best, end = alone(values, 2)
    assert len(values) == end < 60
    assert evals.nll(trained.logits(validation), validation.labels) == pytest.approx(
        float(values[best - 1])
    )


def test_of_what_is_better_the_more_the_most_is_kept():
    """The most accurate state is the one with the fewest errors."""
    data = tiny.dataset(64)
    most, fewest = fitted(data, epochs=6, watch="accuracy"), fitted(data, epochs=6)
    tiny.close(most.params, fewest.params, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "patience must be a whole number of 1 or more"),
        ({"watch": "rmse"}, "unknown metric of classes labels"),
        ({"patience": 2, "validation": None}, "patience=2 changes nothing without validation"),
    ],
)
def test_the_library_refuses_in_a_line(options, message):
    options = {"validation": tiny.dataset(64), **options}
    with pytest.raises(kd.KdError, match=message):
        fitted(epochs=1, **options)
