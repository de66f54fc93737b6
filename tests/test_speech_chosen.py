"""The second protocol of speech: what is tried, what chooses, what is shared with the first, and
what the test speakers see.
"""

import copy
import json
import re
import shutil

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies

import runs
import speech
from experiments.hinton2015.speech import claims
from experiments.hinton2015.speech import stages as first
from experiments.hinton2015.speech_chosen import page, stages
from experiments.hinton2015.speech_chosen.protocol import ARMS, RIVALS, Protocol, check
from experiments.hinton2015.speech_chosen.trials import Trial, as_long, best
from kd.config import build, load_config, resolve, to_json
from kd.errors import KdError
from kd.evidence import machine
from kd.pages.report import build_page
from kd.processes.signals import Interrupted
from kd.runs import stages as kd_stages
from kd.runs.stages import Stage, stage_fingerprints
from small_speech import protocol as first_protocol
from small_speech import tiny

FIRST = runs.ROOT / "configs" / "hinton2015_speech.py"
CONFIG = runs.ROOT / "configs" / "hinton2015_speech_chosen.py"
LENGTHS = {"baseline": (1, 2), "distilled": (2,), "small_hard": (1, 3), "small_soft": (3,)}


def small(source, **changes):
    """The second protocol on the synthetic corpus: two trials of each arm, and bands that are
    missed, one of them with a hypothesis.
    """
    config = tiny(source, realignments=0, hypotheses={}, teachers={})
    wider = copy.deepcopy(config["distilled"])
    wider["student"]["widths"] = (32,)
    return {
        **config,
        "numbers_of": {},
        "lengths": LENGTHS,
        "bands": {"share_of_gain": (50.0, 51.0), "small_share": (-1e9, 1e9)},
        "hypotheses": {
            "wider": {"claim": "too small", "run": wider},
            "idle": {"claim": "never run", "of": "small_soft", "run": config["small_soft"]},
        },
        **changes,
    }


def protocol(config):
    return build(Protocol, config, "config")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return speech.write(tmp_path_factory.mktemp("speech") / "corpus")


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    """A finished run: its folder and results."""
    folder = tmp_path_factory.mktemp("experiment")
    return folder, stages.run(small(source), folder, lambda _: None)


# --- what chooses ---

TRIALS = strategies.lists(
    strategies.builds(
        Trial,
        strategies.sampled_from((1.0, 2.0, 3.0)),
        strategies.sampled_from((2.0, 5.0)),
        strategies.integers(0, 3),
    ),
    min_size=1,
    max_size=8,
)


@drawn(TRIALS, strategies.randoms())
def test_the_best_trial_is_chosen_and_of_equals_the_shorter(trials, random):
    chosen = best(trials)
    assert chosen.errors == min(trial.errors for trial in trials)
    equals = [trial for trial in trials if trial.errors == chosen.errors]
    assert chosen.epochs == min(trial.epochs for trial in equals)
    shuffled = random.sample(trials, len(trials))
    assert best(shuffled) == chosen


@drawn(strategies.sampled_from(LENGTHS["baseline"]), strategies.sampled_from((1, 2, 3)))
def test_a_stretched_run_keeps_its_looks_and_stays_so_many_times_as_long(epochs, times):
    arm = {"total_epochs": 4.0, "eval_epochs": 0.5, "checkpoint_epochs": None, "data": {}}
    run = {**arm, "total_epochs": 4.0 * times}
    long = as_long(run, arm, float(epochs), None)
    assert long["total_epochs"] == times * epochs
    assert long["eval_epochs"] / epochs == arm["eval_epochs"] / arm["total_epochs"]
    assert long["checkpoint_epochs"] is None


# --- what is shared, and who sees what ---


def test_what_teaches_and_judges_is_the_first_protocols_by_equal_identity(source):
    """In the folder of the first it is done: a stage's folder is its name and fingerprint."""
    own, other = (load_config(path).to_dict() for path in (CONFIG, FIRST))
    for config in (own, other):
        config["speech"]["data"]["source"] = str(source)
        config |= {"hypotheses": {}, "teachers": {}}
    theirs = stage_fingerprints(first.make_stages(first_protocol(other)))
    fingerprints = stage_fingerprints(stages.shared(protocol(own)))
    assert fingerprints == {name: theirs[name] for name in fingerprints}
    assert {"features", "alignment2", "aligner1", "baseline", "reference"} < fingerprints.keys()


