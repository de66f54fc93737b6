"""A run may begin with the weights of another, and leave some of them as they are."""

import json
import shutil

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import kd
import runs
import tiny
from kd.cli.main import main
from kd.core.leaves import by_name
from kd.core.optim import Optim, make_optimizer, max_norm
from kd.models import mlp

HARD = [kd.term("hard")]
POPULATION = kd.product(seed=range(2))
BARELY = 1e-7  # a rate that moves no answer


def fitted(model=tiny.PLAIN, data=None, **options):
    options = {"epochs": 1, "batch_size": 16, **options}
    return kd.fit(model, tiny.dataset() if data is None else data, HARD, **options)


@pytest.fixture(scope="module")
def before():
    return fitted(seed=7)


@pytest.fixture(scope="module")
def several():
    return fitted(population=POPULATION)


def test_a_run_that_barely_moves_answers_as_the_one_it_began_with(before):
    after = fitted(init=before, learning_rate=BARELY)
    np.testing.assert_allclose(
        after.logits(tiny.dataset()), before.logits(tiny.dataset()), atol=1e-5
    )
    fresh = fitted(learning_rate=BARELY)
    assert np.abs(fresh.logits(tiny.dataset()) - before.logits(tiny.dataset())).max() > 0.1


def test_all_members_begin_with_one_model_or_each_with_its_own(before, several):
    shared = fitted(init=before, population=POPULATION, learning_rate=BARELY)
    own = fitted(init=several, population=POPULATION, learning_rate=BARELY)
    for i in range(2):
        tiny.close(tiny.take(shared.params, i), before.params, atol=1e-5)
        tiny.close(tiny.take(own.params, i), tiny.take(several.params, i), atol=1e-5)
    assert tiny.differ(*(tiny.take(own.params, i) for i in range(2)))


def test_a_member_trains_as_a_run_of_its_own_from_its_own_weights(several):
    whole = fitted(init=several, population=POPULATION)
    for i in range(2):
        alone = fitted(init=several.member(i), seed=i)
        tiny.close(tiny.take(whole.params, i), alone.params, rtol=1e-4, atol=1e-5)


def test_another_number_of_members_is_refused(several):
    with pytest.raises(kd.KdError, match=r"of 2 members and the student is a single model.*member"):
        fitted(init=several)
    with pytest.raises(kd.KdError, match="student is 3 members"):
        fitted(init=several, population=kd.product(seed=range(3)))


def test_a_head_of_another_width_is_fresh_and_said_so(before, capsys):
    wider = mlp(tiny.CLASSES + 2, (8,))
    after = fitted(wider, init=before, learning_rate=BARELY)
    said = [line for line in capsys.readouterr().err.splitlines() if "first weights" in line]
    assert said == [
        "fit: first weights: 2 of 4 arrays; fresh: params/Dense_1/bias, params/Dense_1/kernel"
    ]
    tiny.close(after.params["Dense_0"], before.params["Dense_0"], atol=1e-5)
    plain = fitted(wider, learning_rate=BARELY)
    tiny.close(after.params["Dense_1"], plain.params["Dense_1"], atol=1e-4)


def test_nothing_alike_is_refused(before):
    with pytest.raises(kd.KdError, match=r"no parameter of the same name and shape.*\[16, 8\]"):
        fitted(mlp(tiny.CLASSES + 1, (9,)), init=before)


def test_an_optimiser_that_copies_the_parameters_copies_the_first_ones(before):
    """The slow weights of a lookahead are those that the run begins with."""
    average = optax.contrib.schedule_free(optax.sgd(1e-7), 1e-7, b1=0.9)
    after = fitted(init=before, optimizer=average)
    np.testing.assert_allclose(
        after.logits(tiny.dataset()), before.logits(tiny.dataset()), atol=1e-4
    )


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dense(8)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=1.0)(x)
        return nn.Dense(tiny.CLASSES)(nn.relu(x))


