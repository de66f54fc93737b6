"""Who a run is stays what it was: recorded runs keep their fingerprints whatever is added."""

import json

import pytest

import golden
from experiments.hinton2015.digits import run as digits
from experiments.hinton2015.mnist import protocol as mnist
from kd.config import build, fingerprint_of, identity, load_config
from kd.runs.stages import Stage, stage_fingerprints

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
    "hinton2015_digits": (digits, lambda: RESULTS / "digits" / "results.json", ()),
    "hinton2015_mnist": (mnist, lambda: RESULTS / "results.json", ("parts", "hinton2015-mnist")),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_recorded_runs_are_those_of_the_experiment(name):
    """Training runs alone: a computation is another one when its code changes."""
    module, path, keys = EXPERIMENTS[name]
    results = json.loads(path().read_text())
    for key in keys:
        results = results[key]
    config = load_config(golden.ROOT / "configs" / f"{name}.py")
    stages = module.make_stages(build(module.Protocol, config, "config"))
    runs = [stage.name for stage in stages if isinstance(stage, Stage)]
    now = stage_fingerprints(stages)
    assert runs
    assert {run: now[run] for run in runs} == {run: recorded(results)[run] for run in runs}