def test_no_trial_sees_the_test_speakers(source):
    """All that chooses is judged on all validation speakers; only what was chosen is measured."""
    small_protocol = protocol(small(source))
    for stage in stages.trials(small_protocol):
        assert isinstance(stage, Stage)
        assert stage.spec.data.eval == "validation"
        assert (stage.spec.early_stopping or "validation") == "validation"
        assert "init_seed" not in stage.spec.population
        assert stage.spec.seed == 0
    chosen = {arm: Trial(2.0, 4.0 if arm in RIVALS else None, 0) for arm in ARMS}
    measured = [s.options["run"] for s in stages.arms(small_protocol, chosen) if is_measure(s)]
    assert measured == [f"chosen_{arm}" for arm in ARMS]
    assert all(
        stage.options["split"] == "test"
        for stage in stages.arms(small_protocol, chosen)
        if is_measure(stage)
    )


def is_measure(stage):
    return not isinstance(stage, Stage)


def test_both_sides_have_equally_many_trials(finished):
    _, results = finished
    assert {len(trials) for trials in results["trials"].values()} == {2}
    for arm, trials in results["trials"].items():
        assert results["best"][arm] == min(trials, key=lambda trial: trial["errors"])


def test_the_first_seed_of_a_chosen_arm_is_its_trial_again(finished):
    """The same length, temperature and first weights: alone or as a member."""
    folder, results = finished
    for arm in ARMS:
        (chosen,) = folder.glob(f"stages/chosen_{arm}-*/stage.json")
        members = json.loads(chosen.read_text())["evaluation"]["members"]
        assert len(members) == 2
        tolerance = 0.02 * results["judged"]["frames"]
        assert abs(members[0]["errors"] - results["best"][arm]["errors"]) <= tolerance


# --- hypotheses ---


def test_hypotheses_are_run_where_their_band_is_missed(source, finished):
    _, results = finished
    assert [claim.name for claim in claims.claims(results) if not claim.met] == ["share_of_gain"]
    assert list(results["hypotheses"]) == ["wider"]
    chosen = {arm: Trial(2.0, 4.0 if arm in RIVALS else None, 0) for arm in ARMS}
    small_protocol = protocol(small(source))
    assert stages.explanations(small_protocol, chosen, set()) == []
    (run, measure) = stages.explanations(small_protocol, chosen, {"small_share"})
    assert (run.name, measure.name) == ("hypothesis_idle", "measure_hypothesis_idle")
    assert run.spec.objective["soft_targets"]["temperature"] == 4.0
    assert run.spec.total_epochs == 2.0


def test_the_configs_hypotheses_differ_in_one_thing_each():
    config = load_config(CONFIG)
    for name, hypothesis in config.hypotheses.items():
        before, after = (
            json.loads(to_json(resolve(run)))
            for run in (config[hypothesis.get("of", "distilled")], hypothesis.run)
        )
        changed = [key for key in before if before[key] != after[key]]
        assert len(changed) + ("teacher" in hypothesis) == 1, name


# --- the run ---


def without_times(results):
    return json.loads(
        json.dumps({**results, "stages": [{**s, "seconds": 0} for s in results["stages"]]})
    )


def test_a_run_broken_off_among_the_chosen_arms_ends_with_the_same_results(
    source, finished, tmp_path, monkeypatch
):
    folder, results = finished
    real, left = kd_stages.lookup, iter([False])

    def lookup(what, name, table):
        if what == "function" and next(left, True) is False:
            raise Interrupted(15, 0)
        return real(what, name, table)

    shutil.copytree(folder / "stages", tmp_path / "stages")
    (measured,) = tmp_path.glob("stages/measure_chosen_small_soft-*")
    shutil.rmtree(measured)
    monkeypatch.setattr(kd_stages, "lookup", lookup)
    with pytest.raises(Interrupted):
        stages.run(small(source), tmp_path, lambda _: None)
    said = []
    again = stages.run(small(source), tmp_path, said.append)
    assert without_times(again) == without_times(results)
    assert sum("measure_chosen_small_soft" in line for line in said) == 1
    assert sum("stage 1/" in line for line in said) == 1  # and not in every part again


