"""Who a run is stays what it was: recorded runs keep their fingerprints whatever is added."""

import json

import pytest

import golden
from experiments.hinton2015.digits import run as digits
from experiments.hinton2015.mnist import protocol as mnist
from experiments.hinton2015.speech import stages as speech
from kd.config import build, fingerprint_of, identity, load_config
from kd.runs.stages import Stage, stage_fingerprint

RECORDED = json.loads(golden.FINGERPRINTS.read_text())
RESULTS = golden.ROOT / "experiments" / "hinton2015"


@pytest.mark.parametrize("name", golden.CONFIGS)
def test_a_config_keeps_its_fingerprints(name):
    now = {key: fingerprint_of(identity(spec)) for key, spec in golden.specs(name).items()}
    assert now == RECORDED[name], "a new field of a config must be marked: see kd.fields"


def test_every_recorded_fingerprint_has_a_config():
    assert sorted(RECORDED) == sorted(golden.CONFIGS)


def recorded(results):
    return {stage["name"]: stage["fingerprint"] for stage in results["stages"]}


EXPERIMENTS = {
    "hinton2015_digits": (digits, RESULTS / "digits" / "results.json", ()),
    "hinton2015_mnist": (mnist, RESULTS / "results.json", ("parts", "hinton2015-mnist")),
    "hinton2015_speech": (speech, RESULTS / "results.json", ("parts", "hinton2015-speech")),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_recorded_runs_are_those_of_the_experiment(name, monkeypatch):
    """Training runs alone, on what was recorded of the stages that each rests on: a computation is
    another one when its code changes.
    """
    module, path, keys = EXPERIMENTS[name]
    results = json.loads(path.read_text())
    for key in keys:
        results = results[key]
    # of the audio, which need not be there: only computations read it
    monkeypatch.setattr(speech, "speech_fingerprint", lambda *_: "")
    config = load_config(golden.ROOT / "configs" / f"{name}.py")
    stages = module.make_stages(build(module.Protocol, config, "config"))
    told = recorded(results)
    runs = [stage for stage in stages if isinstance(stage, Stage)]
    assert runs
    now = {run.name: stage_fingerprint(run, told) for run in runs}
    assert now == {run.name: told[run.name] for run in runs}
