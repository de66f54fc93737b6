"""Data, teachers and objectives that do not fit together."""

import shutil
import socket

import numpy as np
import pytest

import runs
from kd.runs.load import load_finished
from kd.teachers import answers as predict
from kd.training import loop


@pytest.fixture
def no_network(monkeypatch):
    tried = []

    def refuse(*arguments, **_):
        tried.append(arguments)
        raise OSError("no network in tests")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    yield
    assert tried == []


@pytest.mark.usefixtures("no_network")
def test_data_sets_that_are_not_there(workdir, tmp_path, refused):
    command = runs.kd("train", f"--workdir={workdir}", f"--data_dir={tmp_path}")
    words = (
        f"tfds build mnist --file_format=array_record --data_dir={tmp_path}",
        "--data_dir",
        "TFDS_DATA_DIR",
    )
    refused([*command, "--config.data.source=tfds:mnist"], "'mnist' is not prepared", *words)
    refused(
        [*command, "--config.data.source=tfds:mnits"],
        "TFDS data set 'mnits'",
        "did you mean 'mnist'",
    )


def test_npz_files(workdir, tmp_path, refused):
    images, labels = np.zeros((120, 4, 4), np.float32), np.arange(120) % 3
    command = runs.kd(
        "train", f"--workdir={workdir}", f"--data_dir={tmp_path}", data__source="npz:a.npz"
    )
    command = [*command, "--config.data.eval=train"]
    path = tmp_path / "a.npz"
    refused(command, str(path), "no ", "KD_DATA_DIR")
    path.write_bytes(b"PK not a zip")
    refused(command, str(path), "numpy.savez")
    np.savez(path, test_inputs=images)
    refused(command, "'train'", "known: test")
    nan = np.where(np.arange(120)[:, None, None] == 7, np.nan, images)
    for arrays, *words in [
        (
            {"train_labels": labels, "num_classes": 2},
            "label 2 of example 2 is out of range",
            "0 to 1",
        ),
        ({"train_labels": labels - 2}, "label -2 of example 0 is out of range"),
        ({"train_labels": labels[:5]}, "labels have shape (5,)", "120 examples"),
        ({"train_labels": labels / 1}, "objective.hard needs classes", "labels are numbers"),
        ({"train_inputs": nan}, "inputs must be finite"),
        ({"train_inputs": images[:0]}, "empty: 0 examples"),
        ({}, "num_classes"),
        ({"num_classes": 3}, "objective.hard needs labels"),
    ]:
        np.savez(path, **{"train_inputs": images, **arrays})
        refused(command, *words)
    np.savez(path, train_inputs=images[:, 0], train_labels=labels)
    refused([*command, "--config.data.jitter_pixels=1"], "jitter needs images")


def test_teachers_that_do_not_fit(workdir, tmp_path, refused, monkeypatch):
    """All of it is found before anything is compiled."""
    monkeypatch.setattr(loop, "compile_program", None)
    monkeypatch.setattr(predict, "answers", None)
    command = runs.kd(
        "train", f"--workdir={workdir}", arg="distilled", teacher__workdir=runs.finished()
    )
    refused(
        [*command, "--config.student.classes=12"],
        "student answers with 12 classes",
        "teacher with 10",
    )
    refused(
        [*command, "--config.data.jitter_pixels=1"],
        "config.teacher.precompute",
        "config.data.jitter_pixels",
    )
    np.savez(
        tmp_path / "a.npz", train_inputs=np.zeros((120, 4, 4)), train_labels=np.arange(120) % 10
    )
    command = [
        *command,
        f"--data_dir={tmp_path}",
        "--config.data.source=npz:a.npz",
        "--config.data.eval=train",
    ]
    refused(command, "the teacher cannot read inputs of shape (4, 4)")


def test_a_teacher_without_a_checkpoint(workdir, tmp_path, refused):
    (tmp_path / "teacher").mkdir()
    command = runs.kd(
        "train", f"--workdir={workdir}", arg="distilled", teacher__workdir=tmp_path / "teacher"
    )
    refused(command, "teacher is not a work directory", "kd train")
    shutil.copy(runs.finished() / "run.json", tmp_path / "teacher")
    refused(command, "teacher holds no whole checkpoint", "kd train")
    assert [path.name for path in (tmp_path / "teacher").iterdir()] == ["run.json"]


def test_students_paired_with_teachers_that_are_not_there(workdir, tmp_path, refused):
    columns = {"population": {"seed": (0, 1), "teacher": (0, 5)}}
    command = runs.kd(
        "train",
        f"--workdir={workdir}",
        arg="distilled",
        teacher__workdir=runs.finished(),
        **columns,
    )
    refused(command, "only a population has several teachers")
    assert runs.train(tmp_path / "teachers", population={"seed": (0, 1)}) == 0
    command = runs.kd(
        "train",
        f"--workdir={workdir}",
        arg="distilled",
        teacher__workdir=tmp_path / "teachers",
        **columns,
    )
    refused(command, "paired with teacher 5", "there are 2, from 0")


def test_a_teacher_that_has_not_finished(workdir, tmp_path, refused):
    shutil.copytree(runs.finished(), tmp_path / "teacher")
    (tmp_path / "teacher" / "evaluation.json").unlink()
    command = runs.kd(
        "train", f"--workdir={workdir}", arg="distilled", teacher__workdir=tmp_path / "teacher"
    )
    refused(command, "has not finished training", "finish that run first")


def test_a_teacher_whose_last_checkpoint_is_damaged_is_not_the_one_before(
    workdir, tmp_path, refused
):
    teacher = tmp_path / "teacher"
    assert runs.train(teacher, total_steps=6, checkpoint_epochs=1) == 0
    sums = teacher / "checkpoints" / "checksums" / "6.json"
    command = runs.kd("train", f"--workdir={workdir}", arg="distilled", teacher__workdir=teacher)
    for damage in (lambda: sums.write_text("{}"), sums.unlink):
        damage()
        refused(command, "ended at step 6 and its newest whole checkpoint is of step 3")
        refused(["eval", f"--workdir={teacher}"], "ended at step 6 and its newest whole")
    assert runs.train(teacher, total_steps=6, checkpoint_epochs=1) == 0
    assert load_finished(teacher).params


def test_held_out_data_of_another_kind(workdir, tmp_path, refused):
    inputs, labels = np.zeros((50, 4, 4)), np.arange(50) % 3
    np.savez(
        tmp_path / "a.npz",
        train_inputs=inputs,
        train_labels=labels,
        test_inputs=inputs,
        test_labels=labels + 1,
    )
    source = f"npz:{tmp_path / 'a.npz'}"
    keys = {"data__source": source, "data__train": "train", "data__eval": "test"}
    refused(
        runs.kd("train", f"--workdir={workdir}", **keys), "4 classes", "3", "split of the same kind"
    )


def test_a_column_teacher_without_a_teacher(workdir, refused):
    columns = "--config.population={'seed': (0, 1), 'teacher': (0, 1)}"
    refused(
        runs.kd("train", f"--workdir={workdir}", columns, arg="distilled"),
        "population.teacher",
        "set teacher.source",
    )
