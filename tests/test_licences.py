"""The licence gate: dated rules, a lineage that is followed, and what stops."""

import dataclasses
import datetime
import json

import pytest

import runs
from kd.errors import KdError
from kd.lineage import DataSet, FirstWeights, Lineage, Weights
from kd.provenance import LicenceGate, load_rules
from kd.provenance.gate import Debt, card_licence, check_export, owed

RULES = load_rules()
TODAY = max(row.read for row in RULES.terms)
ROW = """fresh_days = 10
[[terms]]
pattern = ["mine"]
route = "weights"
verdict = "notice"
obligation = "Say so."
source = "https://example.org"
read = 2026-01-01
basis = "text"
"""


def lineage(*teachers, data="npz:mine.npz", licence="own", init=None):
    taught = tuple(Weights(source, "f", "d", terms) for source, terms in teachers)
    return Lineage((DataSet(data, "", "t", {}, licence),), {}, {}, init=init, teachers=taught)


def gate(told, override="", recorded=None):
    said = []
    outcome = LicenceGate(override, RULES, TODAY, said.append)(told, recorded)
    return outcome, said


def test_what_ships_has_a_source_and_a_date_each():
    for row in RULES.terms:
        assert row.source.startswith("https://")
        assert isinstance(row.read, datetime.date)
        assert row.basis in ("text", "summary")
        assert row.obligation or row.verdict == "allow"
        assert (row.verdict in ("allow", "notice")) or row.route != "data"


def test_ones_own_is_asked_nothing():
    for told in (lineage(), lineage(("table:soft.npz", "own"), ("mine:function", "own"))):
        assert gate(told) == (None, [])
    assert gate(lineage(data="digits")) == (None, [])  # its authors are named on the card
    (debt,) = owed(lineage(data="tfds:mnist"), RULES, TODAY)
    assert (debt.verdict, debt.licence) == ("notice", "CC-BY-SA-3.0")


@pytest.mark.parametrize(
    ("licence", "verdict", "stops"),
    [
        ("Apache-2.0", "notice", False),
        ("CC0-1.0", "allow", False),
        ("gemma", "derivative", False),
        ("llama3.1", "name", False),
        ("llama3", "refuse", True),
        ("openai", "refuse", True),
        ("CC-BY-NC-4.0", "ask", True),
        ("secret", "unknown", True),
    ],
)
def test_a_teachers_terms(licence, verdict, stops):
    told = lineage(("run:gone", licence))
    (debt,) = owed(told, RULES, TODAY)
    assert (debt.verdict, debt.stops) == (verdict, stops)
    if not stops:
        gate(told)
        return
    with pytest.raises(KdError, match=r"the licence gate stops: run:gone .* no legal advice"):
        gate(told)
    outcome, said = gate(told, "we asked")
    assert outcome["override"] == "we asked"
    assert said[-1] == "This is no legal advice."
    assert gate(told, recorded=outcome)[0] == outcome  # a run that goes on need not say it again


def test_weights_from_outside_of_which_nobody_says_whose_they_are_stop(tmp_path):
    with pytest.raises(KdError, match=r"weights:x.npz is under unknown .* nobody says whose"):
        gate(lineage(("weights:x.npz", "own")))
    folder = tmp_path / "hf"
    folder.mkdir()
    begun = FirstWeights(f"hf:{folder}", "f", "d")
    with pytest.raises(KdError, match="nobody says whose"):
        gate(lineage(init=begun))
    (folder / "README.md").write_text("---\ntags:\n- x\nlicense: gemma\n---\n# Hello\n")
    outcome, said = gate(lineage(init=begun))
    assert outcome["inherits"][0]["carries"] == "gemma"
    assert "Model Derivative" in said[0]
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: qwen\n---\n")
    assert card_licence(folder) == "qwen"
    (folder / "README.md").write_text("license: mit\n")
    assert card_licence(folder) == ""


def test_declared_data_counts_too():
    with pytest.raises(KdError, match=r"data npz:mine.npz is under CC-BY-NC-4.0"):
        gate(lineage(licence="CC-BY-NC-4.0"))
    assert gate(lineage(licence="CC0-1.0"))[0]["inherits"][0]["verdict"] == "allow"


