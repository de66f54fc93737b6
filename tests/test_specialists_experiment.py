"""Section 5 end to end on made-up sentences: what is measured, how it resumes, what the page
says.
"""

import json
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runs
from experiments.hinton2015.bands import shown
from experiments.hinton2015.specialists import claims, stages, text
from experiments.hinton2015.specialists.data import Protocol
from experiments.hinton2015.specialists.lines import line, marked, marks, numbers
from kd.config import build, load_config
from kd.errors import KdError
from kd.evidence import machine
from kd.pages import build_page

CONFIG = runs.ROOT / "configs" / "hinton2015_specialists.py"
INTENTS = [f"intent{i}" for i in range(8)]
RUNS = ("generalist", "longer", "specialist", "distilled")


def write(path, groups=2):
    """Sentences of eight intents, pairs of which share their words."""
    random = np.random.default_rng(0)

    def sentence(intent):
        words = [f"pair{intent // 2}", f"own{intent}", *(f"any{i}" for i in range(6))]
        return " ".join(random.choice(words, 4, p=[0.3, 0.16, *[0.09] * 6]))

    stored = {
        split: [[sentence(i % 8), INTENTS[i % 8]] for i in range(examples)]
        for split, examples in (("train", 160), ("val", 64), ("test", 64), ("oos_test", 3))
    }
    domains = {f"d{g}": INTENTS[g * groups : (g + 1) * groups] for g in range(8 // groups)}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clinc150/data_full.json", json.dumps(stored))
        archive.writestr("clinc150/domains.json", json.dumps(domains))
    return path


def tiny(source, **changes):
    """The experiment in seconds."""
    config = load_config(CONFIG, "quick").to_dict()
    config["text"] = {"data": {"source": str(source), "data_dir": None}, "features": 32, "words": 1}
    config["clustering"] |= {"count": 3, "size": 3}
    config["temperatures"] = (1.0, 2.0)
    config["bands"] = {"gain": (1.0, 12.0), "kept": (0.5, 2.0)}
    for name in RUNS:
        config[name]["student"]["widths"] = (8,)
        config[name]["data"]["batch_size"] = 16
        config[name]["total_epochs"] = 4
        config[name]["optim"]["learning_rate"] = 1e-2
        config[name]["mesh"]["devices"] = 1
    config["hypotheses"] = {
        "unchanged": {"claim": "nothing is changed"},
        "another": {
            "claim": "another one",
            "generalist": config["generalist"],
            "clustering": {"groups": True},
        },
    }
    config["steps_back"] = {
        "unchanged": {"claim": "nothing is changed"},
        "another": {"claim": "of another", "top": 2, "team": "another", "network": "another"},
    }
    return config | changes


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("text") / "clinc150.zip")


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    """A finished run: its folder and results."""
    folder = tmp_path_factory.mktemp("experiment")
    return folder, stages.run(tiny(source), folder, lambda _: None)


def test_every_system_is_measured(finished):
    _, results = finished
    counts = {name: len(members) for name, members in results["systems"].items()}
    assert counts == {
        "generalist": 2,
        "ensemble": 1,
        "longer": 2,
        "self": 4,
        "of_ensemble": 4,
        "of_specialists": 4,
        "back_unchanged": 4,
        "back_another": 4,
    }
    for team in results["teams"]:
        assert [len(set(numbers(classes))) for classes in team["classes"]] == [3, 3, 3]
        assert set(numbers(team["clusters"])) == {0, 1, 2}
        assert team["test"]["tops"]["1"]["gradient"] < 1e-6
    assert np.mean(claims.accuracies(results, claims.alone(results))) > 25  # of 12.5 by chance


def test_generalists_alone_are_the_generalists(finished):
    """What a team's stage says of its generalist is what the pool's own evaluation says."""
    _, results = finished
    assert claims.alone(results) == claims.wrong(results, "generalist")


def test_a_hypothesis_that_changes_nothing_finds_the_same(finished):
    _, results = finished
    same, others = results["hypotheses"]["unchanged"], results["hypotheses"]["another"]
    assert claims.team(results, teams=same) == claims.team(results)
    assert claims.conditional(same) == claims.conditional(results["teams"])
    assert others[0]["classes"] == ["0 1", "2 3", "4 5", "6 7"]
    assert claims.alone(results, others) == claims.alone(results)  # of the same config


def test_a_step_back_that_changes_nothing_finds_the_same(finished):
    _, results = finished
    same, other = (claims.wrong(results, f"back_{name}") for name in ("unchanged", "another"))
    assert same == claims.wrong(results, "of_specialists") != other


def test_counts_by_coverage_are_those_of_the_whole(finished):
    _, results = finished
    sums = np.array(claims.by_coverage(results)).sum(axis=0)
    examples = 2 * results["examples"]["test"]
    systems = (claims.alone(results), claims.team(results, 1), claims.team(results, 2))
    right = [examples - sum(map(len, rows)) for rows in systems]
    assert sums[1:].tolist() == [examples, *right]


def test_coverage_counts_the_specialists_of_the_right_class():
    results = {"labels": "0 1 2 1", "class_names": ["a", "b", "c"]}
    assert claims.coverage(results, {"classes": ["0 1", "1"]}).tolist() == [1, 2, 0, 2]


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_a_line_holds_the_rows_that_it_was_made_of(drawn):
    total, rows = drawn
    assert marked(marks(np.array(sorted(rows), int), total)) == sorted(rows)
    assert numbers(line(sorted(rows))).tolist() == sorted(rows)


def test_a_gain_is_relative_and_a_share_is_of_it():
    def wrong(errors):
        return marks(np.arange(errors), 10)

    results = {
        "examples": {"test": 10},
        "seeds": [0],
        "protocol": {"top": 1},
        "teams": [{"test": {"generalist": wrong(4), "tops": {"1": {"wrong": wrong(1)}}}}],
        "systems": {"longer": [{"wrong": wrong(2)}]},
    }
    assert claims.gain(results, claims.team(results), claims.alone(results))[0] == 50.0
    assert claims.kept(results, "longer")[0] == pytest.approx(2 / 3)


def test_the_temperature_is_chosen_on_validation_alone():
    members = [{"validation": v, "wrong": [0] * v} for v in (5, 6, 4, 4, 9, 1)]
    results = {"seeds": [0, 1], "systems": {"self": members}}
    assert claims.temperature(results, "self") == 1
    assert claims.members(results, "self") == members[2:4]


def test_a_second_run_does_nothing(finished, source):
    folder, results = finished
    said = []
    again = stages.run(tiny(source), folder, said.append)
    assert all("done before" in line for line in said)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(results))