def test_statistics_go_with_the_weights():
    moved = tiny.dataset()
    first = fitted(Normed())
    extra = jax.tree.map(lambda leaf: leaf + 3, first.extra)
    trained = kd.Trained(first.model, first.params, extra, seen=moved.seen)
    tiny.close(fitted(Normed(), init=trained).extra, extra)


# Freezing


OPTIMIZERS = {
    "sgd with all": Optim("sgd", momentum=0.9, weight_decay=0.1, clip_norm=0.5),
    "adam": Optim("adam", weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("population", [None, POPULATION], ids=["single", "population"])
def test_frozen_leaves_keep_every_bit(name, population, before):
    options = {
        "optimizer": make_optimizer(OPTIMIZERS[name]),
        "learning_rate": 0.1,
        "population": population,
        "ema": 0.5,
        "accumulate": 2,
    }
    kernel = before.params["Dense_0"]["kernel"].at[0].set(-0.0)  # a sign that adding zero loses
    params = {**before.params, "Dense_0": {**before.params["Dense_0"], "kernel": kernel}}
    begun = kd.Trained(before.model, params, before.extra, seen=before.seen)
    after = fitted(init=begun, freeze=("Dense_0/*",), **options)
    members = range(2) if population else [slice(None)]
    for i in members:
        got = jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], after.params)
        for leaf in ("kernel", "bias"):
            assert got["Dense_0"][leaf].tobytes() == np.asarray(params["Dense_0"][leaf]).tobytes()
        assert tiny.differ(got["Dense_1"], params["Dense_1"])


def test_frozen_leaves_keep_no_state_and_meet_no_norm(before):
    from kd.core.members import make_members
    from kd.training import loop
    from kd.training.task import initial_state, make_task

    task = make_task(
        tiny.PLAIN,
        tiny.dataset(),
        HARD,
        make_members(HARD, {}, 0.1),
        batch_size=16,
        steps=4,
        optimizer=make_optimizer(Optim("adam")),
        freeze=("Dense_0/*",),
        constraint=max_norm(1e-3),
        init=before,
    )
    names = {name for name in by_name(initial_state(task).opt_state) if "Dense" in name}
    assert names
    assert all("Dense_1" in name for name in names)
    state = loop.run(task)
    tiny.close(state.params["Dense_0"], before.params["Dense_0"], 0, 0)
    assert np.linalg.norm(state.params["Dense_1"]["kernel"], axis=0).max() < 1.001e-3


def test_the_gradient_that_is_clipped_is_that_of_the_rest():
    """A clip that the frozen part's gradient would have filled."""
    small = Optim("sgd", momentum=0.0, clip_norm=1e-3)
    options = {"freeze": ("Dense_1/*",), "epochs": 0.25, "learning_rate_schedule": kd.Schedule()}
    start = fitted(learning_rate=BARELY, epochs=0.25)
    after = fitted(init=start, optimizer=make_optimizer(small), learning_rate=1.0, **options)
    moved = jax.tree.map(lambda a, b: np.asarray(a - b), after.params, start.params)["Dense_0"]
    length = np.sqrt(sum(np.sum(leaf**2) for leaf in moved.values()))
    assert abs(length - 1e-3) < 1e-5


@pytest.mark.parametrize(
    ("freeze", "words"),
    [
        (("Dense_9/*",), "unknown parameter in optim.freeze: 'Dense_9"),
        (("dense_0/*",), "unknown parameter"),
        (("*",), "matches every parameter"),
        (("Dense_0/*", "Dense_1/*"), "matches every parameter"),
    ],
)
def test_a_pattern_that_cannot_be_is_one_line(freeze, words):
    with pytest.raises(kd.KdError, match=words):
        fitted(freeze=freeze)


def test_a_run_whose_free_part_has_not_moved_is_refused(before):
    """As any other run that changed nothing."""
    still = optax.set_to_zero()
    with pytest.raises(kd.KdError, match="changed no parameter"):
        fitted(init=before, freeze=("Dense_0/*",), optimizer=still)