def test_a_row_that_is_too_old_lets_nothing_pass():
    later = TODAY + datetime.timedelta(days=RULES.fresh_days)
    told = lineage(("run:gone", "MIT"))
    assert owed(told, RULES, later)[0].verdict == "notice"
    late = owed(told, RULES, later + datetime.timedelta(days=1))
    assert late[0].verdict == "stale"
    assert late[0].stops


MEANS = {
    "an unknown verdict": ('"notice"', '"perhaps"', "unknown verdict in .*row 1: 'perhaps'"),
    "an unknown route": ('"weights"', '"post"', "unknown route in .*row 1: 'post'"),
    "a date that is none": ("2026-01-01", '"soon"', "row 1: read must be a date"),
    "no such day": ("2026-01-01", "2026-02-30", "is no TOML"),
    "a time in place of a day": ("2026-01-01", "2026-01-01T10:00:00", "read must be a date"),
    "no source": ('"https://example.org"', '""', "source must be a text"),
    "an unknown key": ("basis", "basiss", "unknown key in .*row 1: 'basiss'; did you mean 'basis'"),
    "no days": ("fresh_days = 10", "fresh_days = 0", "fresh_days must be a whole number"),
    "patterns in a word": ('["mine"]', '"mine"', "pattern must be a list of words"),
    "no rows": ("[[terms]]", "[[rows]]", "holds no rows of terms"),
}


@pytest.mark.parametrize("case", MEANS)
def test_a_file_that_is_wrong_is_one_line(case, tmp_path, monkeypatch):
    before, after, message = MEANS[case]
    file = tmp_path / "rules.toml"
    file.write_text(ROW)
    monkeypatch.setenv("KD_LICENCES", str(file))
    assert load_rules().of("MINE", "weights").obligation == "Say so."
    file.write_text(ROW.replace(before, after))
    with pytest.raises(KdError, match=message):
        load_rules()


def test_an_export_carries_what_goes_with_it():
    gemma = Debt("run:g", "gemma", "derivative", "o", "s", "gemma")
    assert check_export([gemma], "", "") == "gemma"
    assert check_export([gemma], "Gemma", "") == "Gemma"
    with pytest.raises(KdError, match=r"stops an export as Apache-2.0: run:g is under gemma"):
        check_export([gemma], "Apache-2.0", "")
    assert check_export([gemma], "Apache-2.0", "asked") == "Apache-2.0"
    assert check_export([dataclasses.replace(gemma, carries="")], "MIT", "") == "MIT"


def test_the_gate_follows_every_teacher_and_stops_an_export(tmp_path, capsys):
    """A student of a student of a Gemma teacher, exported as Apache-2.0."""
    teacher = runs.finished()
    first, second = tmp_path / "first", tmp_path / "second"
    taught = {"arg": "distilled", "teacher__source": f"run:{teacher}"}
    assert runs.train(tmp_path / "stopped", **taught, teacher__licence="llama2") == 2
    assert "the licence gate stops" in capsys.readouterr().err
    assert not (tmp_path / "stopped" / "run.json").exists()  # nothing began
    assert runs.train(first, **taught, teacher__licence="gemma") == 0
    assert "inherits: " in capsys.readouterr().err
    assert runs.train(second, **{**taught, "teacher__source": f"run:{first}"}) == 0
    (first / "run.json").rename(tmp_path / "gone.json")  # what it recorded stays known
    out = tmp_path / "out"
    export = ["export", str(second), str(out), "--format=safetensors"]
    capsys.readouterr()
    assert runs.main([*export, "--licence=Apache-2.0"]) == 2
    assert "stops an export as Apache-2.0" in capsys.readouterr().err
    assert not out.exists()
    assert runs.main([*export, "--licence=Apache-2.0", "--licence_override=asked"]) == 0
    assert "The licence gate was overridden: asked" in (out / "README.md").read_text()
    told = json.loads((second / "licences.json").read_text())
    assert [debt["licence"] for debt in told["inherits"] if debt["carries"]] == ["gemma"]
