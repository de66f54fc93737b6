"""Laws of several teachers in one config: a table, a run and a function, each with its weight."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
from kd.cli.main import main
from kd.config import load_config, resolve
from kd.errors import KdError
from kd.runs.splits import load_splits
from kd.runs.teachers import load_teacher
from kd.runs.workdir import find

DATA = kd.load("digits", "train[:120]")
LOGITS = 3 * np.random.default_rng(0).normal(size=(120, 10)).astype(np.float32)
MODULE = """
import numpy as np

seen, answers = np.load("seen.npy"), np.load("answers.npy")

def answer(inputs):
    apart = np.abs(inputs[:, None] - seen[None]).sum(axis=(2, 3))
    return answers[apart.argmin(axis=1)]
"""


@pytest.fixture
def sources(files, monkeypatch):
    """One of each kind that answers alike: the run, its answers in a file, and a function; and
    another table.
    """
    monkeypatch.chdir(files)
    np.save("seen.npy", DATA.inputs * np.float32(1 / 16))
    np.save("answers.npy", kd.load_trained(runs.finished()).logits(DATA))
    np.savez("other.npz", logits=LOGITS)
    (files / "mine_mixes.py").write_text(MODULE)
    monkeypatch.syspath_prepend(files)
    return {
        "run": f"run:{runs.finished()}",
        "table": "table:answers.npy",
        "function": "mine_mixes:answer",
        "other": "table:other.npz",
    }


def command(workdir, *arguments, **keys):
    keys = {"objective__hard": "none", **keys}
    return runs.kd("train", f"--workdir={workdir}", *arguments, arg="distilled", **keys)


def several(sources, **weights):
    keys = {}
    for name, weight in weights.items():
        keys[f"teachers__{name}__source"] = sources[name]
        keys[f"teachers__{name}__weight"] = weight
    if "table" in weights:
        keys["teachers__table__kind"] = "logits"
    return keys


def test_equal_teachers_of_every_kind_are_the_one(sources, tmp_path):
    alone, mixed = tmp_path / "one", tmp_path / "mixed"
    assert main(command(alone, teacher__source=sources["run"])) == 0
    keys = several(sources, run=1.0, table=2.0, function=0.5)
    assert main(command(mixed, **keys)) == 0
    assert runs.losses(mixed) == pytest.approx(runs.losses(alone), rel=1e-4)
    lineage = find(mixed, "mine_mixes").lineage
    assert lineage.teacher is None
    schemes = [weights.source.partition(":")[0] for weights in lineage.taught_by]
    assert schemes == ["mine_mixes", "run", "table"]
    assert set(lineage.code) == {"mine_mixes"}


def test_it_is_what_the_library_mixes(sources):
    overrides = [
        f"teachers.run.source={sources['run']}",
        "teachers.run.weight=3.0",
        f"teachers.other.source={sources['other']}",
        "teacher.average=geometric",
    ]
    spec = resolve(load_config(runs.ROOT / "tests" / "runs.py", "distilled", overrides))
    teacher = load_teacher(spec, load_splits(spec)[0])
    pairs = [(kd.teacher(sources["run"]), 3.0), (kd.teacher(sources["other"], data=DATA), 1.0)]
    wanted = kd.mixture(pairs, average="geometric")
    batch = jax.tree.map(jnp.asarray, {"inputs": DATA.inputs[:7] / 16.0, "index": np.arange(7)})
    ours, theirs = (
        source.apply(source.variables, batch).log_probs(2.0) for source in (teacher, wanted)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_weights_are_part_of_who_the_run_is_and_places_are_not(sources, tmp_path, files, capfd):
    run = tmp_path / "run"
    keys = several(sources, run=1.0, other=2.0)
    assert main(command(run, **keys)) == 0
    identity = json.loads((run / "run.json").read_text())["identity"]
    assert "other.npz" not in json.dumps(identity)
    (files / "other.npz").rename(files / "moved.npz")
    keys["teachers__other__source"] = "table:moved.npz"
    assert main(command(run, **keys)) == 0
    assert main(["eval", f"--workdir={run}"]) == 0
    capfd.readouterr()
    assert main(command(run, **keys | {"teachers__other__weight": 3.0})) == 2
    assert "belongs to another run" in capfd.readouterr().err


BOTH = "{'a': {'source': 'run:a'}, 'b': {'source': 'run:b'}}"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["teachers.a.source=run:a"], "names one"),
        (["teachers.a.source=run:a", "teachers.b.source=b.csv"], "did you mean table:b.csv"),
        (["teachers.a.source=run:a", "teachers.b.weight=1.0"], "source is missing"),
        (["teachers.a.source=run:a", "teachers.b={'sorce': 'run:b'}"], "did you mean 'source'"),
        ([f"teachers={BOTH}", "teachers.a.weight=0"], "above 0"),
        ([f"teachers={BOTH}", "teachers.a.kind=logits"], "leave out its kind"),
        ([f"teachers={BOTH}", "teacher.source=run:c"], "both say"),
    ],
)
def test_what_is_no_set_of_teachers_is_refused(overrides, words):
    with pytest.raises(KdError, match=words):
        resolve(load_config(runs.ROOT / "tests" / "runs.py", "distilled", overrides))
