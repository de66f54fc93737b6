"""Terms on several pairs of layers, random terms, and heads in runs of small convolutional
networks.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
import tiny
from checkpoints import stopped_and_not
from kd.core.heads import init_heads, trained
from kd.core.losses.features import projected
from kd.core.objective import make_objective
from kd.errors import KdError
from kd.placement.mesh import MeshSpec
from kd.teachers import make as kd_teacher
from kd.training import loop

BOTH = (("first", "first"), ("second", "second"))


class Maps(nn.Module):
    """Two convolutions, the second on a grid half as fine, and a head on the mean over places."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(self.width, (3, 3), name="first")(x[..., None]))
        x = nn.relu(nn.Conv(2 * self.width, (3, 3), strides=2, name="second")(x))
        return nn.Dense(tiny.CLASSES, name="head")(x.mean(axis=(1, 2)))


@functools.cache
def networks():
    """A student, and a teacher twice as wide with its parameters."""
    student, teacher = kd.linen(Maps(3)), kd.linen(Maps(6))
    params, _ = teacher.init(jax.random.key(0), jnp.zeros((1, 4, 4)))
    return student, teacher, params


def task(*terms, **options):
    student, teacher, params = networks()
    usual = {"members": tiny.members_of(terms, 0.01), "mesh": MeshSpec(devices=1), "steps": 6}
    live = kd_teacher.live(teacher, params)
    return tiny.task(model=student, teacher=live, terms=terms, **{**usual, **options})


def answers():
    student, teacher, params = networks()
    inputs, paths = tiny.batch()["inputs"], ("first", "second")
    own, _ = student.init(jax.random.key(1), inputs)
    return (
        student.tapped(paths).apply(own, {}, inputs)[0],
        teacher.tapped(paths).apply(params, {}, inputs)[0],
    )


def value(term, heads=None, step=0, rows=slice(None)):
    """The values of a term through the objective, and its heads."""
    sides = [jax.tree.map(lambda x: x[rows], side) for side in answers()]
    batch = jax.tree.map(lambda x: x[rows], tiny.batch())
    heads = init_heads([term], jax.random.key(2), *sides, 100) if heads is None else heads
    objective, hparams = make_objective([term]), tiny.hparams([term])
    key = kd.core.rng.key(5)
    return objective(*sides, batch, hparams, jnp.int32(step), heads, key)[0], heads


@pytest.mark.parametrize("name", ["attention_transfer", "hidden_mse", "ofd", "simkd"])
def test_several_pairs_are_the_sum_of_each_with_heads_of_its_own(name):
    together, heads = value(kd.term(name, taps={"hidden": BOTH}))
    total = 0
    for number, pair in enumerate(BOTH):
        own = heads and {name: _of_pair(heads[name], str(number))}
        total = total + value(kd.term(name, taps={"hidden": pair}), own)[0]
    np.testing.assert_allclose(together, total, rtol=1e-5)


def _of_pair(heads, number):
    kinds = {kind: getattr(heads, kind) for kind in ("dropped", "exported", "buffers")}
    return kd.Heads(**{kind: tree.get(number, {}) for kind, tree in kinds.items()})


def test_pairs_may_be_lists_as_a_file_has_them():
    listed = kd.term("hidden_mse", taps={"hidden": [list(pair) for pair in BOTH]})
    assert listed.taps == kd.term("hidden_mse", taps={"hidden": BOTH}).taps


@pytest.mark.parametrize(
    "paths", [(), ("a", "b", "c"), (("a", "b"), "c"), (("a", "b", "c"),), [["a", 1]]]
)
def test_what_is_no_pair_is_refused(paths):
    with pytest.raises(KdError, match=r"must be a path or two, .* or several such pairs"):
        kd.term("hidden_mse", taps={"hidden": paths})


def test_taps_of_a_loss_name_as_many_pairs():
    info = kd.LossInfo(lambda *_: None, needs=("teacher",), taps=("one", "other"))
    with pytest.raises(KdError, match=r"as many pairs of layers, got \{'one': 2, 'other': 1\}"):
        kd.term(info, taps={"one": BOTH, "other": "first"})


def test_review_sees_all_levels_at_once():
    """A deep layer of the student moves what its shallow level answers."""
    term = kd.term("review", taps={"hidden": BOTH})
    _, heads = value(term)
    student, teacher = answers()
    batch, hparams = tiny.batch(), tiny.hparams([term])

    def shallow(deep):
        own = heads["review"].dropped
        silent = {**own["1"], "answer": jax.tree.map(jnp.zeros_like, own["1"]["answer"])}
        alone = {"review": kd.Heads(dropped={"0": own["0"], "1": silent})}
        taps = {**student.taps, "second": deep}
        seen = kd.Outputs(student.logits, taps=taps)
        return make_objective([term])(seen, teacher, batch, hparams, jnp.int32(0), alone)[0].sum()

    assert np.any(jax.grad(shallow)(student.taps["second"]))


MGD = kd.term("mgd", 0.01, taps={"hidden": "first"})


