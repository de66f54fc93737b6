"""Bad input to meshes, rules, plans and streams, in Python and on the command line: one line, and
nothing is lost.
"""

import json
import shutil

import numpy as np
import pytest

import runs
from kd.errors import KdError
from kd.planning import page as plan_page
from kd.runs import load

# In a process of its own, where no checker of types stands in for what a user gets.
SLIPS = """
import json

import flax.linen as nn
import numpy as np

import kd

INPUTS = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
DATA = kd.arrays(INPUTS, np.arange(16) % 4)


class Net(nn.Module):
    # one layer, which is never trained

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(4)(x)


def paths(rules):
    return kd.Sharding(student=kd.Rule("replicate", rules))


WRONG = {
    "a mesh is described by kd.MeshSpec, got 'fsdp'": {"mesh": "fsdp"},
    "mesh.fsdp must be a whole number, got '2'": {"mesh": kd.MeshSpec(fsdp="2")},
    "mesh.fsdp must be a whole number, got None": {"mesh": kd.MeshSpec(fsdp=None)},
    "mesh.fsdp must be a whole number, got 1.0": {"mesh": kd.MeshSpec(fsdp=1.0)},
    "mesh.tensor must be a whole number, got True": {"mesh": kd.MeshSpec(tensor=True)},
    "mesh.members_by must be auto, vmap, loop, or how many at a time": {
        "mesh": kd.MeshSpec(members_by="scan")  # pyright: ignore[reportArgumentType]
    },
    "mesh.members_by must be auto, vmap, loop, or how many at a time, 1 or more, got 0": {
        "mesh": kd.MeshSpec(members_by=0)
    },
    "mesh.devices must be a whole number, got 1.5": {"mesh": kd.MeshSpec(devices=1.5)},
    "sharding must be a kd.Sharding": {"sharding": kd.Rule("fsdp")},
    "sharding.student must be a kd.Rule": {"sharding": kd.Sharding(student="fsdp")},
    "sharding.teacher must be a kd.Rule": {"sharding": kd.Sharding(teacher=None)},
    "'fspd'; did you mean 'fsdp'": {"sharding": kd.Sharding(student=kd.Rule("fspd"))},
    "'fdsp'; did you mean 'fsdp'": {"sharding": kd.Sharding(teacher=kd.Rule("fdsp"))},
    "must map globs to axes, got None": {"sharding": paths(None)},
    "got 'Dense_0/kernel': 'fsdp'": {"sharding": paths({"Dense_0/kernel": "fsdp"})},
    "got 3: ('fsdp',)": {"sharding": paths({3: ("fsdp",)})},
    "'3'; known: data": {"sharding": paths({"Dense_0/kernel": (3,)})},
    "there is none; leave it out": {"sharding": kd.Sharding(teacher=kd.Rule("fsdp", {"x": ()}))},
    "splits the members of a population": {
        "sharding": paths({"Dense_0/kernel": ("member",)}),
        "population": {"seed": (0, 1)},
    },
    "accumulate must be a whole number of 1 or more, got 0": {"accumulate": 0},
    "accumulate must be a whole number of 1 or more, got -1": {"accumulate": -1},
    "accumulate must be a whole number of 1 or more, got 2.0": {"accumulate": 2.0},
    "accumulate must be a whole number of 1 or more, got None": {"accumulate": None},
    "must lie in [0, 1), got 1.0": {"ema": 1.0},
    "must lie in [0, 1), got -0.5": {"ema": -0.5},
    "must lie in [0, 1), got nan": {"ema": float("nan")},
    "must lie in [0, 1), got '0.9'": {"ema": "0.9"},
    "data.batch_size must be a whole number, got 4.0": {"batch_size": 4.0},
    "epochs and seed must be numbers, got epochs='1'": {"epochs": "1"},
    "validation must be a Dataset, got ndarray": {"validation": DATA.inputs},
    "validation is judged by errors": {"validation": kd.arrays(DATA.inputs, num_classes=4)},
}


found = {}
for words, options in WRONG.items():
    try:
        kd.fit(Net(), DATA, [kd.term("hard")], **{"batch_size": 4, "epochs": 1, **options})
        found[words] = "it was trained"
    except kd.KdError as error:
        found[words] = str(error)
    except Exception as error:
        found[words] = repr(error)
print(json.dumps(found))
"""


def test_a_slip_in_python_is_named_before_anything_is_trained():
    done = runs.python("-c", SLIPS, devices=2)
    assert done.returncode == 0, done.stderr
    messages = json.loads(done.stdout.splitlines()[-1])
    assert len(messages) > 20
    for words, message in messages.items():
        assert words in message
        assert "\n" not in message


def a_plan(*arguments):
    topology = (
        []
        if any(argument.startswith("--topology") for argument in arguments)
        else ["--topology=cpu:2"]
    )
    return runs.main(["plan", f"--config={runs.ROOT / 'tests' / 'runs.py'}", *topology, *arguments])


@pytest.fixture
def compiled(monkeypatch):
    """Whether anything was compiled: a list that must stay empty."""
    asked = []
    monkeypatch.setattr("kd.planning.plan.ask_worker", lambda *question: asked.append(question))
    return asked


