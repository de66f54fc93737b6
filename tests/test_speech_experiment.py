"""Sections 4 and 6 end to end on synthetic words: what is measured, how it resumes, what the page
says.
"""

import copy
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
import speech
from experiments.hinton2015.speech import align, claims, corpus, hypotheses, measure, page, stages
from experiments.hinton2015.speech.protocol import MEASURES, RUNS, Protocol
from kd import data as kd_data
from kd.config import build, load_config, resolve, to_json
from kd.core.types import Outputs, Teacher
from kd.data.audio.speech import speech_fingerprint
from kd.errors import KdError
from kd.evidence import machine
from kd.pages.report import build_page
from kd.processes.signals import Interrupted
from kd.runs import stages as kd_stages
from kd.runs.build import build_task
from kd.runs.load import load_trained
from kd.training import loop
from kd.training.task import make_step

CONFIG = runs.ROOT / "configs" / "hinton2015_speech.py"


def tiny(source, **changes):
    """The experiment on the synthetic corpus: small networks, two seeds, seconds."""
    config = load_config(CONFIG, "quick").to_dict()
    config["speech"] |= {
        "data": {"source": str(source), "data_dir": None},
        "utterances": None,
        "bins": 12,
        "per_word": 3,
    }
    config |= {
        "ensemble": 2,
        "temperatures": (1.0, 4.0),
        "bands": {"share_of_gain": (0.8, 1.5)},
        **changes,
    }
    for name in RUNS:
        config[name]["student"]["widths"] = (16,)
        config[name]["data"] |= {"batch_size": 64, "eval": "validation", "train": "train"}
        config[name] |= {
            "total_epochs": 4 if name == "aligner" else 3,
            "eval_epochs": 1.0,
            "checkpoint_epochs": None,
        }
        config[name]["mesh"]["devices"] = 1
        config[name]["log_steps"] = 64
        config[name]["optim"]["learning_rate"] = 1e-2
    for name in ("small_hard", "small_soft"):
        config[name]["data"]["train"] = "train[:30%]"
    if "hypotheses" not in changes:
        config["teachers"] = {"short": config["baseline"] | {"total_epochs": 1}}
        config["hypotheses"] = {
            name: hypothetically(config, name) for name in ("unchanged", "hard", "small")
        }
    return config


def hypothetically(config, name):
    """Hypotheses that change nothing, and one that has another teacher."""
    distilled = copy.deepcopy(config["distilled"])
    distilled["objective"]["soft_targets"]["temperature"] = 4.0
    return {
        "unchanged": {"claim": "nothing is changed", "run": distilled, "control": "hard"},
        "hard": {"claim": "nor is it here", "of": "baseline", "run": config["baseline"]},
        "small": {
            "claim": "the teacher",
            "of": "small_soft",
            "run": config["small_soft"],
            "teacher": "short",
        },
    }[name]


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
    one, other = (claims.counts(m, "frame_errors") for m in results["systems"]["baseline"])
    assert np.any(one != other)
    spec = json.loads(next(folder.glob("stages/baseline-*/run.json")).read_text())["spec"]
    assert spec["population"] == {"init_seed": [0, 1]}


def test_the_reference_is_the_first_baseline(finished):
    folder, _ = finished
    one, many = (
        json.loads(next(folder.glob(f"stages/{name}-*/stage.json")).read_text())["evaluation"][
            "members"
        ][0]
        for name in ("reference", "baseline")
    )
    assert one["nll"] == pytest.approx(many["nll"], rel=1e-3)


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
    found = int(claims.counts(results["systems"]["ensemble"][0], "frame_errors").sum())
    assert abs(wrong - found) <= 2  # ties


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
    found = measure.measure(
        folder,
        done,
        alignment="alignment2",
        run="baseline",
        split="test",
        train=None,
        ensemble=True,
    )
    assert found["ensemble"] == found["members"][0] != found["members"][2]


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


def protocol(config):
    return build(Protocol, config, "config")


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


# --- claims and page ---