def test_a_mask_is_a_function_of_seed_step_and_example():
    whole, heads = value(MGD)
    np.testing.assert_array_equal(value(MGD, heads)[0], whole)
    rows = np.random.default_rng(0).permutation(16)
    np.testing.assert_allclose(value(MGD, heads, rows=rows)[0], whole[rows], rtol=1e-5)
    np.testing.assert_allclose(value(MGD, heads, rows=rows[:5])[0], whole[rows[:5]], rtol=1e-5)
    assert np.all(value(MGD, heads, step=1)[0] != whole)


def test_each_pair_has_a_mask_of_its_own():
    twice = kd.term("mgd", taps={"hidden": (("first", "first"), ("first", "first"))})
    _, heads = value(twice)
    own = heads["mgd"].dropped["0"]
    same = {"mgd": kd.Heads(dropped={"0": own, "1": own})}
    alone = {"mgd": kd.Heads(dropped=own)}
    assert np.all(value(twice, same)[0] != 2 * value(MGD, alone)[0])


def test_parts_of_a_batch_see_the_masks_of_the_whole():
    whole, parts = (loop.run(task(MGD, accumulate=parts)) for parts in (1, 4))
    tiny.close(parts.params, whole.params)
    tiny.close(trained(parts.heads), trained(whole.heads))


def test_a_member_sees_the_masks_that_it_sees_alone():
    members = tiny.members_of((MGD,), 0.01, seed=(3, 5))
    together = loop.run(task(MGD, members=members))
    for i in range(2):
        alone = loop.run(task(MGD, members=members.member(i)))
        tiny.close(tiny.take(together.params, i), alone.params)


KINDS = (
    kd.term("hint", 0.01, taps={"hidden": BOTH}),
    kd.term("simkd", 0.01, taps={"hidden": "second"}),
    kd.term("ofd", 0.01, taps={"hidden": "first"}),
    kd.term("review", 0.1, taps={"hidden": BOTH}),
    MGD,
)


def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path):
    """Heads that are dropped, exported or buffers, of one pair and of two, and random masks."""
    owning = task(*KINDS)
    ends = stopped_and_not(owning, tmp_path)
    tiny.close(ends[1], ends[0], rtol=0, atol=0)
    first = loop.initial_state(owning).heads
    for name in ("hint", "simkd", "ofd", "review", "mgd"):
        moved = ends[0].heads[name]
        kinds = [
            kind
            for kind in ("dropped", "exported", "buffers")
            if jax.tree.leaves(getattr(moved, kind))
        ]
        assert kinds == {"simkd": ["exported"], "ofd": ["dropped", "buffers"]}.get(
            name, ["dropped"]
        )
        assert tiny.differ(moved, first[name])


def test_one_and_eight_devices_train_the_same():
    terms = (KINDS[0], KINDS[2], MGD)
    alone, spread = (loop.run(task(*terms, mesh=MeshSpec(devices=n), steps=2)) for n in (1, 8))
    tiny.close(spread.params, alone.params, rtol=1e-4)
    tiny.close(trained(spread.heads), trained(alone.heads), rtol=1e-4)


def test_ofd_refuses_parts_of_a_batch():
    with pytest.raises(KdError, match=r"objective\.ofd .* accumulate=2 cuts it into parts"):
        loop.check(task(KINDS[2], accumulate=2))


def test_a_student_answers_through_its_projector_and_the_teachers_classifier():
    """`simkd`: from kd.fit to answers, which come near the teacher's, on no label at all."""
    student, teacher, params = networks()
    data, inputs = tiny.dataset(), tiny.batch()["inputs"]
    live = kd_teacher.live(teacher, params)
    terms = [kd.term("simkd", taps={"hidden": "second"})]

    def apart(trained_one):
        outputs, _ = student.tapped(("second",)).apply(trained_one.params, {}, inputs)
        features = projected(trained_one.heads["simkd"], outputs.taps["second"])
        means = jax.nn.relu(features).mean(axis=(1, 2))
        logits = nn.Dense(tiny.CLASSES).apply({"params": params["head"]}, means)
        wanted = teacher.apply(params, {}, inputs)[0].logits
        return float(jnp.mean((logits - wanted) ** 2))

    few, many = (
        apart(
            kd.fit(Maps(3), data, terms, teacher=live, epochs=n, batch_size=16, learning_rate=0.01)
        )
        for n in (1, 40)
    )
    assert many < 0.5 * few


def test_two_pairs_from_the_command_line(tmp_path):
    assert runs.train(tmp_path / "teacher", student__widths=(16,)) == 0
    pairs = (("Dense_0", "Dense_0"), ("Dense_1", "Dense_1"))
    keys = {
        "arg": "distilled",
        "teacher__workdir": str(tmp_path / "teacher"),
        "objective": {"hard": {"weight": 1.0}, "hidden_mse": {"taps": {"hidden": pairs}}},
        "checkpoint_epochs": 1,
    }
    assert runs.train(tmp_path / "student", **keys) == 0
    owned = [path for path in runs.restored(tmp_path / "student") if "hidden_mse" in path]
    assert all(any(f"['{number}']" in path for path in owned) for number in (0, 1))
