"""What the speech experiment claims of its results, and what of its config it refuses."""

import copy
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import speech
from experiments.hinton2015.speech import claims, hypotheses, page, stages
from experiments.hinton2015.speech.protocol import MEASURES
from kd import data as kd_data
from kd.config import load_config, resolve, to_json
from kd.core.types import Outputs, Teacher
from kd.errors import KdError
from kd.runs.build import build_task
from kd.training import loop
from kd.training.task import make_step
from small_speech import CONFIG, tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return speech.write(tmp_path_factory.mktemp("speech") / "corpus")


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
    verdict = claims.verdict(results)
    assert verdict.verdict == ("HELPS" if distilled < 40 else "NO EVIDENCE")
    assert verdict.difference == 6 * (distilled - 40)


def test_accuracies_and_word_error_rates():
    results = invented(baseline=40, ensemble=30, distilled=35)
    assert claims.accuracies(results, results["systems"]["baseline"]) == pytest.approx([60] * 5)
    assert claims.word_error_rates(results["systems"]["baseline"]) == pytest.approx([50] * 5)
    assert claims.claims(results)[1].value == pytest.approx(10)  # soft 3% above hard 3%


def test_the_papers_numbers_are_the_papers():
    paper = {key: tuple(value) for key, value in load_config(CONFIG, "").paper.to_dict().items()}
    measures = claims._paper(paper)
    assert measures["share_of_gain"] == pytest.approx(0.864, abs=1e-3)
    assert measures["ensemble_gain"] == pytest.approx(2.2)
    assert measures["small_gain"] == pytest.approx(12.5)
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
    tested = hypotheses.tested(results, "one")
    assert tested.share[0] == pytest.approx((40 - errors) / 10)
    assert tested.change.difference == 6 * (errors - 36)
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
    for name, hypothesis in config.hypotheses.items():
        before, after = (
            json.loads(to_json(resolve(run)))
            for run in (arms[hypothesis.get("of", "distilled")], hypothesis.run)
        )
        changed = [key for key in before if before[key] != after[key]]
        assert len(changed) + ("teacher" in hypothesis) == 1, name


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