def test_the_page_says_what_was_found(finished):
    _, results = finished
    told = {
        "experiment": "hinton2015-specialists",
        "command": "kd reproduce",
        "fingerprint": "f",
        "machine": machine(),
        **results,
    }
    page = build_page(json.loads(json.dumps(told)))
    gain = shown(*claims.gain(results, claims.team(results), claims.alone(results)))
    assert f"a relative gain in accuracy of {gain}%" in page.verdict
    for words in (
        "intent3",
        "adjusted Rand index",
        "with specialists, n = 2",
        "*another*: another",
        "*another*: of another",
    ):
        assert words in page.markdown
    assert "| paper" not in page.markdown
    assert set(page.figures) == {"systems.svg", "coverage.svg"}


def test_stages_of_images_read_their_own_source():
    """The same code without sentences: no features, and runs on what their config names."""
    config = load_config(CONFIG).to_dict()
    config |= {"text": None, "hypotheses": {}, "steps_back": {}}
    for name in RUNS:
        config[name]["data"] |= {"source": "digits", "eval": "train[:200]"}
    made = stages.make_stages(build(Protocol, config, "config"))
    assert made[0].name == "generalists"
    assert all(getattr(stage, "data", None) is None for stage in made)
    assert all("features" not in stage.needs for stage in made)


def test_domains_are_no_part_of_what_is_trained(source, tmp_path):
    """Other domains, and all but the features' own stage has the same options."""
    other = write(tmp_path / "other.zip", groups=4)
    own, moved = (stages.make_stages(build(Protocol, tiny(s), "config")) for s in (source, other))
    assert text.read(str(source), None)[1] != text.read(str(other), None)[1]
    assert [stage.name for stage in own] == [stage.name for stage in moved]
    assert own[1:] == moved[1:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": (0,)}, "2 at least"),
        ({"ensemble": 1}, "config.ensemble be no smaller"),
        ({"top": 3}, "hold config.top = 3"),
        ({"temperatures": (1.0, 1.0)}, "each value once"),
        ({"bands": {"gian": (0.0, 1.0)}}, "did you mean 'gain'"),
        ({"split": "val"}, "looks at 'val' while it trains"),
        ({"steps_back": {"other": {"claim": "c", "team": "anoter"}}}, "did you mean 'another'"),
        ({"steps_back": {"other": {"claim": "c", "top": 3}}}, "must be one of tops, got 3"),
        ({"hypotheses": {"one": {"claim": "c", "clustering": {"sise": 3}}}}, "did you mean 'size'"),
    ],
)
def test_a_config_that_makes_no_experiment_is_refused(source, change, words):
    with pytest.raises(KdError) as refused:
        stages.make_stages(build(Protocol, tiny(source, **change), "config"))
    assert words in str(refused.value)


def test_an_archive_without_sentences_is_refused(tmp_path):
    path = tmp_path / "clinc150.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clinc150/data_full.json", "{}")
    with pytest.raises(KdError, match=r"has no domains.json; it is CLINC150"):
        text.read(str(path), None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("clinc150/domains.json", "{}")
    with pytest.raises(KdError, match=r"cannot read .*train"):
        text.read(str(path), None)


def test_what_is_not_done_is_done_alone(finished, source, tmp_path):
    """As after an interruption: a stage that is not there is computed, and the same again."""
    folder, results = finished
    shutil.copytree(folder, tmp_path / "copy")
    for gone in (tmp_path / "copy" / "stages").glob("specialists1-*"):
        shutil.rmtree(gone)
    said = []
    resumed = stages.run(tiny(source), tmp_path / "copy", said.append)
    assert [line.split()[2] for line in said if "done before" not in line] == ["specialists1:"]
    assert claims.team(resumed) == claims.team(results)
