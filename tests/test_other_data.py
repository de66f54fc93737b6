"""An experiment on other data: one option for all its runs, and none of the numbers of its own."""

import json
import pathlib

import pytest

import experiments
import runs
from experiments.hinton2015.mnist import run as mnist
from experiments.hinton2015.parts import of_this_data, plain
from experiments.hinton2015.speech import stages as speech
from kd.cli import main as cli
from kd.config import load_config
from kd.pages.report import build_page

RECORDED = runs.ROOT / "experiments" / "hinton2015" / "results.json"
NUMBERS = ("hinton2015-mnist", "hinton2015-speech")
MADE = ("npz:frames.npz", "npz:text.npz", "npz:images.npz")


def configured(name, source=None):
    experiment = experiments.EXPERIMENTS[name]
    config = load_config(runs.ROOT / "configs" / experiment.config)
    if source is not None:
        cli._set_source(config, source, experiment.data)
    return config.to_dict()


def sources(tree):
    """Every source of data in a config, wherever it stands."""
    if not isinstance(tree, dict):
        return []
    here = [tree["data"]["source"]] if isinstance(tree.get("data"), dict) else []
    return here + [source for part in tree.values() for source in sources(part)]


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_a_source_is_said_once(name):
    """Runs on data that an earlier stage makes keep it: the source is what that stage reads."""
    own, other = sources(configured(name)), sources(configured(name, "other:set"))
    assert own != other
    assert len(own) == len(other)
    made = [source for source in own if source in MADE]
    assert other == [source if source in made else "other:set" for source in own]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_go_with_the_data_they_are_about(name, monkeypatch):
    module = {"hinton2015-mnist": mnist, "hinton2015-speech": speech}[name]
    nothing = {"run_stages": {}, "check": None, "make_stages": [], "measure": {}, "collect": {}}
    for function, answer in nothing.items():
        if hasattr(module, function):
            monkeypatch.setattr(module, function, lambda *_, answer=answer: answer)

    def told(source):
        return module.run(configured(name, source), pathlib.Path())["protocol"]

    own, other = told(None), told("tfds:fashion_mnist")
    assert own["paper"]
    assert own["bands"]
    assert (other["paper"], other["bands"]) == ({}, {})


def test_another_test_split_is_other_data():
    config = configured("hinton2015-mnist")
    data = config["distilled"]["data"]
    assert of_this_data(config, data)["paper"]
    assert not of_this_data(config, {**data, "eval": "test[:100]"})["bands"]


def test_the_page_of_other_data_shows_neither_paper_nor_bands():
    results = json.loads(RECORDED.read_text())["parts"]["hinton2015-mnist"]
    own = build_page(results)
    config = configured("hinton2015-mnist", "tfds:fashion_mnist")
    results["protocol"] = plain(of_this_data(config, config["distilled"]["data"]))
    other = build_page(results)
    assert own.table.columns == ["", "paper", "ours", "n", "band", "verdict"]
    assert other.table.columns == ["", "ours", "n"]
    assert [row[2] for row in own.table.rows] == [row[1] for row in other.table.rows]
    for words in ("on MNIST", "| paper |", "+3.5", "within its band", "The paper's numbers"):
        assert words in own.markdown
        assert words not in other.markdown
    assert "on tfds:fashion_mnist" in other.markdown


def test_the_command_reads_what_it_is_told_to(tmp_path, capfd):
    command = ["reproduce", "hinton2015-digits", "--source=digts", f"--workdir={tmp_path / 'run'}"]
    assert cli.main(command) == 2
    assert "'digts'; did you mean 'digits'" in capfd.readouterr().err.replace("?", "")
