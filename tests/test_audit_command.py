"""``kd audit``: two work directories compared, shown, written, refused."""

import functools
import json

import numpy as np
import pytest

import kd
import runs
from kd.auditing import measures as auditing
from kd.auditing import page as audit_page
from kd.cli.main import main
from kd.runs.workdir import find


@functools.cache
def students():
    """A finished population of two that learned from `runs.finished()`."""
    folder = runs.shared()
    keys = {"population": {"seed": (0, 1)}, "teacher__workdir": runs.finished()}
    assert runs.train(folder / "run", arg="population", **keys) == 0
    return folder / "run"


def audit(*arguments):
    return main(["audit", str(runs.finished()), str(students()), *map(str, arguments)])


@pytest.fixture
def before():
    finished = {folder: runs.hashes(folder) for folder in (runs.finished(), students())}
    yield
    assert {folder: runs.hashes(folder) for folder in finished} == finished


@pytest.mark.usefixtures("before")
def test_kd_audit_end_to_end(tmp_path, capfd):
    capfd.readouterr()
    assert (
        audit(f"--out={tmp_path / 'deep' / 'out'}", "--missing_class=3", "--missing_class=8") == 0
    )
    shown = capfd.readouterr().out
    page = tmp_path / "deep" / "out" / "audit.html"
    assert shown.splitlines()[-1] == str(page)
    audited = json.loads((page.parent / "audit.json").read_text())
    again = auditing.audit_workdirs(runs.finished(), students(), missing_classes=(3, 8))
    assert audited == json.loads(json.dumps(again))
    assert audited["split"] == "test[:60]"
    assert audited["missing"]["matched_on"] == "digits train[:120]"
    for table in audit_page.tables(audited):
        assert table.title in shown
        for row in table.rows:
            assert row[0] in shown
    assert audited["missing"]["shown"] == [3, 8]
    assert "Bias of classes 3, 8; the student WAS trained on 3, 8" in shown
    assert "chosen on test[:60]" in shown
    text = page.read_text()
    assert text.count("data:image/svg+xml;base64,") == 3
    assert "figures/" not in text
    evaluated = json.loads((students() / "evaluation.json").read_text())["members"]
    assert [m["errors"] for m in audited["student"]["members"]] == [m["errors"] for m in evaluated]


def test_a_sweep_has_a_row_for_each_setting(tmp_path, capfd):
    """Each row is what an audit of that setting's members alone says."""
    assert runs.train(tmp_path / "teacher", population={"seed": (0, 1)}) == 0
    sweep = {"seed": (0, 1, 0, 1), "soft_targets": {"temperature": (1.0, 1.0, 8.0, 8.0)}}
    taught = {"workdir": str(tmp_path / "teacher")}
    assert runs.train(tmp_path / "sweep", arg="distilled", teacher=taught, population=sweep) == 0
    capfd.readouterr()
    command = ["audit", str(tmp_path / "teacher"), str(tmp_path / "sweep"), "--missing_class=3"]
    assert main(command) == 0
    said = capfd.readouterr().out
    audited = json.loads((tmp_path / "sweep" / "audit" / "audit.json").read_text())
    names = ["soft_targets.temperature=1.0", "soft_targets.temperature=8.0"]
    assert audited["settings"] == [names[0], names[0], names[1], names[1]]
    assert all(said.count(name) == 5 for name in names)
    for number, table in enumerate(audit_page.tables(audited)[:2]):
        for half, row in enumerate(table.rows):
            part = slice(2 * half, 2 * half + 2)
            alone = {
                **audited,
                "settings": [],
                "student": {"members": audited["student"]["members"][part]},
                "pair": {"members": audited["pair"]["members"][part]},
            }
            wanted = [of.rows for of in audit_page.tables({**alone, "missing": None})]
            assert row[0] == names[half]
            cell = wanted[0][0][2] if number == 0 else wanted[1][0][1]
            assert row[1] == cell
    page = (tmp_path / "sweep" / "audit" / "audit.html").read_text("utf-8")
    assert page.count("<img") == 1


