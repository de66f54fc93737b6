"""``kd card``: what a run is, its bill of materials, and hashes that are computed again."""

import json
import shutil

import pytest

import runs
from kd.errors import KdError
from kd.evidence import interval
from kd.provenance.bom import bom
from kd.provenance.card import markdown, write_card
from kd.provenance.checking import verify_card
from kd.provenance.facts import facts_of, results_of
from kd.runs import find


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A teacher and its student, with a card."""
    folder = tmp_path_factory.mktemp("card")
    shutil.copytree(runs.finished(), folder / "teacher")
    taught = {"teacher__source": f"run:{folder / 'teacher'}", "teacher__licence": "gemma"}
    assert runs.train(folder / "student", arg="distilled", **taught) == 0
    assert runs.main(["card", str(folder / "student")]) == 0
    return folder


@pytest.fixture(scope="module")
def facts(place):
    return facts_of(place / "student")


def test_the_card_names_what_it_is_of(place, facts):
    text = (place / "student" / "card" / "README.md").read_text()
    assert text == markdown(facts)
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert "license: gemma" in front
    assert "- distillation" in front
    assert '- "digits"' in front
    for part in (facts.fingerprint, facts.weights, "Model Derivative", "no legal advice"):
        assert part in body
    assert 'a0["run:teacher"] -->|teacher| model' in body
    accuracy = find(place / "student").evaluation["members"][0]["accuracy"]
    assert f"| accuracy | {accuracy:.4f} |" in body


def test_the_bill_validates_against_its_schema(facts):
    schema = pytest.importorskip("cyclonedx.schema")
    validation = pytest.importorskip("cyclonedx.validation.json")
    told = bom(facts)
    check = validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str
    assert check(json.dumps(told)) is None
    told["metadata"]["component"]["hashes"][0]["content"] = "short"
    assert check(json.dumps(told)) is not None  # the validator validates


def test_the_bill_says_what_the_run_recorded(facts):
    model = bom(facts)["metadata"]["component"]
    (teacher,) = model["pedigree"]["ancestors"]
    assert teacher["version"] == facts.lineage.teacher.fingerprint
    assert teacher["licenses"][0]["license"]["name"] == "gemma"
    assert model["licenses"][0]["license"]["name"] == "gemma"
    assert {"name": "kd:digest", "value": facts.lineage.teacher.digest} in teacher["properties"]
    assert bom(facts) == bom(facts)


def test_an_interval_is_that_of_the_evidence():
    members = [
        {"accuracy": 0.9, "errors": 2, "wrong": [3, 7]},
        {"accuracy": 0.85, "errors": 3, "wrong": [3, 9, 11]},
    ]
    (result,) = results_of({"members": members})
    table = [[0.0] * 20 for _ in members]
    for row, member in zip(table, members, strict=True):
        for place in member["wrong"]:
            row[sorted({3, 7, 9, 11}).index(place)] = 1.0
    value, low, high = interval([table], lambda e: 1 - e / 20, resamples=1000)
    assert result.value == pytest.approx(value)
    assert result.interval == (pytest.approx(max(0, low)), pytest.approx(min(1, high)))
    (perfect,) = results_of({"members": [{"accuracy": 1.0, "errors": 0, "wrong": []}]})
    assert perfect.interval is None


def statuses(checks):
    return {what: status for what, status, _ in checks}


def test_every_hash_is_computed_again(place, tmp_path):
    """And one of a teacher that is another one now differs; one of a teacher that is gone cannot
    be computed, which is said.
    """
    told = statuses(verify_card(place / "student"))
    assert set(told.values()) == {"same"}
    weights = f"weights of run:{place / 'teacher'}"
    assert {"the fingerprint", "the trained arrays", "run.json", weights} <= set(told)
    assert {"split train[:120]", "split test[:60]"} <= set(told)
    moved = place / "moved"
    (place / "teacher").rename(moved)
    try:
        gone = verify_card(place / "student")
        assert statuses(gone) == {**told, weights: "cannot be computed"}
        text = markdown(facts_of(place / "student"))
        assert "The teacher `run:teacher` is not there any more" in text
        assert str(place) not in text
        assert "<br/>gone" in text
    finally:
        moved.rename(place / "teacher")
    folder = tmp_path / "card"
    write_card(facts_of(place / "student"), folder)
    bill = json.loads((folder / "bom.cdx.json").read_text())
    bill["metadata"]["component"]["hashes"][0]["content"] = "0" * 64
    (folder / "bom.cdx.json").write_text(json.dumps(bill))
    assert (
        statuses(verify_card(place / "student", folder=folder))["the trained arrays"] == "DIFFERS"
    )
    assert runs.main(["card", str(place / "student"), "--verify", f"--out={folder}"]) == 2
    (folder / "bom.cdx.json").write_text("{}")
    with pytest.raises(KdError, match="is damaged: 'metadata'; write it again"):
        verify_card(place / "student", folder=folder)
    none = statuses(verify_card(place / "student", folder=tmp_path))
    assert none["the trained arrays"] == "cannot be computed"


def test_an_export_carries_both(place, tmp_path, capsys):
    out = tmp_path / "out"
    assert runs.main(["export", str(place / "student"), str(out), "--format=safetensors"]) == 0
    assert {"README.md", "bom.cdx.json", "model.safetensors"} <= {p.name for p in out.iterdir()}
    again = tmp_path / "again"
    again.mkdir()
    (again / "README.md").write_text("mine")
    assert runs.main(["export", str(place / "student"), str(again)]) == 2
    assert "holds README.md already" in capsys.readouterr().err
    assert [p.name for p in again.iterdir()] == ["README.md"]


def test_a_card_names_the_library_that_reads_the_files_beside_it(place):
    facts = facts_of(place / "student")
    assert "library_name: kd" in markdown(facts)
    assert "library_name: transformers" in markdown(facts, "transformers")


def test_no_run_is_one_line(tmp_path, capsys):
    assert runs.main(["card", str(tmp_path)]) == 2
    assert "is not a work directory" in capsys.readouterr().err
