"""A trained model kept in a folder is the same model, to the bit; a damaged one is refused."""

import dataclasses
import inspect
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
import tiny
from kd import data as kd_data
from kd.models import mlp, vit

TERMS = [kd.term("hard")]
POPULATION = kd.product(seed=range(2))


class Normed(nn.Module):
    """With batch statistics, and of the user's own."""

    width: int = 8

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dense(self.width)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(tiny.CLASSES)(nn.relu(x))


@pytest.fixture(scope="module")
def train():
    return tiny.dataset()


def fitted(model, data, **options):
    return kd.fit(model, data, TERMS, epochs=1, batch_size=16, **options)


def same(first, other):
    names = ("members", "fingerprint", "seen", "changes", "class_names", "lineage")
    assert all(getattr(first, name) == getattr(other, name) for name in names)
    for a, b in ((first.params, other.params), (first.extra, other.extra)):
        assert jax.tree.structure(a) == jax.tree.structure(b)
        for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
            assert x.dtype == y.dtype
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


MODELS = {
    "mlp": (lambda: tiny.PLAIN, {}, None),
    "population": (lambda: tiny.DROPPING, {"population": POPULATION}, None),
    "vit": (
        lambda: vit(tiny.CLASSES, "Ti/2", width=8, depth=2, heads=2),
        {"population": POPULATION},
        None,
    ),
    "own": (Normed, {"population": POPULATION}, Normed()),
    "own, averaged": (Normed, {"ema": 0.5}, Normed()),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_read_back_answers_bit_for_bit(name, train, tmp_path):
    make, options, module = MODELS[name]
    trained = fitted(make(), train, **options)
    trained.save(tmp_path / "kept")
    back = kd.load(tmp_path / "kept", model=module)
    same(back, trained)
    assert back.logits(train).tobytes() == trained.logits(train).tobytes()


def test_a_run_is_read_by_the_same_door_and_kept(tmp_path):
    trained = kd.load(runs.finished())
    same(trained, kd.load_trained(runs.finished()))
    trained.save(tmp_path / "kept")
    back = kd.load(tmp_path / "kept")
    same(back, trained)
    assert set(back.lineage.splits) == {"train[:120]", "test[:60]"}
    assert back.fingerprint


def test_a_kept_model_teaches_and_is_audited(train, tmp_path):
    teachers = fitted(tiny.PLAIN, train, population=POPULATION)
    teachers.save(tmp_path / "kept")
    back = kd.load(tmp_path / "kept")
    soft = [kd.term("soft_targets", temperature=2.0)]
    taught = [
        kd.fit(tiny.PLAIN, train, soft, teacher=model.teacher(), epochs=1, batch_size=16)
        for model in (teachers, back)
    ]
    same(*taught)
    assert kd.audit(back, taught[0], train) == kd.audit(teachers, taught[0], train)


def test_bfloat16_and_other_types_keep_their_bits(train, tmp_path):
    trained = fitted(tiny.PLAIN, train)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), trained.params)
    half = dataclasses.replace(trained, params=params)
    half.save(tmp_path / "half")
    same(kd.load(tmp_path / "half"), half)


def test_a_model_that_computes_in_bfloat16_goes_on_doing_so(tmp_path):
    assert runs.train(tmp_path / "run", compute="bfloat16") == 0
    trained, data = kd.load(tmp_path / "run"), kd.load("digits", "test[:60]")
    trained.save(tmp_path / "kept")
    back = kd.load(tmp_path / "kept")
    assert back.logits(data).tobytes() == trained.logits(data).tobytes()
    exact = dataclasses.replace(back, model=mlp(10, (8,)))
    assert tiny.differ(exact.logits(data), back.logits(data))


def test_no_model_is_overwritten_without_a_word(train, tmp_path):
    first, other = (fitted(tiny.PLAIN, train, seed=seed) for seed in (0, 1))
    first.save(tmp_path / "kept")
    with pytest.raises(kd.KdError, match=r"config\.json, model\.safetensors already"):
        other.save(tmp_path / "kept")
    same(kd.load(tmp_path / "kept"), first)
    other.save(tmp_path / "kept", overwrite=True)
    same(kd.load(tmp_path / "kept"), other)
    with pytest.raises(kd.KdError, match="work directory of a run"):
        first.save(runs.finished(), overwrite=True)


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def gone(path):
    path.unlink()


