"""The MNIST experiment, every stage of it on the digits: what its results say is what its work
directories hold.
"""

import copy
import itertools
import json
import math
import shutil

import numpy as np
import pytest

import faulty
import runs
from experiments.hinton2015.mnist import claims
from experiments.hinton2015.mnist.protocol import Protocol, make_stages
from experiments.hinton2015.mnist.rows import ROWS, band_text, main_table, missed, within
from kd import evals
from kd.cli.main import main
from kd.config import build, load_config
from kd.data import load
from kd.errors import KdError
from kd.pages.report import build_page
from kd.processes.signals import Interrupted
from kd.runs import stages
from kd.runs.load import load_trained
from kd.runs.splits import load_splits
from kd.runs.workdir import find
from kd.training import writers

CONFIG = runs.ROOT / "configs" / "hinton2015_mnist.py"
SEEDS, TEACHERS = 2, 3


def reproduce(folder):
    return main(["reproduce", "hinton2015-mnist", f"--config={CONFIG}:tiny", f"--workdir={folder}"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The experiment, run once: nobody may change it."""
    folder = tmp_path_factory.mktemp("mnist") / "whole"
    assert reproduce(folder) == 0
    return folder


def read(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture
def results(whole):
    return read(whole)


def protocol(*overrides):
    return build(Protocol, load_config(CONFIG, "tiny", overrides), "config")


# --- what the results say ---


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_every_row_has_a_value_for_each_of_its_seeds(row, results):
    values = row.values(results)
    assert len(values) == {"teachers": TEACHERS, "ensemble": 1}.get(row.key, SEEDS)
    assert all(math.isfinite(value) and value >= 0 for value in values)


def test_the_sweep_has_every_cell_and_every_seed(results):
    cells = {(row["width"], row["temperature"]): row["errors"] for row in results["sweep"]}
    assert len(cells) == len(results["sweep"])
    assert set(cells) == {(8, t) for t in results["protocol"]["temperatures"]}
    assert {len(errors) for errors in cells.values()} == {results["protocol"]["sweep_seeds"][0]}


def test_the_sweeps_cells_are_the_members_of_their_temperature(whole, results):
    stage = find(whole / "stages" / "width-8")
    members = stage.read("evaluation.json")["members"]
    column = stage.spec.population["soft_targets"]["temperature"]
    for row in results["sweep"]:
        mine = [
            m["errors"] for m, t in zip(members, column, strict=True) if t == row["temperature"]
        ]
        assert row["errors"] == mine


SECTIONS = pytest.mark.parametrize("section", ["omitted", "only"])


@SECTIONS
def test_a_matched_offset_makes_the_classes_as_frequent_as_they_are(section, whole, results):
    train, recorded = load("digits", "train"), results[section]
    logits = load_trained(find(whole / "stages" / section).path).each(train)
    frequency = np.isin(train.labels, recorded["moved"]).sum()
    for member, answers in zip(recorded["members"], logits, strict=True):
        shifted = evals.shift(answers, recorded["moved"], member["frequency"]["offset"])
        assert np.isin(shifted.argmax(axis=-1), recorded["moved"]).sum() == frequency
        as_trained = np.isin(answers.argmax(axis=-1), recorded["moved"]).sum()
        assert np.sign(member["frequency"]["offset"]) == np.sign(frequency - as_trained)


@SECTIONS
def test_no_offset_is_better_than_the_best(section, results):
    for member in results[section]["members"]:
        tried = [
            *member["curve"]["errors"],
            member["as trained"]["errors"],
            member["frequency"]["errors"],
        ]
        assert member["best"]["errors"] <= min(tried)
        assert (
            member["as trained"]["errors"]
            == member["curve"]["errors"][results[section]["offsets"].index(0.0)]
        )


@SECTIONS
def test_a_student_never_saw_the_classes_that_were_left_out(section, whole, results):
    stage = find(whole / "stages" / section)
    seen, _, _ = load_splits(stage.spec)
    assert set(seen.labels.tolist()) == set(results[section]["kept"])
    assert set(range(10)) - set(seen.labels.tolist()) == (
        {3} if section == "omitted" else set(range(10)) - {7, 8}
    )
    assert stage.owner["identity"]["data_fingerprint"] == seen.fingerprint


def test_student_i_learned_from_teacher_i(whole):
    teachers = find(whole / "stages" / "teachers")
    for name in ("distilled", "omitted", "only", "small-soft", "hypothesis-faster", "width-8"):
        population = find(whole / "stages" / name).spec.population
        assert population["teacher"] == population["seed"]  # the seeds are 0, 1, ...
        assert (
            find(whole / "stages" / name).owner["identity"]["teacher"]["workdir"]
            == teachers.fingerprint
        )
    for average in ("arithmetic", "geometric"):
        spec = find(whole / "stages" / f"ensemble-{average}").spec
        assert "teacher" not in spec.population
        assert spec.teacher.average == average


def test_the_limit_falls(results):
    limit = results["limit"]
    high = [
        error for t, error in zip(limit["temperatures"], limit["errors"], strict=True) if t >= 10
    ]
    assert all(after < before for before, after in itertools.pairwise(high))
    assert high[-1] < 0.03 * high[0]


def test_early_stopping_tells_the_step_of_each_student(results):
    assert len(results["small"]["hard"]["best_step"]) == SEEDS
    assert results["small"]["soft"]["best_step"] is results["small"]["full"]["best_step"] is None
    assert [results["small"][name]["examples"] for name in ("hard", "soft", "full")] == [
        120,
        120,
        1200,
    ]


# --- again, and broken off ---


def test_a_report_of_the_folder_is_the_page_that_was_written(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "again", ignore=shutil.ignore_patterns("stages"))
    before = runs.hashes(tmp_path / "again")
    (tmp_path / "again" / "README.md").unlink()
    assert main(["report", str(tmp_path / "again")]) == 0
    assert runs.hashes(tmp_path / "again") == before


def test_a_second_start_skips_every_stage_and_says_the_same(whole, capfd):
    before, count = runs.hashes(whole), len(read(whole)["stages"])
    capfd.readouterr()
    assert reproduce(whole) == 0
    shown = capfd.readouterr().out
    assert shown.count("done before, skipped") == count
    assert "verdict" in shown  # the table is whole, in a file too
    assert "…  " not in shown
    assert runs.hashes(whole) == before


def but_seconds(results):
    """What a clock has not measured."""
    stages = [
        {key: value for key, value in stage.items() if key != "seconds"}
        for stage in results["stages"]
    ]
    return {**results, "population": [], "stages": stages}


def test_broken_off_inside_a_stage_and_between_two_it_ends_with_the_same_results(
    whole, tmp_path, monkeypatch, capfd
):
    folder = tmp_path / "broken"
    with monkeypatch.context() as fault:
        fault.setattr(writers, "jsonl", writers.jsonl)  # restores it afterwards
        faulty.at_line(12, "SIGTERM")
        assert reproduce(folder) == 128 + 15
    assert "stopped by SIGTERM after step 24" in capfd.readouterr().err
    assert [path.name for path in folder.glob("stages/*/stage.json")] == []
    with monkeypatch.context() as fault:
        train = stages.train_workdir

        def until_distilled(spec, workdir, *, title):
            if title.endswith("distilled"):
                raise Interrupted(15, 0)
            return train(spec, workdir, title=title)

        fault.setattr(stages, "train_workdir", until_distilled)
        assert reproduce(folder) == 128 + 15
    done = sorted(
        path.parent.name.rpartition("-")[0] for path in folder.glob("stages/*/stage.json")
    )
    assert done == ["baseline", "teachers"]
    assert not (folder / "results.json").exists()
    assert reproduce(folder) == 0
    assert but_seconds(read(folder)) == but_seconds(read(whole))


# --- rows, bands and claims, without training ---


def test_a_band_holds_its_ends_and_nothing_beyond():
    assert within([60, 80], (60.0, 70.0))
    assert within([60, 60], (60.0, 70.0))
    assert not within([60, 81], (60.0, 70.0))
    assert not within([59, 60], (60.0, 70.0))
    assert band_text((60.0, 80.0)) == "60 to 80"
    assert band_text((0.0, 20.0), "%") == "at most 20%"
    assert band_text((1.5, 20.0), "%") == "1.5 to 20%"


def verdicts(results):
    table = main_table(results)
    return {row[0]: row[-1] for row in table.rows if "verdict" in table.columns}


def test_a_row_meets_or_misses_its_own_band(results):
    name, mean = "student, hard labels", np.mean(ROWS[1].values(results))
    results["protocol"]["bands"] = {}
    assert verdicts(results) == {}
    assert "Every row lies within" not in build_page(results).markdown
    for low, verdict in ((mean, "met"), (mean + 0.5, "missed")):
        results["protocol"]["bands"] = {"baseline": [low, mean + 1]}
        judged = verdicts(results)
        assert judged.pop(name) == verdict
        assert set(judged.values()) == {"–"}
        assert missed(results) == ([name] if verdict == "missed" else [])
        assert (f"Outside their bands: {name}." in build_page(results).markdown) == (
            verdict == "missed"
        )


def sweep(width, by_temperature, alike=10.0):
    rows = [
        {"width": width, "temperature": t, "errors": errors} for t, errors in by_temperature.items()
    ]
    return {"sweep": rows, "protocol": {"bands": {"alike": [0.0, alike]}}}


def claimed(*arguments):
    return [row[-1] for row in claims.temperature_claims(sweep(*arguments)).rows]


def test_high_temperatures_are_alike_or_not():
    errors = {1.0: [99] * 5, 8.0: [70] * 5, 20.0: [80] * 5}  # what lies below 8 does not count
    assert claimed(300, errors) == ["holds"]
    assert claimed(300, errors, 9.0) == ["does not hold"]
    assert claimed(300, {**errors, 40.0: [81] * 5}) == ["does not hold"]


def test_middling_temperatures_are_better_or_not():
    best, others = [10, 11, 12, 13, 14], [20, 21, 22, 23, 24]
    middle, outside = {2.5: best, 4.0: best}, {1.0: others, 8.0: others}
    assert claimed(30, {**middle, **outside}) == ["holds", "holds"]
    assert (
        claimed(30, {2.5: others, 4.0: others, 1.0: best, 8.0: best}) == ["the reverse holds"] * 2
    )
    assert claimed(30, {**middle, 1.0: others, 8.0: best}) == ["holds", "no evidence"]
    assert claimed(30, {2.5: best, 4.0: best, 1.0: best[::-1], 8.0: others}) == [
        "no evidence",
        "holds",
    ]
    assert (
        claimed(30, {t: errors[:4] for t, errors in {**middle, **outside}.items()})
        == ["too few seeds"] * 2
    )


def test_a_claim_that_the_sweep_cannot_speak_of_is_left_out():
    assert claimed(100, {1.0: [5] * 5, 2.5: [5] * 5, 8.0: [5] * 5}) == []
    assert claimed(300, {1.0: [5] * 5}) == []
    assert claimed(30, {1.0: [5] * 5, 8.0: [5] * 5}) == []
    assert claimed(30, {1.0: [5] * 5, 4.0: [4] * 5}) == ["holds"]
    without = {**sweep(300, {8.0: [5] * 5}), "protocol": {"bands": {}}}
    assert claims.temperature_claims(without).rows == []


HARD, TAUGHT = list(range(40)), list(range(10, 30))


def arms(student):
    wrong = {"baseline": [HARD] * 5, "student": [student] * 5, "ensemble": [TAUGHT]}
    members = {
        name: {"members": [{"wrong": rows} for rows in each]} for name, each in wrong.items()
    }
    return {"arms": members, "test_examples": 200}


@pytest.mark.parametrize(("student", "share"), [(TAUGHT, 1.0), (HARD, 0.0)])
def test_the_share_of_the_gain_is_one_for_the_ensemble_itself_and_none_for_hard_labels(
    student, share
):
    assert claims.gain_share(arms(student), "student", "ensemble") == pytest.approx(
        (share, share, share)
    )


def test_the_share_of_the_gain_lies_between():
    share, low, high = claims.gain_share(arms(list(range(30))), "student", "ensemble")
    assert share == 0.5
    assert 0 <= low < share < high <= 1


def test_an_ensemble_that_gains_nothing_has_no_share():
    results = arms(HARD)
    results["arms"]["ensemble"] = {"members": [{"wrong": HARD}]}
    assert np.isnan(claims.gain_share(results, "student", "ensemble")[0])


# --- the protocol and its page ---

REFUSED = {
    "seeds=(0,)": "2 seeds or more",
    "sweep_seeds=(1,)": "2 seeds or more",
    "ensemble=2": "config.ensemble as many teachers",  # three seeds in the sweep
    "sweep_seeds=(3, 3)": "make them equally long",
    "baseline.student.widths=(8,)": "config.baseline and config.distilled must train one student "
    "on the same",
    "baseline.total_epochs=3.0": "config.baseline and config.distilled must train one student .* "
    "equally long",
    "baseline.data.train=train[:600]": "config.baseline and config.distilled must train one "
    "student on the same",
    "omitted.data.eval=train": "config.omitted.data and config.distilled.data have different "
    "source or eval",
    "hypotheses.faster.data.eval=train": "config.hypotheses.faster.data and config.distilled.data "
    "have different",
    "only.population={'seed': (0, 1)}": "config.only.population .* set by the experiment",
    "only.teacher.workdir=elsewhere": "config.only.teacher.workdir are set by the experiment",
    "small_hard.eval_epochs=none": "in config.small_hard: config.early_stopping looks at a "
    "validation split every",
}


@pytest.mark.parametrize("override", REFUSED)
def test_a_protocol_that_makes_no_sense(override):
    with pytest.raises(KdError, match=REFUSED[override]):
        make_stages(protocol(override))
    assert make_stages(protocol())


def test_a_class_that_the_transfer_set_does_not_hold():
    with pytest.raises(
        KdError,
        match=r"stage 'omitted': data.classes must name classes that the split holds.*\(3, 12\)",
    ):
        stages.check_stages(make_stages(protocol("omitted.data.classes=(3, 12)")))


def test_variants_are_shown_where_there_are_any(results):
    title = "## What the student's errors depend on"
    page = build_page(results).markdown
    assert title in page
    assert "| faster | learning rate, shape: 0.01, cosine |" in page
    without = copy.deepcopy(results)
    without["hypotheses"] = without["protocol"]["hypotheses"] = {}
    assert title not in build_page(without).markdown


def test_the_papers_numbers_are_shown_where_there_are_any(results):
    assert results["protocol"]["paper"] == {}
    before = build_page(results)
    assert "paper" not in before.table.columns
    assert "+3.5" not in before.markdown
    results["protocol"]["paper"] = {"teachers": 67.0, "only": 47.3}
    page = build_page(results)
    assert [row[1] for row in page.table.rows if row[1] != "–"] == ["67", "47.3%"]
    assert "+3.5" in page.markdown
