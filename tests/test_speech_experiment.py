"""Sections 4 and 6 end to end on synthetic words: what is measured, how it resumes, what the page
says.
"""

import copy
import json

import numpy as np
import pytest

import speech
from experiments.hinton2015.speech import align, claims, corpus, measure, page, stages
from kd import data as kd_data
from kd.config import load_config
from kd.data.audio.speech import speech_fingerprint
from kd.evidence import machine
from kd.pages.report import build_page
from kd.processes.signals import Interrupted
from kd.runs import stages as kd_stages
from kd.runs.load import load_trained
from small_speech import CONFIG, protocol, tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return speech.write(tmp_path_factory.mktemp("speech") / "corpus")


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    """A finished run: its folder and results."""
    folder = tmp_path_factory.mktemp("experiment")
    return folder, stages.run(tiny(source), folder, lambda _: None)


def without_times(results):
    return json.loads(
        json.dumps({**results, "stages": [{**s, "seconds": 0} for s in results["stages"]]})
    )


def test_words_and_frames_are_learnt(finished):
    """Tones are easy: far fewer errors than chance, and the realignments settle."""
    _, results = finished
    assert np.mean(claims.accuracies(results, results["systems"]["baseline"])) > 60
    assert np.mean(claims.word_error_rates(results["systems"]["baseline"])) < 50
    assert len(results["alignments"]) == 3
    assert all(0 < alignment["changed"]["train"] < 0.5 for alignment in results["alignments"][1:])
    assert [len(members) for members in results["systems"].values()] == [2, 1, 2, 2]
    assert [len(members) for members in results["small"].values()] == [2, 2, 2]
    assert [len(members) for members in results["hypotheses"].values()] == [2, 2, 2]
    assert len(results["speakers"].split()) == speech.SPEAKERS["test"] * len(speech.WORDS) * 4


def test_members_start_with_weights_of_their_own_and_share_the_order(finished):
    folder, results = finished
    first, other = (claims.counts(m, "frame_errors") for m in results["systems"]["baseline"])
    assert np.any(first != other)
    spec = json.loads(next(folder.glob("stages/baseline-*/run.json")).read_text())["spec"]
    assert spec["population"] == {"init_seed": [0, 1]}


def test_the_reference_is_the_first_baseline(finished):
    folder, _ = finished
    reference, many = (
        json.loads(next(folder.glob(f"stages/{name}-*/stage.json")).read_text())["evaluation"][
            "members"
        ][0]
        for name in ("reference", "baseline")
    )
    assert reference["nll"] == pytest.approx(many["nll"], rel=1e-3)


@pytest.mark.parametrize(("name", "system"), [("unchanged", "distilled T=4"), ("hard", "baseline")])
def test_a_hypothesis_that_changes_nothing_finds_what_it_varies(finished, name, system):
    _, results = finished
    errors = [
        claims.by_speaker(results, members, "frame_errors").sum(axis=1)
        for members in (results["hypotheses"][name], results["systems"][system])
    ]
    np.testing.assert_allclose(*errors, atol=0.01 * results["frames"])


def test_a_hypothesis_with_another_teacher_learns_something_else(finished):
    folder, results = finished
    assert results["hypotheses"]["small"] != results["small"]["soft 3%"]
    run = json.loads(next(folder.glob("stages/hypothesis_small-*/run.json")).read_text())
    assert "teacher_short" in run["spec"]["teacher"]["workdir"]


def stage(folder, name):
    return kd_stages.Done(name, "", next(folder.glob(f"stages/{name}-*")), {"penalty": 0.0}, 0)


def test_the_ensemble_is_the_mean_of_its_members_probabilities(finished):
    folder, results = finished
    frames = align.Alignment(stage(folder, "alignment2")).frames("test")
    logits = load_trained(stage(folder, "baseline").workdir).logits(frames).astype(np.float64)
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    mean = (probabilities / probabilities.sum(axis=-1, keepdims=True)).mean(axis=0)
    wrong = int(np.sum(mean.argmax(axis=-1) != frames.labels))
    counted = int(claims.counts(results["systems"]["ensemble"][0], "frame_errors").sum())
    assert abs(wrong - counted) <= 2  # ties


def test_an_ensemble_that_rules_states_out_is_measured_without_a_warning(finished, monkeypatch):
    """Members that are sure of different states: the mean's probability of all others is 0 in
    float32.
    """
    folder, _ = finished

    class Sure:
        def __init__(self, state):
            self.state = state

        def logits(self, data):
            return np.tile(1e4 * np.eye(10, dtype=np.float32)[self.state], (len(data), 1))

    monkeypatch.setattr(measure, "members", lambda _: [Sure(1), Sure(1), Sure(2)])
    done = {name: stage(folder, name) for name in ("features", "alignment2", "baseline", "tune")}
    measured = measure.measure(
        folder,
        done,
        alignment="alignment2",
        run="baseline",
        split="test",
        train=None,
        ensemble=True,
    )
    assert measured["ensemble"] == measured["members"][0] != measured["members"][2]