def test_frozen_on_eight_devices_is_frozen_on_one(before):
    both = [
        fitted(
            mlp(tiny.CLASSES, (16,)),
            freeze=("Dense_0/kernel",),
            mesh=mesh,
            sharding=kd.Sharding(kd.Rule("fsdp")),
        )
        for mesh in (kd.MeshSpec(devices=1), kd.MeshSpec(devices=8, fsdp=8))
    ]
    tiny.close(both[0].params, both[1].params, rtol=1e-4, atol=1e-5)


# Runs


def warm(**keys):
    return {"student__init": f"run:{runs.finished()}", "checkpoint_epochs": 1, **keys}


def test_a_run_records_what_it_began_with(tmp_path, capsys):
    assert runs.train(tmp_path / "run", **warm()) == 0
    assert "first weights of run:" in capsys.readouterr().err
    first = kd.load(tmp_path / "run").lineage.init
    assert first.fingerprint == kd.load(runs.finished()).fingerprint
    assert first.source == f"run:{runs.finished()}"
    assert first.fresh == ()
    assert len(first.copied) == 4
    assert len(first.digest) == 16
    assert runs.train(tmp_path / "run", **warm()) == 0
    assert "first weights" not in capsys.readouterr().err
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]
    assert identity["student"]["init"] == first.fingerprint


def test_who_it_began_with_is_who_it_is(tmp_path, capsys):
    assert runs.train(tmp_path / "other", seed=5) == 0
    assert runs.train(tmp_path / "run", **warm()) == 0
    assert runs.train(tmp_path / "run", student__init=f"run:{tmp_path / 'other'}") == 2
    assert "belongs to another run: student.init is" in capsys.readouterr().err
    assert runs.train(tmp_path / "run") == 2
    capsys.readouterr()


@pytest.mark.parametrize("freeze", ["()", "('Dense_0/*',)"])
def test_resumed_is_uninterrupted(freeze, tmp_path):
    keys = warm(optim__freeze=freeze)
    assert runs.train(tmp_path / "whole", **keys) == 0
    assert runs.train(tmp_path / "again", **keys) == 0
    steps = tmp_path / "again" / "checkpoints"
    newest = max(int(path.name) for path in (steps / "steps").iterdir())
    shutil.rmtree(steps / "steps" / str(newest))
    (steps / "checksums" / f"{newest}.json").unlink()
    (tmp_path / "again" / "evaluation.json").unlink()
    assert runs.train(tmp_path / "again", **keys) == 0
    runs.same_bytes(tmp_path / "again", tmp_path / "whole")
    if freeze != "()":
        tiny.close(
            kd.load(tmp_path / "again").params["Dense_0"],
            kd.load(runs.finished()).params["Dense_0"],
            0,
            0,
        )


def test_one_member_of_a_population_is_named(tmp_path, capsys):
    assert runs.train(tmp_path / "several", population__seed="(0,1)") == 0
    several = f"run:{tmp_path / 'several'}"
    assert runs.train(tmp_path / "run", student__init=several) == 2
    assert "run:DIR?member=0" in capsys.readouterr().err
    keys = {"student__init": f"{several}?member=1", "optim__learning_rate": BARELY}
    assert runs.train(tmp_path / "run", **keys) == 0
    begun = kd.load(tmp_path / "several").member(1)
    tiny.close(kd.load(tmp_path / "run").params, begun.params, atol=1e-5)
    assert kd.load(tmp_path / "run").lineage.init.fingerprint == begun.fingerprint
    assert runs.train(tmp_path / "no", student__init=f"{several}?member=2") == 2
    assert "2 members" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("hf:DIR", "there is no folder DIR"),
        ("store:DIR", "must be run:DIR"),
        ("run:", "must be run:DIR"),
        ("3", "must be run:DIR"),
        ("run:/nowhere/at/all", "not a work directory"),
    ],
)
def test_a_spelling_that_cannot_be_is_one_line(init, words, tmp_path, capsys):
    assert runs.train(tmp_path / "run", student__init=init) == 2
    assert words in capsys.readouterr().err


def test_a_dry_run_says_what_it_would_begin_with(capsys):
    assert main([*runs.kd("train", "--dry_run", **warm())]) == 0
    assert "first weights" in capsys.readouterr().out
