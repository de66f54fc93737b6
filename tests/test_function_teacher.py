"""Laws of a function as a teacher: it is asked once about each example, and teaches as its answers
do.
"""

import sys

import numpy as np
import pytest

import kd
import runs
import tiny
from kd.cli.main import main
from kd.errors import KdError
from kd.runs.splits import load_splits
from kd.runs.teachers import load_teacher
from kd.runs.workdir import find
from kd.teachers.function import Unasked, complete, function_teacher

W = np.random.default_rng(0).normal(size=(16, tiny.CLASSES)).astype(np.float32)
DATA = tiny.dataset()
MODULE = """
import pathlib
import numpy as np

W = np.random.default_rng(0).normal(size=(64, 10))
FILE = pathlib.Path(__file__).with_name("factor.txt")
calls = []

def answer(inputs):
    calls.append(len(inputs))
    return inputs.reshape(len(inputs), -1) @ W * float(FILE.read_text())

number = 3
"""


def linear(inputs):
    return inputs.reshape(len(inputs), -1) @ W


def softmax(inputs):
    z = np.exp(linear(inputs))
    return z / z.sum(axis=-1, keepdims=True)


def test_a_function_teaches_as_its_answers_do():
    wanted = kd.soft_labels(logits=linear(DATA.inputs), data=DATA)
    for size in (1, 10, 64, 500):
        teacher = kd.teacher(linear, data=DATA, batch_size=size)
        tiny.close(teacher.variables, wanted.variables)
        assert teacher.manifest.data == DATA.fingerprint
    p = kd.teacher(softmax, data=DATA, kind="probabilities")
    assert p.manifest.kind == "probabilities"
    soft = [kd.term("soft_targets", temperature=3.0)]
    students = [
        kd.fit(tiny.PLAIN, DATA, soft, teacher=source, epochs=2, batch_size=16).params
        for source in (teacher, wanted, p)
    ]
    tiny.close(students[0], students[1])
    tiny.close(students[1], students[2], rtol=1e-4, atol=1e-5)


def test_it_sees_what_a_model_sees_or_what_is_stored():
    stored = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    data, shown = kd.arrays(stored, np.array([0, 1, 1])), []

    def look(inputs):
        shown.append(inputs)
        return np.zeros((len(inputs), 2))

    kd.teacher(look, data=data)
    assert shown[-1].dtype == np.float32
    np.testing.assert_array_equal(shown[-1], stored.astype(np.float32) * np.float32(1 / 255))
    look.stored = True
    kd.teacher(look, data=data)
    assert shown[-1].dtype == np.uint8
    np.testing.assert_array_equal(shown[-1], stored)


def test_each_example_is_asked_about_once_and_counted():
    rows, counted = [], []

    def look(inputs):
        rows.extend(inputs[:, 0].tolist())
        return np.zeros((len(inputs), 2))

    data = kd.arrays(np.arange(10.0, dtype=np.float32)[:, None], np.arange(10) % 2)
    teacher = function_teacher(look, data, batch_size=4)
    assert isinstance(teacher, Unasked)
    assert rows == [0, 1]  # whose answers tell the shape
    complete(teacher, counted.append)
    assert rows[2:] == list(range(10))
    assert counted == [4, 8, 10]
    windows = kd.arrays(
        np.arange(10.0, dtype=np.float32)[:, None], starts=np.array([3, 0, 6]), window=2,
        num_classes=2,
    )  # fmt: skip
    rows.clear()
    kd.teacher(lambda x: look(x[:, 0]), data=windows)
    assert rows[2:] == [3, 0, 6]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: np.zeros(len(x)), "a number per class"),
        (lambda _: np.zeros((1, 5)), "a row of numbers for each"),
        (lambda x: np.array([["a"]] * len(x)), "a row of numbers for each"),
        (lambda x: np.zeros((len(x), 5 if len(x) == 2 else 4)), "must answer alike"),
        (lambda x: np.full((len(x), 5), np.nan), "NaN"),
        (softmax, "look like probabilities"),
    ],
)
def test_what_is_no_answer_is_refused(function, words):
    with pytest.raises(KdError, match=words):
        kd.teacher(function, data=DATA)