def test_it_goes_into_the_student_by_default_and_no_probe_is_shown(tmp_path, capfd):
    runs.copied(runs.finished(), tmp_path / "student")
    capfd.readouterr()
    assert (
        main(["audit", str(runs.finished()), str(tmp_path / "student"), "--split=test[:20]"]) == 0
    )
    shown = capfd.readouterr().out
    assert sorted(path.name for path in (tmp_path / "student" / "audit").iterdir()) == [
        "audit.html",
        "audit.json",
    ]
    assert "Never shown" not in shown
    assert "On 20 examples" in shown
    assert runs.train(tmp_path / "student") == 0  # which is still the run that it was


def test_students_that_a_config_paired_are_compared_with_their_own_teachers(tmp_path, capfd):
    teachers, others, paired = (tmp_path / name for name in ("teachers", "others", "paired"))
    assert runs.train(teachers, population__seed="(0,1,2)", total_steps=30) == 0
    assert runs.train(others, population__seed="(4,5,6)", total_steps=30) == 0
    columns = {"population__seed": "(3,3)", "population__teacher": "(2,0)"}
    assert runs.train(paired, arg="distilled", teacher__workdir=teachers, **columns) == 0
    runs.moved(teachers, tmp_path / "moved")  # it is that teacher wherever it lies
    teachers = tmp_path / "moved"
    audited = auditing.audit_workdirs(teachers, paired)
    library = kd.audit(
        *map(kd.load_trained, (teachers, paired)), kd.load("digits", "test[:60]"), pairs=(2, 0)
    )
    assert {key: audited[key] for key in library} == library
    capfd.readouterr()
    assert main(["audit", str(teachers), str(paired)]) == 0
    shown = capfd.readouterr().out
    for words in (
        "its own teacher, each of 2",
        "Its own teacher in each student",
        "mean of the teachers",
    ):
        assert words in shown
    assert "by number from 0: 2, 0." in (paired / "audit" / "audit.html").read_text()
    for teacher, student in ((others, paired), (teachers, others)):  # it taught none of these
        assert "pairs" not in auditing.audit_workdirs(teacher, student)["teacher"]


@pytest.fixture
def refused(tmp_path, capfd):
    """Run ``kd audit``, which must refuse with one line that holds every word, and write
    nothing.
    """

    def run(teacher, student, *arguments, words, out=None):
        capfd.readouterr()
        out = out or tmp_path / "out"
        assert (
            main(["audit", str(teacher), str(student), f"--out={out}", *map(str, arguments)]) == 2
        )
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("kd: ")
        for word in words:
            assert word in line
        assert not (tmp_path / "out").exists()

    return run


def test_runs_that_are_none(tmp_path, refused):
    good = runs.finished()
    refused(tmp_path / "nowhere", good, words=["nowhere is not a work directory", "kd train"])
    refused(good, tmp_path / "nowhere", words=["nowhere is not a work directory", "kd train"])
    runs.copied(good, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "evaluation.json").unlink()
    refused(
        tmp_path / "unfinished",
        good,
        words=["the teacher in", "has not finished training", "finish that run"],
    )
    refused(good, tmp_path / "unfinished", words=["the student in", "has not finished training"])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--split=tset", ["'tset'", "did you mean 'test'"]),
        ("--missing_class=10", ["missing class 10 is out of range", "0 to 9"]),
        ("--missing_class=-1", ["--missing_class must be a class", "'-1'", "--missing_class=3"]),
        ("--missing_class=three", ["--missing_class must be a class", "'three'"]),
        ("--missing_class=2.5", ["--missing_class must be a class", "'2.5'"]),
        ("--config.seed=1", ["'kd audit' takes no config", "--config.seed=1"]),
    ],
)
def test_options_that_cannot_be(option, words, refused):
    refused(runs.finished(), runs.finished(), option, words=words)


