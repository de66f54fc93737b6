"""Laws of CSV files: every way to write a table is the same data, and a bad cell is named."""

import csv
import io
import json
import zipfile

import numpy as np
import pytest

import runs
from kd import data as kd_data
from kd.cli.main import main
from kd.errors import KdError

NAMES = ("cat", "dog", "emu")
INPUTS = np.random.default_rng(0).normal(size=(12, 3)).round(3).astype(np.float32)
LABELS = np.arange(12) * 7 % 3
WORDS = [NAMES[label] for label in LABELS]


def text(labels=WORDS, header=("a", "b", "label", "c"), delimiter=",", inputs=INPUTS, **options):
    """A table whose third column is the label."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, **options)
    if header:
        writer.writerow(header)
    for row, label in zip(inputs.tolist(), labels, strict=True):
        writer.writerow([*row[:2], label, *row[2:]])
    return file.getvalue()


def load(folder, content, query="", split="train", name="t.csv"):
    (folder / name).write_text(content, "utf-8")
    return kd_data.load(f"csv:{name}{query}", split, str(folder))


def refused(folder, content, message, query="", split="train"):
    with pytest.raises(KdError, match=message) as caught:
        load(folder, content, query, split)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "query"),
    [
        (text(), ""),
        (text(delimiter=";"), ""),
        (text(delimiter="\t"), ""),
        (text(quoting=csv.QUOTE_ALL), ""),
        (text().replace("\r\n", "\n"), ""),
        ("\ufeff" + text(), ""),
        (text(header=("a", "b", "Class", "c")), ""),
        (text(header=("a", "b", "kind", "c")), ""),  # the only one that holds words
        (text(header=("a", "b", "kind", "c")), "?label=kind"),
        (text(header=None), ""),
        (text(header=None), "?label=2"),
        (text(header=None), "?label=-2"),
        (text().rstrip("\r\n"), ""),
    ],
)
def test_every_way_to_write_a_table_is_the_same_data(tmp_path, content, query):
    data = load(tmp_path, content, query)
    assert data.inputs.dtype == np.float32
    assert np.array_equal(data.inputs, INPUTS)
    assert data.labels.tolist() == LABELS.tolist()
    assert (data.num_classes, data.class_names, data.scale) == (3, NAMES, 1.0)


@pytest.mark.parametrize("labels", [LABELS, [f"{label}.0" for label in LABELS]])
def test_whole_numbers_are_the_classes_themselves(tmp_path, labels):
    data = load(tmp_path, text(labels))
    assert data.labels.tolist() == LABELS.tolist()
    assert (data.num_classes, data.class_names) == (3, None)
    assert load(tmp_path, text(labels), "?label=label&classes=5").num_classes == 5


def test_columns_are_left_out(tmp_path):
    with_index = "\n".join(
        f"{'' if k == 0 else k - 1},{line}" for k, line in enumerate(text().splitlines())
    )
    assert np.array_equal(load(tmp_path, with_index).inputs, INPUTS)  # as pandas writes it
    assert np.array_equal(load(tmp_path, text(), "?drop=b").inputs, INPUTS[:, [0, 2]])
    assert np.array_equal(load(tmp_path, text(), "?label=label&drop=a,c").inputs, INPUTS[:, [1]])


def test_rows_without_labels(tmp_path):
    content = "\n".join(",".join(map(str, row)) for row in INPUTS.tolist())
    data = load(tmp_path, content, "?label=none&classes=4")
    assert (data.labels, data.num_classes) == (None, 4)
    assert np.array_equal(data.inputs, INPUTS)
    refused(tmp_path, content, "does not say which .*0 to 2.*label=COLUMN")
    refused(tmp_path, content, "pass num_classes", "?label=none")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_file_for_each_split(tmp_path, kind):
    test = text(WORDS[:1], inputs=INPUTS[:1])
    files = {"train.csv": text(), "test.csv": test, "about.md": "no table"}
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "set", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"inside/{name}", content)
    else:
        for name, content in files.items():
            (tmp_path / "set").mkdir(exist_ok=True)
            (tmp_path / "set" / name).write_text(content)
    train, held_out = (kd_data.load("csv:set", s, str(tmp_path)) for s in ("train", "test"))
    assert np.array_equal(train.inputs, INPUTS)
    assert (len(held_out), held_out.class_names, held_out.num_classes) == (1, NAMES, 3)
    assert held_out.labels.tolist() == [LABELS[0]]
    with pytest.raises(KdError, match=r"unknown split .* 'val'; known: test, train"):
        kd_data.load("csv:set", "val", str(tmp_path))


def test_a_slice_of_sorted_rows_does_not_lose_a_class(tmp_path):
    order = np.argsort(LABELS, kind="stable")
    content = text([WORDS[k] for k in order], inputs=INPUTS[order])
    refused(tmp_path, content, r"sorted by class and 'train\[:50%\]' has 2 of", split="train[:50%]")
    assert len(load(tmp_path, content)) == 12
    assert len(load(tmp_path, text(), split="train[:50%]")) == 6


# --- what is refused ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,label\n", "has a header and no rows"),
        ("a,label\n1,x\n2\n", "line 3: 1 cells and 2 columns"),
        ("a,label\n1,x\n,y\n", "line 3, column 'a' holds '', which is no finite number"),
        ("a,label\n1,x\nNA,y\n", "line 3, column 'a' holds 'NA'"),
        ("a,label\n1,x\nnan,y\n", "line 3, column 'a' holds 'nan'"),
        ("a,label\n1,x\n1e99,y\n", "line 3, column 'a' holds '1e99'"),
        ("1,x\n2,y\ninf,y\n", "line 3, column 0 holds 'inf'"),
        ('a,label\n1,"x\n', "cannot read"),
        ("label\nx\n", "no column of numbers"),
        ("a,a,label\n1,2,x\n", "two columns of one name"),
        ("a,b\n1,2\n", "does not say which of its columns is the label"),
        ("a,label,class\n1,x,y\n", "does not say which"),
        ("a,label\n1,-2\n", "label -2 of example 0 is out of range"),
        ("a,label\n1,99999999999999\n", "label"),
        ("a,label\n\x00,x\n", "column 'a'|cannot read"),
        ("a,label\n" + "1" * 200_000 + ",x\n", "cannot read|column 'a'"),
    ],
)
def test_a_table_that_is_none(tmp_path, content, message):
    refused(tmp_path, content, message)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?label=lable", "unknown column of .*did you mean 'label'"),
        ("?lable=x", "unknown option of csv: 'lable'; did you mean 'label'"),
        ("?drop=z", "unknown column"),
        ("?classes=many", "must be a whole number"),
        ("?label=9", "unknown column"),
    ],
)
def test_an_option_that_is_none(tmp_path, query, message):
    refused(tmp_path, text(), message, query)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,label\n1,\xe9\n")
    with pytest.raises(KdError, match=r"cannot read .*t\.csv: .*write it anew, as UTF-8"):
        kd_data.load("csv:t.csv", "train", str(tmp_path))


def test_a_student_learns_from_a_table_and_is_audited_by_name(tmp_path, capfd):
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(150) % 3)
    inputs = (random.normal(size=(150, 3)) + 4 * np.eye(3)[labels]).astype(np.float32)
    (tmp_path / "t.csv").write_text(text([NAMES[k] for k in labels], inputs=inputs))
    keys = {
        "data__source": "csv:t.csv",
        "data__train": "train[:80%]",
        "data__eval": "train[80%:]",
        "total_steps": 40,
    }
    assert runs.train(tmp_path / "run", f"--data_dir={tmp_path}", **keys) == 0
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["members"][0]["accuracy"] > 0.9
    run = str(tmp_path / "run")
    assert main(["audit", run, run, f"--data_dir={tmp_path}"]) == 0
    shown = capfd.readouterr().out
    assert all(f"{name}: " in shown for name in NAMES)
    assert json.loads((tmp_path / "run/audit/audit.json").read_text())["class_names"] == [*NAMES]


def test_of_a_split_without_labels_it_is_said_that_nothing_is_measured(tmp_path, capfd):
    folder = tmp_path / "table"
    folder.mkdir()
    (folder / "train.csv").write_text(text(), "utf-8")
    for name, labels in (("told", WORDS), ("untold", [""] * 12)):
        (folder / f"{name}.csv").write_text(text(labels=labels), "utf-8")
    for name, said in (("told", False), ("untold", True)):
        keys = {"data__source": "csv:table", "data__data_dir": tmp_path, "data__batch_size": 4}
        keys |= {"data__train": "train", "total_steps": 3}
        assert runs.train(tmp_path / name, data__eval=name, **keys) == 0
        line = f"split '{name}' has no labels, so nothing is measured on it"
        assert (line in capfd.readouterr().err) == said