def test_on_other_data_no_bands_and_no_hypotheses(finished, source, tmp_path):
    folder, _ = finished
    other = small(source, numbers_of={"source": "of-another.zip", "split": "test"})
    results = stages.run(other, folder, lambda _: None)
    assert (results["protocol"]["bands"], results["hypotheses"]) == ({}, {})


def test_the_page_says_what_was_chosen_and_every_number(finished):
    _, results = finished
    results = {
        **copy.deepcopy(results),
        "experiment": "x",
        "command": "kd",
        "fingerprint": "f",
        "machine": machine(),
    }
    built = build_page(json.loads(json.dumps(results)))
    rows = {row[0]: row for row in page.choices_table(results).rows}
    for arm, name in page.NAMES.items():
        assert rows[name][2] == f"{results['best'][arm]['epochs']:g}"
        for trial in results["trials"][arm]:
            share = 100 * (1 - trial["errors"] / results["judged"]["frames"])
            assert f"{share:.2f}%" in built.markdown
    for members in (*results["systems"].values(), *results["small"].values()):
        assert f"{np.mean(claims.accuracies(results, members)):.2f}" in built.markdown
    assert "- *wider*: too small. " in built.markdown
    assert "| wider | hidden units: 32 |" in built.markdown
    assert "- *idle* (not run, its band is met): never run." in built.markdown
    assert "Missed: 1 of 2 bands" in built.verdict
    assert set(re.findall(r"\(figures/([^)]+)\)", built.markdown)) == set(built.figures)


@pytest.mark.parametrize(("epochs", "said"), [(1, "shortest"), (2, "no"), (3, "longest")])
def test_the_page_says_where_in_its_grid_a_choice_lies(epochs, said):
    trials = [{"epochs": e, "temperature": None, "errors": abs(e - epochs)} for e in (1, 2, 3)]
    results = {
        "judged": {"frames": 10},
        "trials": dict.fromkeys(page.NAMES, trials),
        "best": dict.fromkeys(page.NAMES, trials[epochs - 1]),
    }
    assert {row[-1] for row in page.choices_table(results).rows} == {said}


# --- what is refused ---


@pytest.mark.parametrize("argument", ["", "quick"])
def test_the_configs_are_experiments(argument):
    check(protocol(load_config(CONFIG, argument)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths": LENGTHS | {"baselin": (1,)}}, "did you mean 'baseline'"),
        ({"lengths": {"baseline": (1, 2)}}, "lengths.distilled must hold epochs above 0"),
        ({"lengths": LENGTHS | {"small_soft": (0,)}}, "small_soft must hold epochs above 0"),
        ({"lengths": LENGTHS | {"baseline": (2, 2)}}, "lengths.baseline must hold each value once"),
        ({"lengths": LENGTHS | {"baseline": (1, 2, 3)}}, "baseline must hold 2 lengths"),
        ({"lengths": LENGTHS | {"small_hard": (1, 2)}}, "let hard labels be trained as long"),
        ({"seeds": (0,)}, "config.seeds must hold at least 2"),
    ],
)
def test_arms_without_equal_freedom_are_refused(source, tmp_path, changes, message):
    with pytest.raises(KdError, match=message):
        stages.run(small(source, **changes), tmp_path)


def test_runs_that_cannot_be_stretched_or_heated_are_refused(source, tmp_path):
    config = small(source)
    hard = {"hard": {"weight": 1.0}}
    config["distilled"] = {**config["distilled"], "objective": hard}
    with pytest.raises(KdError, match=r"config\.distilled\.objective has no soft_targets"):
        stages.run(config, tmp_path)
    config = small(source)
    steps = {"total_epochs": None, "total_steps": 9}
    config["hypotheses"]["wider"]["run"] |= steps
    with pytest.raises(KdError, match=r"config\.hypotheses\.wider\.run\.total_epochs is none"):
        stages.run(config, tmp_path)
    config = small(source, teachers={"short": small(source)["baseline"]})
    with pytest.raises(KdError, match=r"config\.teachers are of the first protocol"):
        stages.run(config, tmp_path)