def test_classes_that_the_split_does_not_hold(refused):
    labels = kd.load("digits", "test[:4]").labels
    absent = next(c for c in range(10) if c not in labels)
    words = [f"missing class {absent} has no example in the evaluated split", "choose a split"]
    refused(
        runs.finished(),
        runs.finished(),
        "--split=test[:4]",
        f"--missing_class={absent}",
        words=words,
    )
    every = [f"--missing_class={c}" for c in range(10)]
    refused(runs.finished(), runs.finished(), *every, words=["all 10 classes are missing"])


@pytest.mark.disk("a name in a bucket hides no folder; test_bucket_runs.py refuses to be written")
def test_a_folder_that_cannot_be_written(tmp_path, refused):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "audit.html").mkdir(parents=True)
    for out in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / "taken"):
        refused(
            runs.finished(),
            runs.finished(),
            out=out,
            words=["cannot write into", "choose another --out"],
        )


def test_pairs_that_do_not_fit(tmp_path, files, refused, capfd):
    images = np.random.default_rng(0).random((60, 8, 8), np.float32)
    labels = np.arange(60) % 3
    arrays = {"train_inputs": images, "test_inputs": images}
    np.savez(files / "three.npz", **arrays, train_labels=labels, test_labels=labels)
    np.savez(
        files / "small.npz",
        **{k: v[:, :4, :4] for k, v in arrays.items()},
        train_labels=labels,
        num_classes=10,
    )
    keys = {"data__train": "train", "data__eval": "test"}
    assert runs.train(tmp_path / "three", data__source=f"npz:{files / 'three.npz'}", **keys) == 0
    refused(
        runs.finished(),
        tmp_path / "three",
        words=["teacher answers with 10 classes", "student with 3"],
    )
    assert runs.train(tmp_path / "small", data__source=f"npz:{files / 'small.npz'}", **keys) == 0
    refused(
        runs.finished(),
        tmp_path / "small",
        words=["split 'test' has no labels", "choose a labelled split"],
    )
    refused(
        runs.finished(),
        tmp_path / "small",
        "--split=train",
        words=["the teacher cannot read inputs of shape (4, 4)"],
    )


def test_a_class_left_out_of_a_student_of_resized_images(tmp_path):
    """The teacher's training split is read as it was trained on, streamed and resized."""
    keys = {"data__stream": True, "data__image_size": 16}
    assert runs.train(tmp_path / "teacher", **keys) == 0
    taught = {
        "teacher__workdir": tmp_path / "teacher",
        "teacher__precompute": False,
        "data__classes": "(0,1,2,4,5,6,7,8,9)",
    }
    assert (
        runs.train(tmp_path / "student", arg="distilled", objective__hard="none", **taught, **keys)
        == 0
    )
    audited = auditing.audit_workdirs(tmp_path / "teacher", tmp_path / "student")
    assert audited["missing"]["classes"] == [3]


def test_the_shorthand_of_a_stage_is_found(tmp_path, capfd):
    runs.copied(runs.finished(), tmp_path / "stages" / "student-01234567")
    assert main(["audit", str(runs.finished()), str(tmp_path / "stages" / "student")]) == 0
    assert (find(tmp_path / "stages" / "student").path / "audit" / "audit.html").is_file()


def test_a_teacher_that_lacked_the_class_too_has_no_matched_offset(tmp_path):
    without = {"data__classes": (0, 1, 2, 4, 5, 6, 7, 8, 9)}
    assert runs.train(tmp_path / "teacher", **without) == 0
    audited = auditing.audit_workdirs(tmp_path / "teacher", runs.finished(), missing_classes=[3])
    assert audited["missing"]["share"] is None
    assert "matched" not in audited["missing"]["members"][0]


def test_what_the_student_was_never_shown_is_called_so(tmp_path):
    assert runs.train(tmp_path / "student", data__classes=(0, 1, 2, 4, 5, 6, 7, 8, 9)) == 0
    audited = auditing.audit_workdirs(runs.finished(), tmp_path / "student")
    assert audited["missing"]["shown"] == []
    assert audit_page.missing_table(audited).title == "Never shown: class 3"
    audited = auditing.audit_workdirs(runs.finished(), tmp_path / "student", missing_classes=[3, 4])
    assert audited["missing"]["shown"] == [4]