def test_what_the_function_raises_is_its_own():
    with pytest.raises(ZeroDivisionError):
        kd.teacher(lambda _: 1 / 0, data=DATA)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's, ``mine_teaches``."""
    (tmp_path / "mine_teaches.py").write_text(MODULE)
    (tmp_path / "factor.txt").write_text("1")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine_teaches", None)
    yield tmp_path
    sys.modules.pop("mine_teaches", None)


def command(workdir, *arguments, **keys):
    keys = {"teacher__source": "mine_teaches:answer", "objective__hard": "none", **keys}
    return runs.kd("train", f"--workdir={workdir}", *arguments, arg="distilled", **keys)


@pytest.fixture
def refused(capfd):
    def run(arguments, *words):
        capfd.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        said = capfd.readouterr().err.strip().splitlines()
        assert all(word in said[-1] for word in words), said[-1]

    return run


def test_a_run_learns_from_a_function_as_from_its_table(module):
    assert main(command(module / "run")) == 0
    import mine_teaches

    assert mine_teaches.calls == [2, 40, 40, 40]  # the shape, then each example
    data = kd.load("digits", "train[:120]")
    np.save(module / "z.npy", mine_teaches.answer(data.inputs.astype(np.float32) * (1 / 16)))
    table = {"teacher__source": f"table:{module / 'z.npy'}", "teacher__kind": "logits"}
    assert main(command(module / "table", **table)) == 0
    learnt, looked_up = (runs.losses(module / name) for name in ("run", "table"))
    assert learnt == pytest.approx(looked_up, rel=1e-4)
    lineage = find(module / "run", "mine_teaches").lineage
    assert lineage.teacher.source == "mine_teaches:answer"
    assert set(lineage.code) == {"mine_teaches"}


def test_a_dry_run_asks_about_the_first_examples_alone(module):
    assert main(command(module / "run", "--dry_run")) == 0
    import mine_teaches

    assert mine_teaches.calls == [2]


def test_other_code_or_other_answers_are_another_run(module, refused):
    run = module / "run"
    assert main(command(run)) == 0
    assert main(command(run)) == 0
    (module / "factor.txt").write_text("2")
    refused(command(run), "trained on other answers", "--despite_changes")
    assert main(command(run, "--despite_changes")) == 0
    (module / "factor.txt").write_text("1")
    assert main(command(run)) == 0
    (module / "mine_teaches.py").write_text(MODULE.replace("@ W", "@ (2 * W)"))
    refused(command(run), "belongs to another run", "code.mine_teaches")


def test_code_is_allowed_when_it_is_typed_and_not_when_it_is_stored(module, refused):
    run = module / "run"
    assert main(command(run)) == 0
    refused(["eval", f"--workdir={run}"], "mine_teaches:answer", "--allow_code=mine_teaches")
    assert main(["eval", f"--workdir={run}", "--allow_code=mine_teaches"]) == 0


def test_names_of_no_function_are_refused(module, refused):
    for source, *words in (
        ("mine_teaches:number", "is no function"),
        ("mine_teaches:anwser", "did you mean 'answer'"),
        ("not_there_at_all:f", "PYTHONPATH"),
    ):
        refused(command(module / "run", teacher__source=source), *words)
    columns = {"population": {"seed": (0, 1), "teacher": (0, 1)}}
    refused(command(module / "run", **columns), "population.teacher", "leave it out")


def test_probabilities_of_a_function_are_softened_as_said(module):
    (module / "mine_teaches.py").write_text(
        "import numpy as np\ndef answer(x):\n  return np.full((len(x), 10), 0.1)\n"
    )
    sys.modules.pop("mine_teaches", None)
    from kd.config import load_config, resolve

    overrides = [
        "teacher.source=mine_teaches:answer",
        "teacher.kind=probabilities",
        "teacher.temperature=2.0",
    ]
    spec = resolve(load_config(runs.ROOT / "tests" / "runs.py", "distilled", overrides))
    teacher = complete(load_teacher(spec, load_splits(spec)[0]))
    assert teacher.manifest.kind == "probabilities"
    assert teacher.manifest.temperature == 2.0