def member(total):
    """A model that gets `total` frames of each of six utterances wrong."""
    frame_errors = " ".join([str(total)] * 6)
    return {"frame_errors": frame_errors, "word_errors": "0 1 0 1 0 1", "train_accuracy": 0.5}


def invented(**errors):
    """Results with given wrong frames per system, for six utterances of 100 frames by six
    speakers.
    """

    names = ("baseline", "ensemble", "distilled T=1")
    return {
        "frames": 600,
        "speakers": "ann bob cas dot eve fay",
        "seeds": [0, 1, 2, 3, 4],
        "chosen": 0,
        "protocol": {
            "temperatures": [1.0],
            "paper": {},
            "bands": {"share_of_gain": [0.8, 1.5], "small_gain": [1, 100]},
        },
        "systems": {
            name: [member(errors[name.partition(" ")[0]])] * (5 if name != "ensemble" else 1)
            for name in names
        },
        "small": {
            "hard 100%": [member(40)],
            "hard 3%": [member(60)],
            "soft 3%": [member(errors.get("soft", 50))],
        },
    }


@pytest.mark.parametrize(
    ("distilled", "share", "met"),
    [(40, 0.0, False), (30, 1.0, True), (31, 0.9, True), (36, 0.4, False)],
)
def test_the_share_of_the_gain(distilled, share, met):
    results = invented(baseline=40, ensemble=30, distilled=distilled)
    claim = claims.claims(results)[0]
    assert (claim.value, claim.low, claim.high) == pytest.approx((share, share, share))
    assert claim.met == met
    found = claims.verdict(results)
    assert found.verdict == ("HELPS" if distilled < 40 else "NO EVIDENCE")
    assert found.difference == 6 * (distilled - 40)


def test_accuracies_and_word_error_rates():
    results = invented(baseline=40, ensemble=30, distilled=35)
    assert claims.accuracies(results, results["systems"]["baseline"]) == pytest.approx([60] * 5)
    assert claims.word_error_rates(results["systems"]["baseline"]) == pytest.approx([50] * 5)
    assert claims.claims(results)[1].value == pytest.approx(10)  # soft 3% above hard 3%


def test_the_papers_numbers_are_the_papers():
    paper = {key: tuple(value) for key, value in load_config(CONFIG, "").paper.to_dict().items()}
    found = claims._paper(paper)
    assert found["share_of_gain"] == pytest.approx(0.864, abs=1e-3)
    assert found["ensemble_gain"] == pytest.approx(2.2)
    assert found["small_gain"] == pytest.approx(12.5)
    assert claims._paper({}) == {}


def test_every_measure_that_may_have_a_band_is_measured():
    results = invented(baseline=40, ensemble=30, distilled=35)
    results["protocol"]["bands"] = dict.fromkeys(MEASURES, (-1e9, 1e9))
    assert [claim.about for claim in claims.claims(results) if not claim.met] == []
    assert len(claims.claims(results)) == len(MEASURES)
    assert "All 5 bands are met" in page.verdict_line(results)


def test_a_missed_band_is_said_in_words():
    missed = page.verdict_line(invented(baseline=40, ensemble=30, distilled=36))
    assert "Missed: 1 of 2 bands" in missed
    assert (
        "share of that gain that distilled T=1 has, 0.40 (0.40 to 0.40), below 0.8 to 1.5" in missed
    )
    assert "above 0.8 to 1.5" in page.verdict_line(invented(baseline=40, ensemble=30, distilled=20))


