"""The vision table in small: what its results say is what its work directories hold; what cannot be
compared is refused.
"""

import dataclasses
import json

import numpy as np
import pytest

import small_vision
from experiments.vision_table import stages
from experiments.vision_table.measure import packed, unpacked
from experiments.vision_table.protocol import arm_spec, check, located, make_arms, tuned
from experiments.vision_table.tuning import at_the_edge, best
from kd.core.terms import student_taps, teacher_taps
from kd.errors import KdError
from kd.evidence import machine
from kd.pages.report import build_page
from kd.runs.build import check_spec
from kd.runs.stages import stage_fingerprints
from kd.runs.workdir import find
from small_vision import ARMS, protocol


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return small_vision.weights(tmp_path_factory.mktemp("weights") / "teacher.npz")


@pytest.fixture(scope="module")
def finished(file, tmp_path_factory):
    """The experiment, run once: its folder and its results, which nobody may change."""
    folder = tmp_path_factory.mktemp("table")
    return folder, stages.run(small_vision.tiny(file), folder, lambda _: None)


# --- what the results say ---


def stage(folder, name):
    return find(next(folder.glob(f"stages/{name}-*")))


@pytest.mark.parametrize("arm", ARMS)
def test_the_validation_errors_of_an_arm_are_those_of_its_run(arm, finished):
    folder, results = finished
    members = stage(folder, arm).read("evaluation.json")["members"]
    told = results["arms"][arm]["val"]
    assert [m["errors"] for m in told] == [m["errors"] for m in members]
    for mine, theirs in zip(told, members, strict=True):
        assert np.flatnonzero(unpacked(mine["wrong"], 60)).tolist() == theirs["wrong"]
    assert [m["examples"] for m in results["arms"][arm]["test"]] == [60, 60]


@pytest.mark.parametrize("arm", ["kd", "crd"])
def test_an_arm_has_the_numbers_of_its_best_trial(arm, finished):
    folder, results = finished
    trials = stage(folder, f"trials-{arm}")
    members = trials.read("evaluation.json")["members"]
    chosen = results["tuning"][arm]["chosen"]
    assert members[chosen]["errors"] == min(m["errors"] for m in members)
    spec = stage(folder, arm).spec
    for term, columns in trials.spec.population.items():
        for number, values in columns.items():
            assert spec.objective[term][number] == values[chosen]
    assert spec.population == {"seed": (0, 1)}
    assert trials.spec.seed not in spec.population["seed"]


def test_every_run_sees_as_much_but_the_one_for_longer(finished):
    folder, _ = finished
    epochs = {arm: stage(folder, arm).spec.total_epochs for arm in ARMS}
    assert epochs.pop("longer") == 2 * epochs["hard"]
    assert set(epochs.values()) == {2.0}


def test_one_teacher_teaches_all_that_are_taught(finished):
    folder, results = finished
    taught = [arm for arm in ARMS if arm not in ("hard", "longer")]
    lineages = {arm: stage(folder, arm).lineage for arm in ARMS}
    assert len({lineages[arm].teacher.fingerprint for arm in taught}) == 1
    assert all(lineages[arm].teacher is None for arm in set(ARMS) - set(taught))
    assert {lineages[arm].teacher.licence for arm in taught} == {"BSD-2-Clause"}
    assert results["teacher"]["test"]["examples"] == 60


def test_a_second_start_skips_every_stage_and_says_the_same(file, finished):
    folder, results = finished
    said = []
    again = stages.run(small_vision.tiny(file), folder, said.append)
    assert json.dumps(again) == json.dumps(results)
    assert len(said) > len(results["stages"])  # those of the first part are looked at twice
    assert all("done before, skipped" in line for line in said)


def test_the_place_of_the_teacher_changes_nothing_and_its_weights_do(file, tmp_path):
    def fingerprints(path):
        told = protocol(small_vision.tiny(path))
        return stage_fingerprints(stages.first_stages(told, located(told)))

    before = fingerprints(file)
    moved = tmp_path / "elsewhere.npz"
    moved.write_bytes(file.read_bytes())
    assert fingerprints(moved) == before
    other = fingerprints(small_vision.weights(tmp_path / "other.npz", seed=2))
    changed = {name for name in before if before[name] != other[name]}
    assert changed == {"teacher", *(f"trials-{arm}" for arm in ARMS[2:])}


@pytest.mark.parametrize("paper", [False, True])
def test_the_page_shows_every_arm(finished, paper):
    _, results = finished
    results = json.loads(json.dumps(results)) | {
        "experiment": "x",
        "command": "kd",
        "fingerprint": "f",
        "machine": machine(),
    }
    assert results["protocol"]["paper"] == {}  # these images are not those of the bands
    if paper:
        told = small_vision.load_config(small_vision.CONFIG, "")
        results["protocol"]["paper"] = told.paper.to_dict()
        results["protocol"]["bands"] = {"hard": [0, 1], "best_gain": [-100, 100]}
    page = build_page(results)
    assert [row[0] for row in page.table.rows] == ["teacher", *ARMS]
    assert ("+0.50" in page.markdown) == paper  # CRD over KD, as published
    assert ("**missed**" in page.markdown) == paper
    assert page.verdict.count("Verdict: ") == 1
    assert page.verdict in page.markdown
    assert set(page.figures) == {"forest.svg", "trials.svg"}
    assert all(f"figures/{name}" in page.markdown for name in page.figures)
    assert all(note in page.markdown for note in results["protocol"]["notes"])


