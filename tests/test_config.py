"""Configs: every file resolves, runs and stays what it was; a wrong key is an error; a run is what
its config says.
"""

import dataclasses
import functools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
import kd
import kd.training.fit as fit_module
import runs
import tiny
from every_key import CHANGES, SAME
from kd import data as kd_data
from kd.config import (
    Spec,
    base_config,
    beyond_defaults,
    build,
    fingerprint_of,
    from_json,
    identity,
    load_config,
    resolve,
    to_json,
)
from kd.core.members import make_members, product
from kd.errors import KdError
from kd.placement.mesh import MeshSpec
from kd.runs.build import build_task
from kd.runs.longer import total_steps
from kd.teachers import make as kd_teacher
from kd.training import loop


@pytest.mark.parametrize("name", golden.CONFIGS)
def test_resolves_to_its_golden_text(name):
    assert golden.text(name) == (golden.GOLDEN / f"{name}.json").read_text(), (
        "python -m tests.golden writes it anew"
    )


def test_every_golden_text_has_a_config():
    assert sorted(path.stem for path in golden.GOLDEN.iterdir()) == sorted(golden.CONFIGS)
    # arguments were found
    assert len(golden.CONFIGS) > len(list((golden.ROOT / "configs").glob("*.py"))) - 1


@functools.cache
def finite_after_two_steps(text):
    """Train, on one device; configs that shrink to the same run are run once."""
    spec = from_json(text)
    data = kd_data.load(spec.data.source, spec.data.train, spec.data.data_dir)
    classes = spec.student.get("classes") or data.num_classes
    logits = np.random.default_rng(0).normal(size=(2, len(data), classes)).astype(np.float32)
    needed = "soft_targets" in spec.objective
    teacher = None
    if needed:  # it stands for a live one, which answers for any view
        table = kd_teacher.precomputed(logits, average=spec.teacher.average)
        teacher = dataclasses.replace(table, manifest=None)
    losses = []
    loop.run(
        build_task(dataclasses.replace(spec, mesh=MeshSpec(devices=1)), data, teacher),
        cadence=loop.Cadence(2),
        start_writing=lambda _: [lambda step, values: losses.append((step, values["loss"]))],
    )
    return [step for step, _ in losses] == [2] and np.isfinite(losses[0][1])


@pytest.mark.parametrize("name", golden.CONFIGS)
def test_runs_two_steps(name, request):
    folders = {
        "tfds:mnist": "mnist_dir",
        "npz:frames.npz": "frames_dir",
        "npz:text.npz": "text_dir",
        "npz:images.npz": "images_dir",
    }
    for spec in golden.specs(name).values():
        if spec.data.source == "tfds:imagenet2012":
            pytest.skip("ImageNet is not here; that its step compiles is tested by kd plan")
        if spec.data.source == "tfds:cifar10":
            pytest.skip("CIFAR-10 is not here; test_published trains this config on some of it")
        if spec.data.source == "folder:images/cifar10_31k.zip":
            pytest.skip(
                "CIFAR-10 is not here; test_vision_table trains this config on other images"
            )
        folder = (
            request.getfixturevalue(folders[spec.data.source])
            if spec.data.source in folders
            else None
        )
        split = "test[:260]" if spec.data.batch_size > 200 else "test[:200]"  # the smaller one
        data = dataclasses.replace(spec.data, train=split, eval=split, data_dir=folder)
        small = {
            "mlp": {"widths": tuple(8 for _ in spec.student.get("widths", ()))},
            "vit": {"width": 8, "depth": 1},
            "resnet": {"width": 0.25, "stem": 4},
        }
        student = {**spec.student, **small[spec.student["name"]]}
        if student.get("classes"):
            student["classes"] = 12
        short = dataclasses.replace(
            spec, data=data, student=student, total_steps=2, total_epochs=None, early_stopping=None
        )
        assert finite_after_two_steps(
            to_json(dataclasses.replace(short, eval_epochs=None, checkpoint_epochs=None))
        )


BASE = {
    "objective": {"hard": {"weight": 1.0}, "soft_targets": {"weight": 1.0}},
    "total_steps": 10,
}


