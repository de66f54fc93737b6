"""A teacher's answers that were kept on disk are those that it would give, or it is asked again."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import runs
import tiny
from kd.core.types import Teacher
from kd.system import kept
from kd.teachers import remembered
from kd.teachers.make import ensemble
from kd.teachers.trained import Trained, precompute

POPULATION = Trained(tiny.WIDE, tiny.members(), {}, members=True, fingerprint="t")
TEACHERS = {
    "one": tiny.teacher(),
    "an ensemble": POPULATION.teacher("geometric"),
    "paired": POPULATION.teacher(pairs=(2, 0)),
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept" / "answers"


@pytest.fixture
def asked(monkeypatch):
    """Notes every time that a teacher is asked."""
    calls, answers = [], remembered.answers

    def noting(teacher, data, **options):
        calls.append(teacher)
        return answers(teacher, data, **options)

    monkeypatch.setattr(remembered, "answers", noting)
    return calls


def kept_answers(teacher=TEACHERS["one"], data=None):
    return precompute(teacher, tiny.dataset() if data is None else data, on_disk=True)


@pytest.mark.parametrize("name", TEACHERS)
def test_the_second_time_is_the_first_and_nobody_is_asked(name, asked):
    teacher, live = TEACHERS[name], precompute(TEACHERS[name], tiny.dataset())
    first, second = kept_answers(teacher), kept_answers(teacher)
    assert len(asked) == 1
    for answers in (first, second):
        tiny.close(answers.variables, live.variables, rtol=0, atol=0)
        assert answers.manifest == live.manifest
        assert (answers.pairs, answers.fingerprint) == (live.pairs, live.fingerprint)


def test_an_averaging_rule_is_the_callers():
    """Members are kept apart: what is on disk fits either rule, and each is answered by its own."""
    rules = [kept_answers(ensemble(tiny.WIDE, tiny.members(), average=rule)) for rule in RULES]
    assert [teacher.variables.average for teacher in rules] == list(RULES)


RULES = ("arithmetic", "geometric", "per_member")


def other_code():
    teacher = TEACHERS["one"]

    def apply(variables, batch):
        answer = teacher.apply(variables, batch)
        return dataclasses.replace(answer, logits=2 * answer.logits)

    return Teacher(teacher.variables, apply, teacher.fingerprint)


def other_weights():
    teacher = TEACHERS["one"]
    params = jax.tree.map(lambda leaf: jnp.nextafter(leaf, jnp.inf), teacher.variables["params"])
    return dataclasses.replace(teacher, variables={**teacher.variables, "params": params})


@pytest.mark.parametrize(
    "other",
    [
        {"teacher": other_code()},
        {"teacher": other_weights()},
        {"teacher": tiny.teacher(1)},
        {"teacher": dataclasses.replace(TEACHERS["one"], fingerprint="another")},
        {"data": tiny.dataset(seed=1)},
        {"data": tiny.dataset().scaled(0.5)},
        {"data": tiny.dataset(n=60)},
    ],
    ids=["code", "weights", "member", "fingerprint", "data", "scale", "fewer"],
)
def test_anybody_else_is_asked(other, asked):
    kept_answers()
    answers = kept_answers(**other)
    assert len(asked) == 2
    live = precompute(other.get("teacher", TEACHERS["one"]), other.get("data", tiny.dataset()))
    tiny.close(answers.variables, live.variables, rtol=0, atol=0)


@pytest.mark.parametrize("field", ["machine", "flags"])
def test_another_version_or_processor_is_asked(field, asked, monkeypatch):
    kept_answers()
    if field == "flags":
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    else:
        told = remembered.machine()
        newer = {**told, "versions": {**told["versions"], "jax": "99"}}
        monkeypatch.setattr(remembered, "machine", lambda: newer)
    kept_answers()
    assert len(asked) == 2


def test_a_damaged_entry_is_thrown_away(place, asked):
    first = kept_answers()
    (entry,) = place.iterdir()
    content = bytearray((entry / "leaf-0.npy").read_bytes())
    content[-1] ^= 1
    (entry / "leaf-0.npy").write_bytes(content)
    again = kept_answers()
    assert len(asked) == 2
    tiny.close(again.variables, first.variables, rtol=0, atol=0)
    kept_answers()
    assert len(asked) == 2


def test_several_processes_ask(place, asked, monkeypatch):
    monkeypatch.setattr(remembered.group, "count", lambda: 2)
    kept_answers()
    assert len(asked) == 1
    assert not place.exists()


def test_a_run_from_what_is_kept_has_the_same_bytes(tmp_path, monkeypatch, place):
    keys = {"teacher__workdir": runs.finished(), "total_steps": 4}
    for name in ("first", "second"):
        assert runs.train(tmp_path / name, arg="distilled", **keys) == 0
        assert len(list(place.iterdir())) == 1
    monkeypatch.setenv("KD_CACHE_DIR", "off")
    assert kept.folder("answers") is None
    assert runs.train(tmp_path / "asked", arg="distilled", **keys) == 0
    for name in ("second", "asked"):
        runs.same_bytes(tmp_path / name, tmp_path / "first")