def hypothetical(errors, **changes):
    """Invented results and one hypothesis about them, whose every model gets `errors` frames
    wrong.
    """
    results = invented(baseline=40, ensemble=30, distilled=36)
    config = load_config(CONFIG, "").to_dict()
    results["protocol"] |= {"distilled": config["distilled"], "baseline": config["baseline"]}
    run = copy.deepcopy(config["distilled"]) | {"total_epochs": 7.0}
    run["objective"]["soft_targets"]["temperature"] = 1.0
    results["protocol"]["hypotheses"] = {"one": {"claim": "so it is", "run": run, **changes}}
    results["hypotheses"], results["teachers"], results["protocol"]["split"] = (
        {"one": [member(errors)] * 5},
        {},
        "test",
    )
    return results


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (31, "**enough**"),
        (33, "part of it"),
        (36, "no evidence"),
        (39, "worse"),
        (10, "part of it"),
    ],
)
def test_what_a_hypothesis_says(errors, said):
    """31 wrong frames of 100 are a share of 0.9, in its band; 36 are those of the run that it
    varies; 10 is above.
    """
    results = hypothetical(errors)
    found = hypotheses.tested(results, "one")
    assert found.share[0] == pytest.approx((40 - errors) / 10)
    assert found.change.difference == 6 * (errors - 36)
    assert hypotheses.outcome(results, "one") == said
    assert hypotheses.numbers(results, "one").startswith(f"{36 - errors:+.2f} (")


def test_a_control_is_told_from_what_it_controls():
    results = hypothetical(33, control="other")
    results["protocol"]["hypotheses"]["other"] = {
        **results["protocol"]["hypotheses"]["one"],
        "of": "baseline",
    }
    results["hypotheses"]["other"] = hypothetical(35)["hypotheses"]["one"]
    del results["protocol"]["hypotheses"]["other"]["control"]
    assert hypotheses.numbers(results, "one").endswith(
        "against its control, other, +2.00 (+2.00 to +2.00); 50.00 ± 0.00% of its training frames "
        "right"
    )
    assert hypotheses.numbers(results, "other").startswith("+5.00")
    assert hypotheses.outcome(results, "other") == "(control)"


def test_what_a_hypothesis_changes_is_read_from_its_config():
    row = hypotheses.section(hypothetical(33, teacher="baseline"))[3].splitlines()[2]
    assert "| one | epochs: 7; teacher: the ensemble |" in row
    assert hypotheses.section({**hypothetical(33), "hypotheses": {}}) == []


@pytest.mark.parametrize(
    ("best", "place"), [(0.0, "at the edge"), (20.0, "inside"), (40.0, "at the edge")]
)
def test_the_page_says_where_in_its_grid_the_word_penalty_lies(best, place):
    assert place in page._penalty({"penalty": best, "wer": [[20.0, 0.1], [0.0, 0.3], [40.0, 0.2]]})


def test_the_configs_hypotheses_differ_in_one_thing_each():
    config = load_config(CONFIG, "")
    chosen = config.distilled.copy_and_resolve_references()
    chosen.objective.soft_targets.temperature = 5.0
    arms = {"distilled": chosen, "baseline": config.baseline, "small_soft": config.small_soft}
    for name, one in config.hypotheses.items():
        before, after = (
            json.loads(to_json(resolve(run))) for run in (arms[one.get("of", "distilled")], one.run)
        )
        changed = [key for key in before if before[key] != after[key]]
        assert len(changed) + ("teacher" in one) == 1, name


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
    found = build_page(json.loads(json.dumps(results)))
    assert ("58.9%" in found.markdown) == paper
    for members in results["systems"].values():
        assert f"{np.mean(claims.accuracies(results, members)):.2f}" in found.markdown
    assert set(found.figures) == {"systems.svg", "small.svg"}
    assert all(f"figures/{name}" in found.markdown for name in found.figures)
    assert found.verdict in found.markdown
    assert page.section(results)[0] in found.markdown
    for name, members in results["hypotheses"].items():
        assert f"- *{name}*: {results['protocol']['hypotheses'][name]['claim']}. " in found.markdown
        assert f"{np.mean(claims.accuracies(results, members)):.2f}" in found.markdown
    assert "Teacher `short`: an ensemble of 2, epochs: 1." in found.markdown


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (0,)}, "config.seeds must hold at least 2"),
        ({"ensemble": 1}, "config.ensemble be no smaller"),
        ({"seeds": (1, 0)}, "count up from 0"),
        ({"split": "train"}, "config.split"),
        ({"temperatures": ()}, "a number each"),
        ({"realignments": -1}, "realignments 0 or more"),
        ({"speech": {"window": 3, "target": 4}}, "target must lie between 1 and window"),
        ({"speech": {"per_word": 0}}, "per_word"),
        ({"speech": {"bin": 3}}, "did you mean 'bins'"),
        ({"bands": {"share_of_gian": (0.8, 1.5)}}, "did you mean 'share_of_gain'"),
        ({"bands": {"share_of_gain": (1.5, 0.8)}}, "swap them"),
        ({"hypotheses": {"a": {"claim": "b"}}}, "hypotheses.a.run is missing"),
        (
            {"hypotheses": {"a": {"claim": "b", "run": {}, "teacher": "shot"}}},
            "unknown config.hypotheses.a.teacher",
        ),
        (
            {"hypotheses": {"a": {"claim": "b", "run": {}, "control": "a"}}},
            "unknown config.hypotheses.a.control",
        ),
        (
            {
                "hypotheses": {
                    "a": {"claim": "b", "run": {}, "of": "baseline", "teacher": "reference"}
                }
            },
            "has none",
        ),
        (
            {"hypotheses": {"a": {"claim": "b", "run": {"population": {"seed": (1,)}}}}},
            "are set by the experiment",
        ),
    ],
)
def test_a_config_that_makes_no_sense(source, tmp_path, changes, message):
    config = tiny(source)
    config["speech"] |= changes.get("speech", {})
    config |= {key: value for key, value in changes.items() if key != "speech"}
    with pytest.raises(KdError, match=message):
        stages.run(config, tmp_path)


