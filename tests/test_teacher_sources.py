"""Laws of where a teacher comes from: one spelling, one refusal in one line, and the same students
whatever the spelling.
"""

import csv
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kd
import reference
import runs
import tiny
from kd.cli.main import main
from kd.config import load_config, parse, resolve
from kd.errors import KdError
from kd.runs.workdir import find

DATA = dataclasses.replace(kd.load("digits", "train[:120]"), named=None)
P = reference.softmax(3 * np.random.default_rng(0).normal(size=(120, 10)), 1.0).astype(np.float32)


@pytest.fixture
def refused(capfd):
    def run(arguments, *words):
        capfd.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        said = capfd.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert all(word in said[0] for word in words), said[0]

    return run


def table(path, columns, rows):
    """A CSV file: names of columns, and their cells."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return f"table:{path}"


def distilled(workdir, *arguments, **keys):
    keys = {"objective__hard": "none", **keys}
    return runs.kd("train", f"--workdir={workdir}", *arguments, arg="distilled", **keys)


# Spelling


@pytest.mark.parametrize(
    ("text", "scheme", "place"),
    [
        ("run:runs/teacher", "run", "runs/teacher"),
        ("run:with:colon", "run", "with:colon"),
        ("table:soft.csv", "table", "soft.csv"),
        ("hf:models/vit", "hf", "models/vit"),
        ("weights:x.npz", "weights", "x.npz"),
        ("mine.models:answer", "function", "mine.models:answer"),
    ],
)
def test_a_source_says_what_it_is(text, scheme, place):
    source = parse(text)
    assert (source.scheme, source.place, source.text) == (scheme, place, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("npz:file.npz", ("npz: means data", "table:FILE")),
        ("folder:images", ("means data",)),
        ("hf:", ("run:DIR, hf:DIR, weights:FILE, table:FILE or package.module:function",)),
        ("weights:", ("weights:FILE",)),
        ("x.safetensors", ("did you mean weights:x.safetensors?",)),
        ("store:x", ("run:DIR",)),
        ("runs/teacher", ("did you mean run:runs/teacher?",)),
        ("soft.csv", ("did you mean table:soft.csv?",)),
        ("run:", ("run:DIR",)),
        ("", ("names no teacher",)),
        ("two words:f", ("names no teacher",)),
        ("table:http://bucket/x.csv", ("is an address", "gs://BUCKET")),
    ],
)
def test_what_is_no_source_is_refused(text, words):
    with pytest.raises(KdError) as error:
        parse(text)
    assert all(word in str(error.value) for word in words), error.value


def test_two_places_for_one_teacher_are_refused(refused, tmp_path):
    both = {"teacher__workdir": "a", "teacher__source": "run:a"}
    refused(distilled(tmp_path, **both), "both say where the teacher comes from")


def test_what_is_typed_takes_the_place_of_what_the_config_says():
    file = runs.ROOT / "configs" / "digits.py"
    for key, typed in (("source", "table:soft.csv"), ("workdir", "elsewhere")):
        teacher = resolve(load_config(file, "distil", [f"teacher.{key}={typed}"])).teacher
        told = {name: getattr(teacher, name) for name in ("source", "workdir")}
        assert told == {"source": None, "workdir": None, key: typed}


def test_a_run_and_its_folder_are_one_teacher(tmp_path):
    teacher = runs.finished()
    assert main(distilled(tmp_path / "one", teacher__workdir=teacher)) == 0
    assert main(distilled(tmp_path / "two", teacher__source=f"run:{teacher}")) == 0
    runs.same_bytes(tmp_path / "one", tmp_path / "two")
    first, two = find(tmp_path / "one"), find(tmp_path / "two")
    assert first.fingerprint == two.fingerprint
    assert first.lineage == two.lineage
    assert first.lineage.teacher.source == f"run:{teacher.resolve()}"
    assert main(distilled(tmp_path / "one", teacher__source=f"run:{teacher}")) == 0


def test_a_table_is_refused_beside_views(refused, tmp_path):
    keys = {"teacher__source": "table:x.csv", "data__jitter_pixels": 1}
    refused(distilled(tmp_path, **keys), "answers once", "config.data.jitter_pixels")


# Tables


def asked(teacher, temperature=1.0):
    """The softened distributions of a table, ``[n v]``."""
    rows = np.arange(teacher.manifest.rows)
    return np.exp(teacher.apply(teacher.variables, {"index": rows}).log_probs(temperature))


def test_every_format_holds_the_same_teacher(files):
    np.save(files / "p.npy", P)
    np.savez(files / "p.npz", probabilities=P)
    order = np.random.default_rng(1).permutation(120)
    classes = np.random.default_rng(2).permutation(10)
    np.savez(
        files / "shuffled.npz",
        probabilities=P[order][:, classes],
        index=order,
        class_names=classes,
    )
    rows = [[i, *map(float, P[i, classes])] for i in order]
    marked = table(files / "p.csv", ["index", *(f"prob_{c}" for c in classes)], rows)
    plain = table(files / "plain.csv", ["id", *classes], rows)
    bare = table(files / "bare.csv", P[0].tolist(), P[1:].tolist())
    told = {"kind": "probabilities", "data": DATA}
    wanted = kd.soft_labels(probabilities=P, data=DATA)
    for source in ("p.npz", "shuffled.npz"):
        teacher = kd.teacher(f"table:{files / source}", data=DATA)
        assert teacher.manifest == wanted.manifest
        assert teacher.fingerprint == wanted.fingerprint
    assert kd.teacher(marked, data=DATA).manifest == wanted.manifest
    for source in (f"table:{files / 'p.npy'}", plain, bare):
        assert kd.teacher(source, **told).manifest == wanted.manifest


def test_logits_and_softened_probabilities_are_one_teacher(files):
    z = 3 * np.random.default_rng(0).normal(size=(120, 10)).astype(np.float32)
    softened = reference.softmax(z, 4.0)
    np.savez(files / "said.npz", probabilities=softened, temperature=4.0)
    np.savez(files / "unsaid.npz", probabilities=softened)
    np.savez(files / "logits.npz", logits=z)
    first, two, three = (
        kd.teacher(f"table:{files / name}.npz", data=DATA, temperature=t)
        for name, t in (("logits", None), ("said", None), ("unsaid", 4.0))
    )
    np.testing.assert_allclose(asked(first, 2.0), asked(two, 2.0), rtol=1e-4, atol=1e-6)
    assert two.manifest == three.manifest
    with pytest.raises(KdError, match="softened at 4"):
        kd.teacher(f"table:{files / 'said.npz'}", data=DATA, temperature=2.0)


def test_numbers_of_rows_are_those_of_the_split(files):
    np.savez(files / "p.npz", probabilities=P, index=np.arange(120))
    part = kd.load("digits", "train[30:90]")
    whole = kd.teacher(f"table:{files / 'p.npz'}", data=part)
    assert whole.manifest == kd.soft_labels(probabilities=P[30:90], data=part).manifest
    few = kd.of_classes(DATA, (1, 2))
    chosen = kd.teacher(f"table:{files / 'p.npz'}", data=few)
    rows = np.flatnonzero(np.isin(DATA.labels, (1, 2)))
    assert chosen.manifest == kd.soft_labels(probabilities=P[rows], data=few).manifest


FILES = ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "train/dog/new/3.png")
NAMED = dataclasses.replace(
    kd.arrays(np.arange(4.0)[:, None], np.array([0, 0, 1, 1]), class_names=("cat", "dog")),
    named=np.array(FILES, object),
)
SPELLINGS = (
    ("{}", "./{}", "/data/images/{}"),
    ("cat/1.png", "cat/2.png", "dog/1.png", "new/3.png"),
    ("cat/1", "2", "dog/1", "3.png"),
)


@given(
    order=st.permutations(range(4)),
    classes=st.permutations(("cat", "dog")),
    spelling=st.sampled_from(range(3)),
    pattern=st.sampled_from(SPELLINGS[0]),
)
def test_the_order_of_rows_and_columns_changes_nothing(
    order, classes, spelling, pattern, tmp_path_factory
):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    p = {name: [0.1 * k + 0.05 for k in range(4)] for name in ("cat",)}
    p["dog"] = [1 - value for value in p["cat"]]
    names = [pattern.format(file) for file in FILES] if spelling == 0 else SPELLINGS[spelling]
    rows = [[*(p[name][k] for name in classes), names[k]] for k in order]
    rows.insert(2, [0.5, 0.5, "test/cat/1.png"])  # of another split
    source = table(path, [*(f"probability_{name}" for name in classes), "file"], rows)
    wanted = kd.soft_labels(probabilities=np.transpose([p["cat"], p["dog"]]), data=NAMED)
    np.testing.assert_allclose(asked(kd.teacher(source, data=NAMED)), asked(wanted), rtol=1e-6)


ROWS = [[0.5, 0.5, name] for name in FILES]


@pytest.mark.parametrize(
    ("columns", "rows", "words"),
    [
        (["prob_cat", "prob_dog"], [row[:2] for row in ROWS], ("names no example", "'file'")),
        (["prob_cat", "prob_dog", "file"], ROWS[1:], ("no row for 1 of 4", "train/cat/1.png")),
        (["prob_cat", "prob_dog", "file"], [*ROWS, ROWS[0]], ("two rows for one example",)),
        (["prob_cat", "prob_dog", "file"], [[1, 0, "1"], *ROWS], ("several examples",)),
        (["prob_cat", "prob_dig", "file"], ROWS, ("has no 'dog'", "has 'dig'")),
        (["prob_cat", "prob_cats", "file"], ROWS, ("has no 'dog'",)),
        (["prob_cat", "file"], [[1, name] for name in FILES], ("has no 'dog';",)),
        (["cat", "dog", "file"], ROWS, ("does not say what it holds", "teacher.kind")),
        (["prob_cat", "logit_dog", "file"], ROWS, ("logits and probabilities", "teacher.kind")),
        (["logit_cat", "logit_dog", "file"], ROWS, ("look like probabilities",)),
        (["prob_cat", "prob_dog", "file"], [["x", 1, FILES[0]]], ("line 2", "'x'")),
    ],
)
def test_a_table_that_does_not_fit_is_refused(columns, rows, words, files):
    source = table(files / "t.csv", columns, rows)
    with pytest.raises(KdError) as error:
        kd.teacher(source, data=NAMED)
    assert all(word in str(error.value) for word in words), error.value


def test_other_files_are_refused(files):
    def said(source, **options):
        with pytest.raises(KdError) as error:
            kd.teacher(source, data=DATA, **options)
        return str(error.value)

    assert "no table of soft labels" in said(f"table:{files / 'nowhere.npz'}")
    np.savez(files / "x.npz", soft=P)
    assert "it holds 'soft'" in said(f"table:{files / 'x.npz'}")
    np.savez(files / "x.npz", logits=P, probabilities=P)
    assert "teacher.kind says which" in said(f"table:{files / 'x.npz'}")
    np.savez(files / "x.npz", probabilities=P)
    assert "says that it holds" in said(f"table:{files / 'x.npz'}", kind="logits")
    np.savez(files / "x.npz", probabilities=P[:, 0])
    assert "a row per example" in said(f"table:{files / 'x.npz'}")
    np.savez(files / "x.npz", probabilities=P, files=[f"{i}.png" for i in range(120)])
    assert "have no files" in said(f"table:{files / 'x.npz'}")
    np.save(files / "x.npy", np.array([{"a": 1}]), allow_pickle=True)
    assert "Python objects" in said(f"table:{files / 'x.npy'}", kind="logits")
    np.save(files / "x.npy", P[:100])
    assert "100 rows" in said(f"table:{files / 'x.npy'}", kind="probabilities")


def test_a_changed_table_is_another_run(tmp_path, files, refused, capfd):
    file, run = files / "t.npz", tmp_path / "run"
    command = distilled(run, teacher__source=f"table:{file}", teacher__licence="CC0-1.0")
    np.savez(file, probabilities=P)
    assert main(command) == 0
    recorded = find(run).lineage.teacher
    assert recorded.source == f"table:{file}"
    assert recorded.fingerprint == kd.teacher(f"table:{file}", data=DATA).fingerprint
    assert recorded.digest
    assert recorded.licence == "CC0-1.0"
    assert main(command) == 0
    np.savez(file, probabilities=P[::-1])
    capfd.readouterr()
    assert main(command) == 2
    *owed, refusal = capfd.readouterr().err.splitlines()
    assert all(line.startswith("inherits: ") for line in owed[:-1])  # then that it is no advice
    assert "belongs to another run" in refusal
    assert "teacher.workdir" in refusal
    np.savez(file, probabilities=P, more=1)  # the same answers
    assert main(command) == 0
    assert main(["eval", f"--workdir={run}"]) == 0
    assert f"no agreement with table:{file}" in capfd.readouterr().err
    assert main([*command, "--dry_run"]) == 0


def test_streamed_examples_learn_from_a_table_as_those_in_memory(tmp_path, files):
    np.savez(files / "t.npz", probabilities=P)
    source = {"teacher__source": f"table:{files / 't.npz'}"}
    assert main(distilled(tmp_path / "memory", **source)) == 0
    assert main(distilled(tmp_path / "stream", data__stream="true", **source)) == 0
    memory, stream = (runs.losses(tmp_path / name) for name in ("memory", "stream"))
    assert memory == pytest.approx(stream, rel=1e-5)


def test_a_plan_needs_no_table(capfd):
    command = distilled("nowhere", "--show-sharding", teacher__source="table:nowhere.csv")
    assert main(command) == 0


def test_the_library_refuses_what_changes_nothing(files):
    np.savez(files / "t.npz", probabilities=P)
    for source, options, word in (
        (f"table:{files / 't.npz'}", {"average": "geometric", "data": DATA}, "average"),
        (f"run:{runs.finished()}", {"kind": "logits"}, "kind"),
        (f"run:{runs.finished()}", {"average": "geometric"}, "single model"),
        (f"table:{files / 't.npz'}", {}, "data must be a Dataset"),
    ):
        with pytest.raises(KdError, match=word):
            kd.teacher(source, **options)
    live = kd.teacher(f"run:{runs.finished()}")
    assert live.fingerprint == find(runs.finished()).fingerprint
    tiny.close(live.variables, kd.load_trained(runs.finished()).teacher().variables)
