"""A short form of each family, and the page of the long one: ``python -m tests.fuzz --record``."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

import runs
from fuzz import bases, page, pool
from fuzz.__main__ import CASES
from fuzz.oracle import WRONG, Case, Outcome, disagreements, judged

SHORT = 40  # cases of each family
SEED = 1  # the long form has another


@pytest.fixture(scope="module")
def runs_there():
    with bases.made() as made:
        yield made


@pytest.mark.parametrize("family", CASES)
def test_no_traceback_no_hang_no_silent_wrong(family, runs_there):
    paths, recorded = runs_there
    tasks = [(family, number) for number in range(SHORT)]
    outcomes = disagreements(pool.run(tasks, SEED, paths), recorded)
    assert [outcome for outcome in outcomes if outcome.kind in WRONG] == []
    assert {outcome.kind for outcome in outcomes} == {"ok", "refused"}  # it tries both


@pytest.mark.parametrize("family", CASES)
def test_a_case_is_a_function_of_seed_and_number(family):
    paths = {name: f"/nowhere/{name}" for name in bases.NAMES}
    words = [[pool.case_of(family, SEED, n, paths).words for n in range(20)] for _ in range(2)]
    assert words[0] == words[1]
    assert len(set(words[0])) > 10


def _says(text, code):
    def call():
        import sys

        print(text, file=sys.stderr)
        return code

    return call


def _fails():
    raise ValueError("of ours")


@pytest.mark.parametrize(
    ("call", "wrongs", "kind"),
    [
        (_says("train: step 3", 0), [], "ok"),
        (_says("train: step 3\nkd: no; do that", 2), [], "refused"),
        (_says("", 2), [], "traceback"),
        (_says("kd: no\nkd: no", 2), [], "traceback"),
        (_says("kd: " + "x" * 3000, 2), [], "traceback"),
        (_says("kd: no", 1), [], "traceback"),
        (_says("", 0), ["parameters that never moved"], "silent wrong"),
        (_fails, [], "traceback"),
    ],
)
def test_each_outcome_has_its_kind(call, wrongs, kind, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert judged("commands", 1, Case("words", call, lambda *_: wrongs)).kind == kind


def test_what_cannot_be_read_afterwards_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    case = Case("words", lambda: 0, lambda *_: json.loads("{"))
    assert judged("commands", 1, case).kind == "silent wrong"


def test_another_evaluation_under_one_fingerprint_is_wrong():
    first = Outcome("commands", 1, "words", "ok", results={"a": [[40, 1.5]]})
    same = dataclasses.replace(first, number=2, results={"a": [[40, 1.5001]]})
    other = dataclasses.replace(first, number=3, results={"a": [[104, 3.0]], "b": [[1, 1.0]]})
    kinds = [outcome.kind for outcome in disagreements([first, same, other], {})]
    assert kinds == ["ok", "ok", "silent wrong"]
    assert disagreements([first], {"a": [[54, 0.5]]})[0].kind == "silent wrong"


def test_a_run_that_learnt_nothing_is_wrong(runs_there, tmp_path):
    """Of a whole run nothing is wrong; each fault in it is named."""
    import shutil

    from fuzz.oracle import trained

    paths, _ = runs_there
    run = pathlib.Path(shutil.copytree(paths["hard"], tmp_path / "run"))
    assert trained(run, learns=True) == []
    evaluation = json.loads((run / "evaluation.json").read_text())
    member = evaluation["members"][0]
    count = round(member["errors"] / (1 - member["accuracy"]))
    for changes, wrong in [
        ({"nll": float("nan")}, "not finite"),
        ({"accuracy": 0.01, "errors": count * 0.99}, "below chance"),
    ]:
        runs.edit(run / "evaluation.json", members=[{**member, **changes}])
        assert any(wrong in words for words in trained(run, learns=True)), wrong


def test_the_page_holds_what_was_recorded():
    results = json.loads(page.RESULTS.read_text("utf-8"))
    assert page.markdown(results) in page.PAGE.read_text("utf-8")
    assert {row["family"]: page.tried(row) for row in results["rows"]} == CASES
    assert all(row[kind] == 0 for row in results["rows"] for kind in WRONG)
    assert np.all([row["ok"] and row["refused"] for row in results["rows"]])