def test_clips_shorter_than_a_word_has_states(source, tmp_path):
    config = tiny(source)
    config["speech"]["per_word"] = 70
    with pytest.raises(KdError, match="asks for 70 states"):
        stages.run(config, tmp_path)


# --- the paper's size ---


@pytest.mark.parametrize("run", ["baseline", "distilled"])
def test_the_step_of_the_papers_size_compiles(run):
    """8 x 2,560 units, 14,000 states, 26 frames of 40: the real step, abstractly; 85 million
    parameters.
    """
    spec = resolve(load_config(CONFIG, "paper")[run])
    frames = np.zeros((1000, 40), np.float16)
    data = kd_data.arrays(
        frames, np.zeros(900, int), num_classes=14000, starts=np.arange(900), window=26
    )
    logits = jax.ShapeDtypeStruct((10, 14000), jnp.float32)
    teacher = Teacher(
        logits,
        lambda table, batch: Outputs(
            jnp.broadcast_to(table[:, None], (10, len(batch["index"]), 14000)), "arithmetic"
        ),
    )
    task = build_task(spec, data, teacher if run == "distilled" else None)
    state = jax.eval_shape(lambda: loop.initial_state(task))
    parameters = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
    assert 82e6 < parameters < 90e6
    step = make_step(task)
    rows = jax.ShapeDtypeStruct((spec.data.batch_size,), jnp.int32)
    batch = jax.eval_shape(kd_data.gather, jax.eval_shape(lambda: kd_data.to_device(data)), rows)
    compiled = jax.jit(step).lower(state, logits, batch, task.members.hparams).compile()
    # 6 without the inputs' gradient
    assert compiled.cost_analysis()["flops"] > 5.5 * parameters * spec.data.batch_size


@pytest.mark.parametrize(
    ("run", "path", "value", "message"),
    [
        ("distilled", ("data", "eval"), "test", "config.distilled looks at 'test' while it trains"),
        ("small_hard", ("early_stopping",), "test[:9]", "config.small_hard looks at 'test"),
        (
            "distilled",
            ("student", "widths"),
            (9, 9, 9),
            "config.baseline and config.distilled must train one student",
        ),
        (
            "small_soft",
            ("total_epochs",),
            77.0,
            "config.small_hard and config.small_soft must train one student",
        ),
    ],
)
def test_arms_that_would_not_be_compared_fairly_are_refused(
    source, tmp_path, run, path, value, message
):
    config = tiny(source)
    part = config[run]
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(KdError, match=re.escape(message)):
        stages.run(config, tmp_path)