def with_key(key, value):
    """The smallest config with one key set to another value."""
    plain = json.loads(to_json(resolve(BASE)))
    *parents, leaf = key.split(".")
    here = functools.reduce(lambda tree, parent: tree[parent], parents, plain)
    assert here.get(leaf) != value
    here[leaf] = value
    if key == "total_epochs":
        plain["total_steps"] = None
    if key in ("early_stopping", "patience", "watch"):
        plain |= {"early_stopping": "train[90%:]", "eval_epochs": 1.0, key: value}
    if key in ("data.image_size", "data.crop", "data.flip"):
        plain["data"] |= {"stream": True, "image_size": 32}
    if key == "data.views":
        plain["data"]["jitter_pixels"] = 2
    if key.startswith("data.text."):
        plain["data"]["text"]["tokenizer"] = "tokenizer.json"
    if key == "data.text.rare":
        plain["data"]["text"]["masked"] = 0.15
    if key in ("teacher.kind", "teacher.temperature"):
        plain["teacher"]["source"] = "table:soft.csv"
    if key == "local_copy.steps":
        plain["local_copy"]["folder"] = "/local/kd"
    if key == "teacher.members":
        plain["teacher"]["model"] = {"name": "mlp"}
    return resolve(plain)


def leaves(tree, path=()):
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))]
    return [".".join(path)]


def fingerprint(spec, teacher=""):
    return fingerprint_of(identity(spec, teacher))


def test_every_key_either_makes_another_run_or_does_not():
    assert set(leaves(json.loads(to_json(resolve(BASE))))) <= {*CHANGES, *SAME}
    assert not set(CHANGES) & set(SAME)


@pytest.mark.parametrize("key", CHANGES)
def test_another_value_is_another_run(key):
    assert fingerprint(with_key(key, CHANGES[key])) != fingerprint(resolve(BASE))


@pytest.mark.parametrize("key", SAME)
def test_cadence_devices_and_folders_are_the_same_run(key):
    assert fingerprint(with_key(key, SAME[key])) == fingerprint(resolve(BASE))


def test_with_early_stopping_when_it_looks_makes_another_run():
    watched = dataclasses.replace(resolve(BASE), early_stopping="train[:100]")
    looks = [fingerprint(dataclasses.replace(watched, eval_epochs=epochs)) for epochs in (1.0, 2.0)]
    assert looks[0] != looks[1]


def test_another_teacher_is_another_run():
    assert fingerprint(resolve(BASE), "a") != fingerprint(resolve(BASE), "b")
    assert fingerprint(with_key("teacher.workdir", "x"), "a") == fingerprint(
        with_key("teacher.workdir", "y"), "a"
    )


@pytest.mark.parametrize("key", [*CHANGES, *SAME])
def test_text_and_back(key):
    spec = with_key(key, {**CHANGES, **SAME}[key])
    assert from_json(to_json(spec)) == spec
    assert spec != resolve(BASE)


@pytest.mark.parametrize("key", [None, *CHANGES, *SAME])
def test_beyond_the_defaults_is_what_a_new_key_does_not_change(key):
    spec = resolve(BASE) if key is None else with_key(key, {**CHANGES, **SAME}[key])
    whole = json.loads(to_json(spec))
    told = beyond_defaults(Spec, whole)
    assert build(Spec, told, "config") == spec
    assert set(told) == {n for n in whole if getattr(spec, n) != getattr(Spec(), n)}


def test_units():
    """Epochs become steps by the whole batches that the data holds; a whole number is as good as a
    float.
    """
    assert resolve({**BASE, "total_steps": None, "total_epochs": 30}) == resolve(
        {**BASE, "total_steps": None, "total_epochs": 30.0}
    )
    points = {"shape": "piecewise", "points": [[50, 1], [75, 0.5]]}
    spec = resolve({**BASE, "optim": {"learning_rate_schedule": points}})
    assert to_json(spec).count("50.0") == 1
    data = kd_data.arrays(np.zeros((105, 2)), np.zeros(105, int))
    for epochs, steps in [(1, 10), (2.5, 25), (0.01, 1)]:
        spec = resolve(
            {**BASE, "data": {"batch_size": 10}, "total_steps": None, "total_epochs": epochs}
        )
        assert total_steps(spec, len(data)) == steps
    assert total_steps(resolve({**BASE, "total_steps": 7}), 1000) == 7


def overridden(*overrides):
    return load_config(runs.__file__, "distilled", overrides)


