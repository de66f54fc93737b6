"""``kd plan``: what it says of a run on devices that are not here, and how it refuses."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import time

import jax
import pytest

import runs
from kd.config import resolve, to_json
from kd.errors import KdError
from kd.planning.chips import parse_topology
from kd.planning.lower import lower
from kd.planning.plan import ask_worker
from kd.runs.build import build_task
from kd.runs.splits import load_splits
from kd.runs.teachers import load_teacher
from kd.teachers.trained import precompute
from kd.training import program

KEYS = {"student__widths": (64,), "mesh__devices": None}
VIT = "configs/patient_consistent.py:tiny"


def plan(*arguments, arg="", **keys):
    config = f"--config={runs.ROOT / 'tests' / 'runs.py'}:{arg}"
    overrides = [
        f"--config.{key.replace('__', '.')}={value}" for key, value in {**KEYS, **keys}.items()
    ]
    return runs.main(["plan", config, *map(str, arguments), *overrides])


def test_a_plan_of_a_run_that_is_not_there_yet(tmp_path, capsys):
    teacher = {"name": "mlp", "widths": (128,)}
    out = tmp_path / "plan.json"
    keys = {"teacher__model": teacher, "teacher__precompute": False, "mesh__fsdp": 2}
    code = plan("--topology=cpu:8", f"--json={out}", arg="distilled", **keys)
    shown = capsys.readouterr().out
    assert code == 0
    planned = json.loads(out.read_text())
    student, taught = 64 * 64 + 64 + 64 * 10 + 10, 64 * 128 + 128 + 128 * 10 + 10
    assert planned["held"]["parameters"] == 4 * student
    assert planned["held"]["teacher"] == 4 * taught
    forward = {"student": 2 * 5 * (64 * 64 + 64 * 10), "teacher": 2 * 5 * (64 * 128 + 128 * 10)}
    backward = forward["student"] + 2 * 5 * 64 * 10  # the images need no gradient
    assert planned["step"]["count"]["flops"] == forward["student"] + backward + forward["teacher"]
    assert planned["teacher"]["count"]["flops"] == forward["teacher"]
    assert "all-reduce" in planned["step"]["count"]["collectives"]
    for word in ("parameters", "temporaries", "all-reduce", "FLOPs of products"):
        assert word in shown


@pytest.mark.parametrize(
    ("taught_by", "population"),
    [
        ("one", {}),
        ("one", {"seed": (0, 1)}),
        ("two", {"seed": (0, 1)}),
        ("two", {"teacher": (1, 0)}),
    ],
)
def test_answers_computed_beforehand_are_planned_as_they_are_trained_on(
    taught_by, population, tmp_path
):
    """The program is that of the real table: no teacher is in the step, and its one pass is still
    counted.
    """
    assert runs.train(tmp_path / "two", population__seed="(0,1)") == 0
    config = runs.get_config("distilled")
    config.teacher.workdir = str(tmp_path / "two" if taught_by == "two" else runs.finished())
    config.population = population
    spec = resolve(config)
    task = build_task(spec, data := load_splits(spec)[0], load_teacher(spec, data))
    task = dataclasses.replace(task, teacher=precompute(task.teacher, data))
    planned = lower(spec, jax.devices()[:1])
    assert planned.step.as_text() == program.lower(task).as_text()
    answers = 120 * 10 * (2 if taught_by == "two" else 1)
    assert planned.held["teacher"] == 4 * answers
    assert (planned.teacher is None) == ("teacher" in population)


def test_a_teacher_is_declared_key_by_key(tmp_path):
    """As it is all at once; another model's options are not kept."""
    planned = []
    for keys in (
        {"teacher__model": {"name": "mlp", "widths": (128,)}},
        {"teacher__model__name": "mlp", "teacher__model__widths": (128,)},
        {
            "teacher__model": {"name": "vit", "variant": "S/16"},
            "teacher__model__name": "mlp",
            "teacher__model__widths": (128,),
        },
    ):
        out = tmp_path / "plan.json"
        assert (
            plan(
                "--topology=cpu:2",
                f"--json={out}",
                arg="distilled",
                teacher__precompute=False,
                **keys,
            )
            == 0
        )
        planned.append(json.loads(out.read_text())["held"]["teacher"])
    assert len(set(planned)) == 1