REFUSED = {
    "--table=notes.md": "notes.md is there already and has no markers",
    "--table=half.md": "half.md is there already and has no markers",
    "--table=bytes.md": "cannot read",
    "--table=.": "is a folder; name a file",
    "--json=.": "is a folder; name a file",
    "--table=": "is a folder; name a file",
    "--table=no/page.md": "there is no folder no; make it",
    "--json=no/plan.json": "there is no folder no; make it",
    "--table=new.md --json=plan.json": "--json holds the plan of one topology",
    "--topology=cpu:1 --topology=cpu:2 --json=plan.json": "--json holds the plan of one topology",
    "--topology=cpu:1 --topology=bad:2": "unknown chip 'bad'",
    "--topology=cpu:1 --topology=bad:2 --table=new.md": "unknown chip 'bad'",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_a_plan_that_cannot_be_written_is_refused_before_it_is_made(
    arguments, tmp_path, compiled, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text("what a user wrote\n")
    (tmp_path / "half.md").write_text("before\n<!-- plan -->\nno end\n")
    (tmp_path / "bytes.md").write_bytes(b"\xff<!-- plan -->\n<!-- /plan -->")
    before = runs.hashes(tmp_path)
    assert a_plan(*arguments.split()) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("kd: ")
    assert REFUSED[arguments] in line
    assert runs.hashes(tmp_path) == before
    assert not compiled


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "page.md").write_text("<!-- plan -->\n<!-- /plan -->\n")
    plan_page.check_outputs(["cpu:2"], str(tmp_path / "page.md"), None)
    plan_page.check_outputs(["cpu:2"], None, str(tmp_path / "new.json"))
    with (
        runs.small_disk(tmp_path / "small") as folder,
        runs.read_only(folder),
        pytest.raises(KdError, match="write"),
    ):
        plan_page.check_outputs(["cpu:2"], None, str(folder / "new.json"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"data__stream": True, "data__image_size": 100000},
            "config.data.image_size must be 1 or more, and 16384 at",
        ),
        ({"accumulate": 2**40}, "config.accumulate must be 1 or more, and below 2^31"),
        ({"mesh__fsdp": 3, "data__source": "npz:not-there.npz"}, "has 3 places and there"),
        ({"teacher__members": 0}, "config.teacher.members must be 1 or more, got 0"),
        (
            {"teacher__members": 3},
            "config.teacher.members counts models and config.teacher.model declares none",
        ),
        (
            {"sharding__teacher__paths": {"x": ()}},
            "sharding.teacher.paths={'x': ()} changes nothing: no term of",
        ),
    ],
)
def test_numbers_that_no_machine_holds(keys, words, tmp_path, capfd):
    assert runs.train(tmp_path / "run", **keys) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert words in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["null", "[1, 2]", "{}", "7"])
def test_checksums_that_are_json_and_no_checksums(text, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(runs.finished(), folder)
    (folder / "evaluation.json").unlink()  # of a run that has not finished the one before is read
    newest = max(
        (folder / "checkpoints" / "checksums").glob("*.json"), key=lambda path: int(path.stem)
    )
    newest.write_text(text)
    capsys.readouterr()
    assert runs.main(["eval", f"--workdir={folder}"]) == 0
    assert "checksums were never finished" in capsys.readouterr().out


def test_a_work_directory_without_a_name_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert runs.main([*runs.kd("train"), "--workdir="]) == 2
    assert "kd train needs --workdir=DIR" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_half_declared_data_set_is_told_what_is_missing(capsys, compiled):
    keys = {
        "data__source": "npz:nowhere.npz",
        "data__stream": True,
        "data__image_size": 8,
        "data__examples": 120,
    }
    assert runs.main(runs.kd("train", "--show-sharding", **keys)) == 2
    assert "to plan without the data, declare config.student.classes too" in capsys.readouterr().err
    assert runs.main(runs.kd("train", "--show-sharding", **keys, student__classes=10)) == 0


def test_a_teacher_that_is_not_there_can_be_declared_for_a_plan(capsys, tmp_path):
    command = runs.kd(
        "train", "--show-sharding", arg="distilled", teacher__workdir=tmp_path / "nowhere"
    )
    assert runs.main(command) == 2
    assert "or, to plan without it, declare config.teacher.model" in capsys.readouterr().err
    assert runs.main([*command, '--config.teacher.model={"name": "mlp"}']) == 0


MODEL = """
import jax
from kd.core.types import Model, Outputs

def linear(classes):
    def init(key, inputs):
        return 0.1 * jax.random.normal(key, (inputs[0].size, classes)), {}

    def apply(params, extra, inputs, train=False, key=None):
        return Outputs(inputs.reshape(len(inputs), -1) @ params), extra

    return Model(init, apply)
"""


def test_a_model_of_one_array_is_averaged_and_found_again(tmp_path, monkeypatch):
    (tmp_path / "one_array.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    keys = {
        "student": {"name": "one_array:linear"},
        "ema": 0.5,
        "total_steps": 2,
        "mesh__devices": 2,
    }
    keys |= {"sharding__student__paths": {"*": ("data",)}}
    assert runs.train(tmp_path / "run", **keys) == 0
    params = load.load_trained(tmp_path / "run", allow_code="one_array").params
    saved = runs.restored(tmp_path / "run")
    np.testing.assert_array_equal(params, saved["['ema']"])
    assert np.any(saved["['ema']"] != saved["['params']"])