# --- the arms of the table ---


@pytest.mark.parametrize("arm", small_vision.load_config(small_vision.CONFIG, "").arms)
def test_every_arm_fits_teacher_and_student(arm, file):
    """Nothing is computed: shapes, layers and numbers alone."""
    told = protocol(small_vision.config(file, ""))
    numbers = {
        term: {number: values[0] for number, values in columns.items()}
        for term, columns in make_arms(told)[arm].trials.items()
    }
    spec = arm_spec(told, arm, located(told), numbers)
    assert student_taps(spec.terms) == teacher_taps(spec.terms)
    assert check_spec(spec).members.size == 5


@pytest.mark.parametrize("argument", ["", "quick", "gpu"])
def test_a_form_of_the_table_is_a_fair_one(argument, file):
    check(protocol(small_vision.config(file, argument, test="test")))


def test_the_whole_table_has_losses_of_every_family(file):
    told = protocol(small_vision.config(file, ""))
    families = [arm.family for name, arm in tuned(told).items() if name != "kd"]
    assert {"logits", "features", "relations"} < set(families)
    assert len([family for family in families if family != "labels"]) >= 8


def test_the_gpu_form_tunes_nothing(file):
    told = protocol(small_vision.config(file, "gpu"))
    assert tuned(told) == {}
    run = next(s for s in stages.first_stages(told, located(told)) if s.name == "dkd")
    assert run.spec.objective["dkd"]["beta"] == 2.0


# --- tuning ---


def test_of_equal_trials_the_surer_one_is_chosen():
    members = [{"errors": e, "nll": n} for e, n in ((3, 1.0), (2, 0.9), (2, 0.8), (4, 0.1))]
    told = best({"kd": {"weight": (1.0, 2.0, 3.0, 4.0)}}, members)
    assert told.chosen == 2
    assert told.numbers == {"kd": {"weight": 3.0}}
    assert at_the_edge((1.0, 2.0, 3.0), 3.0)
    assert not at_the_edge((1.0, 2.0, 3.0), 2.0)
    assert not at_the_edge((1.0, 1.0), 1.0)


@pytest.mark.parametrize("rows", [[], [0], [6], [0, 3, 5, 6]])
def test_wrong_rows_survive_packing(rows):
    assert np.flatnonzero(unpacked(packed(rows, 7), 7)).tolist() == rows


# --- what is refused ---

REFUSED = {
    "one seed": ({"seeds": (0,)}, "at least 2"),
    "a seed twice": ({"seeds": (0, 0)}, "each value once"),
    "the seed of the trials": ({"trial_seed": 1}, "judged on a run that chose its numbers"),
    "the test images": ({"test": "train[1000:1060]"}, "chosen on the test images"),
    "a band of nothing": ({"bands": {"hrad": (0.0, 1.0)}}, "did you mean 'hard'"),
    "a band turned round": ({"bands": {"hard": (2.0, 1.0)}}, "least, most"),
    "numbers of no arm": ({"numbers": {"kdd": {}}}, "did you mean 'kd'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_would_not_be_fair(name, file):
    changes, words = REFUSED[name]
    with pytest.raises(KdError, match=words):
        check(protocol(small_vision.tiny(file, **changes)))


def test_arms_with_more_trials_than_others(file):
    told = small_vision.tiny(file)
    told["arms"]["kd"]["trials"] = {"soft_targets": {"weight": (1.0, 2.0, 3.0)}}
    with pytest.raises(KdError, match="as many trials"):
        check(protocol(told))


@pytest.mark.parametrize("arm", ["kd", "hard"])
def test_a_table_without_what_others_are_held_against(arm, file):
    told = small_vision.tiny(file)
    told["arms"][arm] = None
    with pytest.raises(KdError, match=f"no '{arm}'"):
        check(protocol(told))


def test_a_teacher_that_is_not_there(file, tmp_path, monkeypatch):
    told = protocol(small_vision.tiny("nowhere/teacher.npz"))
    monkeypatch.setenv("KD_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(KdError, match=r"no nowhere/teacher\.npz here.*--config\.teacher\.source"):
        located(told)
    beside = tmp_path / "models" / "nowhere"
    beside.mkdir(parents=True)
    (beside / "teacher.npz").write_bytes(file.read_bytes())
    assert located(told).source == f"weights:{(beside / 'teacher.npz').resolve()}"
    run = dataclasses.replace(told.teacher, source=f"run:{tmp_path}")
    with pytest.raises(KdError, match="must be weights:FILE"):
        located(dataclasses.replace(told, teacher=run))