@pytest.mark.parametrize("damage", [cut, flip, gone])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_one_line(name, damage, train, tmp_path):
    fitted(tiny.PLAIN, train).save(tmp_path / "kept")
    damage(tmp_path / "kept" / name)
    with pytest.raises(kd.KdError, match="kept") as error:
        kd.load(tmp_path / "kept")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", {"name": "os:system", "options": {}, "compute": "float32"}),
        ("model", {"name": "mlp", "options": {"widths": [8]}, "compute": "float32"}),
        ("model", {"name": "mlp", "options": {"wdths": [8]}, "compute": "float32"}),
        ("model", {"name": "mlp", "options": {"classes": 5, "widths": [9]}, "compute": "float32"}),
        ("model", {"name": "mlp", "options": {"classes": "x"}, "compute": "float32"}),
        ("model", {"name": "mlp", "options": {"classes": 5, "widths": [8]}, "compute": "int8"}),
        ("model", 3),
        ("inputs", None),
        ("inputs", {"shape": [4, 4]}),
        ("members", 7),
        ("files", []),
        ("lineage", {}),
        ("class_names", 5),
    ],
)
def test_an_edited_page_is_one_line(key, value, train, tmp_path):
    """As somebody edits it who mends its digest too."""
    from kd.system.records import read_record, write_record

    fitted(tiny.PLAIN, train).save(tmp_path / "kept")
    page = tmp_path / "kept" / "config.json"
    content = read_record(page, "")
    page.write_text(json.dumps({**content, key: value, "digest": "no"}))
    with pytest.raises(kd.KdError, match="it was edited"):
        kd.load(tmp_path / "kept")
    write_record(page, {**content, key: value})
    with pytest.raises(kd.KdError, match="kept"):
        kd.load(tmp_path / "kept")


def test_a_module_of_the_users_own_is_asked_for_and_checked(train, tmp_path):
    fitted(Normed(), train).save(tmp_path / "kept")
    with pytest.raises(kd.KdError, match=r"test_saved:Normed.*runs no code.*model="):
        kd.load(tmp_path / "kept")
    with pytest.raises(kd.KdError, match=r"holds \[8\] for .*BatchNorm_0/mean and the model \[9\]"):
        kd.load(tmp_path / "kept", model=Normed(9))
    with pytest.raises(kd.KdError, match="nothing"):
        kd.load(tmp_path / "kept", model=nn.Sequential([nn.Dense(5)]))
    fitted(tiny.PLAIN, train).save(tmp_path / "mlp")
    with pytest.raises(kd.KdError, match="leave model out"):
        kd.load(tmp_path / "mlp", model=Normed())


def test_a_member_answers_as_it_does_in_its_population(train, tmp_path):
    trained = fitted(tiny.PLAIN, train, population=POPULATION)
    trained.member(1).save(tmp_path / "kept")
    tiny.close(kd.load(tmp_path / "kept").logits(train), trained.logits(train)[1])
    with pytest.raises(kd.KdError, match="2 members"):
        trained.member(2)
    with pytest.raises(kd.KdError, match="single model"):
        trained.member(1).member(0)


def test_a_name_that_is_neither(tmp_path):
    with pytest.raises(kd.KdError, match="split"):
        kd.load("digits")
    with pytest.raises(kd.KdError, match="no trained model"):
        kd.load(tmp_path)
    with pytest.raises(kd.KdError, match="not a work directory"):
        kd.load(tmp_path / "nowhere")
    assert len(kd.load("digits", "test[:4]")) == 4


def test_a_model_of_unknown_inputs_says_what_to_give(train, tmp_path):
    unknown = dataclasses.replace(fitted(tiny.PLAIN, train), seen=None)
    with pytest.raises(kd.KdError, match=r"seen=data\.seen"):
        unknown.save(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_what_a_loss_trained_to_stay_is_kept_too(train, tmp_path):
    trained = fitted(tiny.PLAIN, train)
    heads = {"map": {"kernel": jnp.arange(6.0).reshape(2, 3), "deep": {"bias": jnp.ones(3)}}}
    owning = dataclasses.replace(trained, heads=heads)
    owning.save(tmp_path / "kept")
    tiny.close(kd.load(tmp_path / "kept").heads, heads, 0, 0)
    assert kd.load(tmp_path / "kept").logits(train).tobytes() == trained.logits(train).tobytes()


def test_a_split_is_loaded_as_data_loads_it(tmp_path):
    """Every argument of the one is an argument of the other, and arrives."""
    (tmp_path / "t.csv").write_text("x,label\n0.5,1\n2.5,3\n1.5,1\n")
    names = list(inspect.signature(kd_data.load).parameters)
    assert list(inspect.signature(kd.load).parameters)[: len(names)] == names
    numbers = ("csv:t.csv", "train", tmp_path, 2.0, "numbers")
    first, other = kd.load(*numbers), kd_data.load(*numbers)
    assert (first.targets, first.scale, first.fingerprint) == ("numbers", 2.0, other.fingerprint)
