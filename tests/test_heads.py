"""What losses own: what is trained and dropped, what is exported, and buffers that only move."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import kd
import runs
import tiny
from checkpoints import stopped_and_not
from kd.core.heads import init_heads, trained, with_trained
from kd.core.losses.features import hidden_mse
from kd.core.objective import make_objective
from kd.errors import KdError
from kd.models import mlp
from kd.placement.mesh import MeshSpec
from kd.placement.sharding import Rule, Sharding
from kd.training import loop
from kd.training.program import place

HIDDEN = kd.term("hidden_mse", 2.0, taps={"hidden": "Dense_0"})
TERMS = (kd.term("hard", 0.5), HIDDEN)


def owner(student, teacher, batch, hparams, heads):
    """It owns one of each kind: a projection, a scale that is exported, a count of examples."""
    del hparams
    projected = student.logits @ heads.dropped["kernel"] * heads.exported["scale"]
    values = jnp.mean((projected - teacher.logits) ** 2, axis=-1)
    seen = heads.buffers["seen"] + jnp.sum(batch["weight"])
    return values, {**heads.buffers, "seen": seen}


def owned(key, student, teacher, examples):
    kernel = jax.random.normal(key, (student.width, teacher.width), jnp.float32)
    counts = {"seen": jnp.float32(0), "all": jnp.float32(examples)}
    return kd.Heads({"kernel": kernel}, {"scale": jnp.float32(1)}, counts)


OWNER = kd.term(kd.LossInfo(owner, needs=("teacher",), init=owned), name="owner")


FSDP = Sharding(Rule("fsdp"))


def task(terms=TERMS, **options):
    """A task of `terms` on one device, unless `options` say otherwise."""
    usual = {"members": tiny.members_of(terms), "mesh": MeshSpec(devices=1)}
    return tiny.task(terms=terms, **{**usual, **options})


def run(**options):
    return loop.run(task(**options))


def test_the_value_is_the_papers_formula():
    random = np.random.default_rng(0)
    hidden, wanted = random.normal(size=(6, 3, 4)), random.normal(size=(6, 3, 7))
    kernel, bias = random.normal(size=(4, 7)), random.normal(size=7)
    heads = kd.Heads({"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)})
    student, teacher = (
        kd.Outputs(jnp.zeros((6, 2)), taps={"hidden": jnp.asarray(x, jnp.float32)})
        for x in (hidden, wanted)
    )
    got = hidden_mse(student, teacher, {"weight": jnp.ones(6)}, {}, heads)
    reference = np.mean((hidden @ kernel + bias - wanted) ** 2, axis=(1, 2))
    np.testing.assert_allclose(got, reference, rtol=1e-5)


def test_the_gradient_of_student_and_projection_is_that_of_finite_differences():
    learning = task()
    state, batch = loop.initial_state(learning), tiny.batch()
    objective, hparams = make_objective(TERMS), learning.members.hparams

    def value(params, owned):
        params, owned = jax.tree.map(jnp.asarray, (params, owned))
        heads = with_trained(state.heads, owned)
        student = learning.tapped_model.apply(params, {}, batch["inputs"])[0]
        answer = learning.tapped_teacher.apply(learning.teacher.variables, batch)
        return objective(student, answer, batch, hparams, jnp.int32(0), heads)[0].mean()

    jax.test_util.check_grads(
        value, (state.params, trained(state.heads)), order=1, modes=["rev"], rtol=0.05, atol=0.05
    )


def test_a_projection_learns_beside_the_student_and_stays_behind():
    learning = task(steps=20)
    first, last = loop.initial_state(learning), loop.run(learning)
    kernel = first.heads["hidden_mse"].dropped["kernel"]
    assert kernel.shape == (8, 16)
    assert tiny.differ(kernel, last.heads["hidden_mse"].dropped["kernel"])
    student = loop.result(learning, last)
    assert not student.heads
    assert student.logits(tiny.dataset()).shape == (len(tiny.dataset()), tiny.CLASSES)


def test_what_a_term_owns_does_not_move_the_others():
    """Weight 0 of a term that owns something is the run without that term."""
    silent = (TERMS[0], dataclasses.replace(HIDDEN, numbers={"weight": 0.0}))
    without = run(terms=TERMS[:1], teacher=None)
    beside = run(terms=silent)
    tiny.close(beside.params, without.params)


def test_all_three_kinds_move_as_they_say():
    for accumulate in (1, 4):
        owning = task((OWNER,), steps=5, accumulate=accumulate)
        last = loop.run(owning)
        own = last.heads["owner"]
        assert float(own.buffers["seen"]) == 5 * 16
        assert float(own.buffers["all"]) == len(tiny.dataset())
        assert float(own.exported["scale"]) != 1
        assert loop.result(owning, last).heads == {"owner": {"scale": own.exported["scale"]}}


def test_parts_of_a_batch_are_the_batch():
    whole, parts = (run(accumulate=parts) for parts in (1, 4))
    tiny.close(parts.params, whole.params)
    tiny.close(trained(parts.heads), trained(whole.heads))


@pytest.mark.parametrize("sharding", [Sharding(), FSDP])
def test_one_and_eight_devices_own_the_same(sharding):
    alone, spread = (
        run(mesh=mesh, sharding=sharding, steps=4)
        for mesh in (MeshSpec(devices=1), MeshSpec(devices=8, fsdp=2))
    )
    tiny.close(trained(spread.heads), trained(alone.heads))
    tiny.close(spread.params, alone.params)


def test_a_large_head_is_split_as_the_rule_says():
    wide = task(model=mlp(tiny.CLASSES, (512,)), mesh=MeshSpec(fsdp=8), sharding=FSDP)
    layout = place(wide).state
    for tree in (layout.heads["hidden_mse"].dropped, layout.heads_opt_state):
        kernels = [leaf.spec for leaf in jax.tree.leaves(tree) if "fsdp" in leaf.spec]
        assert kernels == [PartitionSpec("fsdp")]


def test_a_member_owns_what_it_owns_alone():
    members = tiny.members_of(TERMS, seed=(3, 5))
    together = run(members=members)
    for i in range(2):
        alone = run(members=members.member(i))
        tiny.close(trained(tiny.take(together.heads, i)), trained(alone.heads))


def test_early_stopping_keeps_the_head_of_its_best_step():
    """Of a run whose first look is its best the exported head is that of the first look."""
    stopping, looks = task((OWNER,), steps=6, early_stopping=True), []

    def validate(state):
        looks.append(float(state.heads["owner"].exported["scale"]))
        return len(looks)

    state = loop.run(stopping, cadence=loop.Cadence(2, evaluate=2), validate=validate)
    best = loop.result(stopping, state).heads["owner"]["scale"]
    assert float(best) == looks[0] != looks[-1]


def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path):
    """Its last checkpoint is taken away: it goes on from the one before, heads and all."""
    ends = stopped_and_not(task((OWNER, HIDDEN), steps=6), tmp_path)
    tiny.close(ends[1], ends[0], rtol=0, atol=0)


def test_from_the_command_line_live_and_kept(tmp_path, capsys):
    assert runs.train(tmp_path / "teacher", student__widths=(16,)) == 0
    keys = {
        "arg": "distilled",
        "teacher": {"workdir": str(tmp_path / "teacher")},
        "objective": {
            "hard": {"weight": 1.0},
            "hidden_mse": {"weight": 0.5, "taps": {"hidden": ("Dense_0", "Dense_0")}},
        },
        "checkpoint_epochs": 1,
    }
    assert runs.train(tmp_path / "whole", **keys) == 0
    restored = runs.restored(tmp_path / "whole")
    assert any("hidden_mse" in path for path in restored)
    live = {**keys, "teacher": {**keys["teacher"], "precompute": False}}
    assert runs.train(tmp_path / "live", **live) == 0
    for path, value in runs.restored(tmp_path / "live").items():
        np.testing.assert_allclose(value, restored[path], rtol=1e-4, atol=1e-5)
    wrong = {"hidden_mse": {"taps": {"hidden": ("Dense_0", "Dense_9")}}}
    capsys.readouterr()
    assert runs.train(tmp_path / "wrong", **{**keys, "objective": wrong}) == 2
    said = capsys.readouterr().err
    assert "unknown tap 'Dense_9'" in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("taps", "said"),
    [
        (None, r"reads the inner features 'hidden' and nothing says which"),
        ({"hiden": "a"}, r"unknown tap in objective\.hidden_mse\.taps: 'hiden'; did you mean"),
        ({"hidden": 3}, r"must be a path or two"),
        ("Dense_0", r"taps must map the loss's names to paths"),
    ],
)
def test_a_term_that_does_not_say_what_it_reads_is_refused(taps, said):
    with pytest.raises(KdError, match=said):
        kd.term("hidden_mse", taps=taps)


def test_what_does_not_fit_is_said_before_the_first_step():
    averaged = task(teacher=_averaged())
    with pytest.raises(KdError, match=r"set teacher\.average=per_member"):
        loop.check(averaged)
    with pytest.raises(KdError, match=r"unknown need of a loss 'teachers'"):
        kd.LossInfo(hidden_mse, needs=("teachers",))
    shapes = [
        kd.Outputs(jnp.zeros((2, 3)), taps={"Dense_0": jnp.zeros(s)})
        for s in ((2, 5, 4), (2, 3, 4))
    ]
    with pytest.raises(KdError, match="only the last axis may differ"):
        init_heads([HIDDEN], jax.random.key(0), *shapes, 10)


def _averaged():
    return kd.Trained(tiny.WIDE, tiny.members(), {}, members=True).teacher()


def test_features_need_no_classes_in_common():
    """A teacher of other classes teaches features; a term on logits still refuses it."""
    wide = mlp(3, (16,))
    params, _ = wide.init(jax.random.key(0), jnp.zeros((1, 4, 4)))
    other = kd.Trained(wide, params, {}).teacher()
    run(teacher=other, steps=2)
    with pytest.raises(KdError, match="5 classes and the teacher with 3"):
        loop.check(tiny.task(teacher=other))