def test_a_table_goes_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- plan -->\nold\n<!-- /plan -->\nafter\n")
    assert plan("--topology=cpu:2", "--topology=cpu:4", f"--table={page}") == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- plan -->")
    assert text.endswith("<!-- /plan -->\nafter\n")
    assert "| cpu:2 | 2 |" in text
    assert "| cpu:4 | 4 |" in text
    assert "old" not in text


@pytest.mark.parametrize(
    ("arguments", "keys", "words"),
    [
        (("--topology=v5e:16x17",), {}, "v5e:16x16"),
        (("--topology=v9:4x4",), {}, "v9"),
        (("--topology=cpu:8",), {"mesh__fsdp": 3}, "has 6 places and there are 8 devices"),
        (("--topology=cpu:16",), {}, "batch_size 40 does not divide over 16 devices"),
        (
            ("--topology=cpu:2",),
            {"sharding__student__paths": {"x/*": ("fsdp",)}},
            "no parameter matches 'x/*'",
        ),
        (("--topology=cpu:2", "--mfu=2"), {}, "--mfu is a part of the peak"),
        (
            ("--topology=cpu:2", "--price_per_chip_hour=-1"),
            {},
            "--price_per_chip_hour must be 0 or more",
        ),
    ],
)
def test_bad_input(arguments, keys, words, capsys):
    assert plan(*arguments, **keys) == 2
    said = capsys.readouterr().err.strip().splitlines()
    (line,) = [line for line in said if not line.startswith("compiling for ")]  # progress
    assert line.startswith("kd: ")
    assert words in line


@pytest.mark.parametrize("member", [1, 2])
@pytest.mark.parametrize("teachers", [None, (2, 0)])
def test_a_population_is_planned_with_one_teacher_or_with_one_each(teachers, member):
    population = {"seed": (0, 1), **({} if teachers is None else {"teacher": teachers})}
    config = runs.get_config("population")
    config.population, config.teacher.model = population, {"name": "mlp", "widths": (16,)}
    config.mesh.devices, config.mesh.member = None, member
    lowered = lower(resolve(config), jax.devices()[:4])
    assert lowered.facts.members == 2
    parameters = 4 * (64 * 16 + 16 + 16 * 10 + 10)
    assert lowered.held["teacher"] == (parameters if teachers is None else parameters * 2 // member)
    assert (lowered.teacher is None) == (teachers is not None)
    assert lowered.held["parameters"] == 4 * (64 * 8 + 8 + 8 * 10 + 10) * 2 // member


def test_an_ensemble_that_is_not_trained_yet_is_planned():
    config = runs.get_config("distil")
    config.mesh.devices = None
    config.teacher.precompute, config.teacher.model = False, {"name": "mlp", "widths": (16,)}
    held = {}
    for members in (None, 1, 3):
        config.teacher.members = members
        held[members] = lower(resolve(config), jax.devices()[:1]).held["teacher"]
    assert held == {None: held[1], 1: 4 * (64 * 16 + 16 + 16 * 10 + 10), 3: 3 * held[1]}


def test_a_worker_ends_with_the_one_who_asked(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import os, pathlib, time\n\ndef lower(spec, devices):\n"
        f"    pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n    "
        "time.sleep(60)\n"
    )
    ask = (
        f"ask_worker({to_json(resolve(runs.get_config()))!r}, parse_topology('cpu:1'), "
        "'slow:lower')"
    )
    modules = (
        "from kd.planning.chips import parse_topology; from kd.planning.plan import ask_worker"
    )
    code = f"{modules}; {ask}"
    asking = subprocess.Popen(
        [sys.executable, "-c", code], env={**runs.environment(1), "PYTHONPATH": str(tmp_path)}
    )
    worker = int(waited_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    asking.kill()
    asking.wait()
    waited_for(lambda: not alive(worker))


def waited_for(condition):
    for _ in range(600):
        if result := condition():
            return result
        time.sleep(0.1)
    raise AssertionError("it did not happen in a minute")


def alive(process):
    try:
        return (
            pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except FileNotFoundError:
        return False


def test_a_worker_that_breaks_down_says_why(tmp_path, monkeypatch):
    text = """
import jax

def cause(x):
    raise ValueError("the cause")

def lower(spec, devices):
    jax.jit(cause)(1.0)
"""
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(KdError, match=r"broke down \(exit 1\): ValueError: the cause"):
        ask_worker(to_json(resolve(runs.get_config())), parse_topology("cpu:1"), "broken:lower")