def test_a_run_broken_off_at_any_stage_ends_with_the_same_results(
    source, tmp_path, finished, monkeypatch
):
    real, countdown = kd_stages.lookup, iter([True, True, False, True, True, False])

    def lookup(what, name, table):
        if what == "function" and not next(
            countdown, True
        ):  # during the second and the fourth computation
            raise Interrupted(15, 0)
        return real(what, name, table)

    monkeypatch.setattr(kd_stages, "lookup", lookup)
    for _ in range(2):
        with pytest.raises(Interrupted):
            stages.run(tiny(source), tmp_path, lambda _: None)
    said = []
    again = stages.run(tiny(source), tmp_path, said.append)
    assert any("done before, skipped" in line for line in said)
    assert without_times(again) == without_times(finished[1])


def test_what_is_done_is_not_done_again_and_the_place_of_the_audio_does_not_matter(
    source, finished
):
    folder, results = finished
    moved = tiny(source.name)
    moved["speech"]["data"]["data_dir"] = str(source.parent)
    fingerprints = [
        [s["fingerprint"] for s in results["stages"]],
        list(kd_stages.stage_fingerprints(stages.make_stages(protocol(tiny(source)))).values()),
    ]
    assert fingerprints[0] == fingerprints[1]
    said = []
    stages.run(tiny(source), folder, said.append)
    assert len(said) == len(results["stages"])
    assert all("skipped" in line for line in said)
    speeches = [protocol(config).speech.data for config in (tiny(source), moved)]
    assert speech_fingerprint(speeches[0].source) == speech_fingerprint(
        speeches[1].source, str(source.parent)
    )


def test_the_frames_are_the_utterances_with_their_ends_repeated(finished):
    """Frame t of an utterance stands at place 21 of its window, whatever is around it."""
    folder, _ = finished
    done = {
        name: kd_stages.Done(name, "", next(folder.glob(f"stages/{name}-*")), {}, 0)
        for name in ("features", "alignment0")
    }
    split = corpus.read(done["features"])["test"]
    data = kd_data.load("npz:frames.npz", "test", str(done["alignment0"].workdir))
    assert len(data) == split.lengths.sum()
    windows = np.asarray(data.inputs[:])
    np.testing.assert_array_equal(windows[:, 20], split.features.astype(np.float16))
    ends = np.cumsum(split.lengths)
    for begin, end in zip(ends - split.lengths, ends, strict=True):
        utterance = split.features[begin:end].astype(np.float16)
        for t in (0, 3, len(utterance) - 1):
            places = np.clip(np.arange(t - 20, t + 6), 0, len(utterance) - 1)
            np.testing.assert_array_equal(windows[begin + t], utterance[places])


def test_features_are_normalised_by_the_training_split_alone(finished):
    folder, _ = finished
    splits = corpus.read(
        kd_stages.Done("features", "", next(folder.glob("stages/features-*")), {}, 0)
    )
    np.testing.assert_allclose(splits["train"].features.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(splits["train"].features.std(axis=0), 1, atol=1e-4)
    assert np.abs(splits["test"].features.mean(axis=0)).max() > 1e-3


@pytest.mark.parametrize("paper", [False, True])
def test_the_page_shows_every_number(finished, paper):
    _, results = finished
    results = {
        **copy.deepcopy(results),
        "experiment": "x",
        "command": "kd",
        "fingerprint": "f",
        "machine": machine(),
    }
    if paper:
        results["protocol"]["paper"] = load_config(CONFIG, "").paper.to_dict()
    built = build_page(json.loads(json.dumps(results)))
    assert ("58.9%" in built.markdown) == paper
    for members in results["systems"].values():
        assert f"{np.mean(claims.accuracies(results, members)):.2f}" in built.markdown
    assert set(built.figures) == {"systems.svg", "small.svg"}
    assert all(f"figures/{name}" in built.markdown for name in built.figures)
    assert built.verdict in built.markdown
    assert page.section(results)[0] in built.markdown
    for name, members in results["hypotheses"].items():
        assert f"- *{name}*: {results['protocol']['hypotheses'][name]['claim']}. " in built.markdown
        assert f"{np.mean(claims.accuracies(results, members)):.2f}" in built.markdown
    assert "Teacher `short`: an ensemble of 2, epochs: 1." in built.markdown
