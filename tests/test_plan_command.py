"""``kd plan``: what it says of a run on devices that are not here, and how it refuses."""

import json

import pytest

import runs

KEYS = {"student__widths": (64,), "mesh__devices": None}
VIT = "configs/patient_consistent.py:tiny"


def plan(*arguments, arg="", **keys):
    config = f"--config={runs.ROOT / 'tests' / 'runs.py'}:{arg}"
    overrides = [f"--config.{key.replace('__', '.')}={value}" for key, value in {**KEYS, **keys}.items()]
    return runs.main(["plan", config, *map(str, arguments), *overrides])


def test_a_plan_of_a_run_that_is_not_there_yet(tmp_path, capsys):
    teacher = {"name": "mlp", "widths": (128,)}
    out = tmp_path / "plan.json"
    code = plan("--topology=cpu:8", f"--json={out}", arg="distilled", teacher__model=teacher, mesh__fsdp=2)
    shown = capsys.readouterr().out
    assert code == 0
    found = json.loads(out.read_text())
    student, taught = 64 * 64 + 64 + 64 * 10 + 10, 64 * 128 + 128 + 128 * 10 + 10
    assert found["held"]["parameters"] == 4 * student
    assert found["held"]["teacher"] == 4 * taught
    forward = {"student": 2 * 5 * (64 * 64 + 64 * 10), "teacher": 2 * 5 * (64 * 128 + 128 * 10)}
    backward = forward["student"] + 2 * 5 * 64 * 10  # the images need no gradient
    assert found["step"]["count"]["flops"] == forward["student"] + backward + forward["teacher"]
    assert found["teacher"]["count"]["flops"] == forward["teacher"]
    assert "all-reduce" in found["step"]["count"]["collectives"]
    for word in ("parameters", "temporaries", "all-reduce", "FLOPs of products"):
        assert word in shown


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
        (("--topology=cpu:2",), {"sharding__student__paths": {"x/*": ("fsdp",)}}, "no parameter matches 'x/*'"),
        (("--topology=cpu:2", "--mfu=2"), {}, "--mfu is a part of the peak"),
        (("--topology=cpu:2", "--price_per_chip_hour=-1"), {}, "--price_per_chip_hour must be 0 or more"),
    ],
)
def test_bad_input(arguments, keys, words, capsys):
    assert plan(*arguments, **keys) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("kd: ")
    assert words in line