def test_overrides_are_python_literals_or_text():
    config = overridden(
        "optim.learning_rate=2e-3",
        "student.widths=(3, 4)",
        "data.train=train[:50]",
        "teacher.precompute=false",
        "total_steps=none",
        "objective.hard.weight=0.25",
        "population={'seed': (1, 2)}",
        "student.hidden_dropout=0.5",  # a key that the file did not set
    )
    assert config.optim.learning_rate == 2e-3
    assert config.student.widths == (3, 4)
    assert config.data.train == "train[:50]"
    assert config.teacher.precompute is False
    assert config.total_steps is None
    assert config.objective.soft_targets.weight == 0.5  # its neighbour stays
    spec = resolve({**config.to_dict(), "total_steps": 3})
    assert spec.objective["hard"]["weight"] == 0.25
    assert spec.population == {"seed": (1, 2)}
    assert spec.student == {"name": "mlp", "widths": (3, 4), "hidden_dropout": 0.5}


@given(
    st.sampled_from([key for key in (*CHANGES, *SAME) if not key.startswith("population")]),
    st.data(),
)
def test_a_slip_of_the_finger_finds_the_key(key, data):
    """Any key with one letter dropped or doubled, anywhere, is refused, and the message holds what
    was meant.
    """
    word = data.draw(
        st.sampled_from(key.split(".")[:1] if "." not in key else [key.split(".")[-1]])
    )
    at = data.draw(st.integers(1, len(word) - 1))
    typo = data.draw(
        st.sampled_from([word[:at] + word[at + 1 :], word[:at] + word[at - 1] + word[at:]])
    )
    parents = key.split(".")[:-1]
    plain = json.loads(to_json(resolve(BASE)))
    here = functools.reduce(lambda tree, parent: tree[parent], parents, plain)
    if typo in here:
        return
    here[typo] = here.pop(word, 1.0)
    with pytest.raises(KdError, match=f"'{typo}'.*'{word}'"):
        resolve(plain)


def test_product_is_every_combination_the_last_varying_fastest():
    columns = product(seed=range(2), soft_targets__temperature=(1.0, 4.0, 8.0), hard__weight=(0.5,))
    assert columns == {
        "seed": (0, 0, 0, 1, 1, 1),
        "soft_targets": {"temperature": (1.0, 4.0, 8.0) * 2},
        "hard": {"weight": (0.5,) * 6},
    }


def test_columns_become_the_members_numbers():
    spec = resolve(load_config(runs.__file__, "distilled"))
    columns = product(learning_rate=(0.1, 0.2), soft_targets__temperature=(1.0, 4.0))
    members = make_members(spec.terms, columns, 0.7, seed=5)
    hparams = members.hparams
    assert members.size == 4
    assert members.seeds == members.init_seeds == (5,) * 4
    assert hparams["learning_rate"].tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2])
    assert hparams["terms"]["soft_targets"]["temperature"].tolist() == [1.0, 4.0, 1.0, 4.0]
    assert hparams["terms"]["hard"]["weight"].tolist() == [1.0] * 4
    single = make_members(spec.terms, {}, 0.5, seed=5)
    assert (single.size, single.seeds) == (None, 5)
    assert single.hparams["learning_rate"].shape == ()
    for i, (rate, temperature) in enumerate(((0.1, 1.0), (0.1, 4.0), (0.2, 1.0), (0.2, 4.0))):
        alone = members.member(i)
        assert (alone.size, alone.seeds, alone.learning_rate) == (None, 5, rate)
        assert alone.terms["soft_targets"]["temperature"] == temperature


def test_config_and_library_make_equal_members_of_equal_columns(monkeypatch):
    made = []
    monkeypatch.setattr(fit_module, "make_task", lambda *parts, **_: made.append(parts[3]) or 1 / 0)
    spec = resolve(load_config(runs.__file__, "population"))
    with pytest.raises(ZeroDivisionError):
        kd.fit(
            tiny.PLAIN,
            tiny.dataset(),
            spec.terms,
            population=spec.population,
            seed=spec.seed,
        )
    assert made == [spec.members]
    assert spec.members.size == 2


def test_the_base_config_is_the_default_spec():
    config = base_config()
    config.objective, config.total_steps = BASE["objective"], BASE["total_steps"]
    assert resolve(config) == Spec(**BASE)
