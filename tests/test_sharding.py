"""Laws of the rules: where arrays live changes no number, and a rule that cannot be kept is refused
beforehand.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import runs
import tiny
from kd.core.optim import Optim, make_optimizer
from kd.core.state import with_best, with_ema
from kd.errors import KdError
from kd.models import mlp
from kd.placement.mesh import MeshSpec, make_mesh
from kd.placement.sharding import (
    Rule,
    Sharding,
    bytes_per_device,
    specs,
    state_shardings,
    teacher_shardings,
)
from kd.teachers import make as kd_teacher
from kd.training import loop
from kd.training.program import place

MESH = MeshSpec(fsdp=2, tensor=2)
WIDE = mlp(tiny.CLASSES, (256, 128))
PARAMS = jax.eval_shape(WIDE.init, jax.random.key(0), jnp.zeros((1, 4, 4)))[0]
FSDP = Rule("fsdp")
BOTH = Rule("fsdp", {"Dense_1/kernel": ("fsdp", "tensor")})


def test_fsdp_splits_the_largest_dimension_and_leaves_small_arrays_whole():
    split = specs(FSDP, PARAMS, make_mesh(MESH))
    assert split["Dense_0"] == {"kernel": P(None, "fsdp"), "bias": P()}  # [16 256]
    assert split["Dense_1"] == {"kernel": P("fsdp"), "bias": P()}  # [256 128]
    odd = {
        "kernel": jax.ShapeDtypeStruct((99, 101), jnp.float32),
        "wide": jax.ShapeDtypeStruct((99, 50), jnp.float32),
    }
    assert specs(FSDP, odd, make_mesh(MESH)) == {"kernel": P(), "wide": P(None, "fsdp")}
    assert set(
        jax.tree.leaves(specs(Rule(), PARAMS, make_mesh(MESH)), is_leaf=lambda x: isinstance(x, P))
    ) == {P()}


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (
            {"Dense_1/kernal": ("fsdp",)},
            "no parameter matches 'Dense_1/kernal'; did you mean 'Dense_1/kernel'",
        ),
        (
            {"Dense_1/*": ("fsdp",), "*/kernel": (None, "fsdp")},
            "both match Dense_1/kernel and say different things",
        ),
        ({"Dense_1/kernel": ("fspd",)}, "unknown axis .* 'fspd'; did you mean 'fsdp'"),
        ({"Dense_1/kernel": ("fsdp", "fsdp")}, "'fsdp' is used twice"),
        ({"Dense_1/kernel": ("data", ("data", "fsdp"))}, "'data' is used twice"),
        ({"*/bias": ("data", "fsdp")}, "2 axes are given and its shape is"),
        ({"Dense_2/bias": ("tensor",)}, "a dimension of 5 does not divide over tensor = 2"),
    ],
)
def test_rules_that_cannot_be_kept(paths, words):
    with pytest.raises(KdError, match=words):
        specs(Rule("replicate", paths), PARAMS, make_mesh(MESH))


def adam():
    return make_optimizer(Optim("adam", weight_decay=0.1, clip_norm=1.0))


def test_optimiser_state_averages_and_the_best_follow_the_parameters():
    task = a_task(optimizer=adam())
    state = with_best(with_ema(loop.initial_state(task)))
    placed = state_shardings(state, BOTH, make_mesh(MESH), population=False)
    want = jax.tree.map(lambda s: s.spec, placed.params)
    assert want["Dense_1"]["kernel"] == P("fsdp", "tensor")
    adam_state = next(s for s in jax.tree.leaves(placed.opt_state, is_leaf=_is_adam) if _is_adam(s))
    for tree in (adam_state.mu, adam_state.nu, placed.ema, placed.best.params):
        assert jax.tree.map(lambda s: s.spec, tree) == want
    assert adam_state.count.spec == placed.step.spec == placed.key.spec == P()
    whole = state_shardings(state, Rule(), make_mesh(MESH), population=False)
    assert bytes_per_device(state, placed) < 0.6 * bytes_per_device(state, whole)
    assert bytes_per_device(state, whole) == sum(
        (jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x).nbytes
        for x in jax.tree.leaves(state)
    )


def _is_adam(x):
    return isinstance(x, optax.ScaleByAdamState)


def test_a_population_lies_over_its_own_axis():
    mesh = make_mesh(MeshSpec(fsdp=2, member=2))
    stacked = jax.tree.map(lambda x: jax.ShapeDtypeStruct((4, *x.shape), x.dtype), PARAMS)
    split = specs(FSDP, stacked, mesh, leading=("member",))
    assert split["Dense_1"] == {"kernel": P("member", "fsdp"), "bias": P("member")}


def test_the_teacher_has_a_rule_of_its_own():
    mesh = make_mesh(MESH)
    params = WIDE.init(jax.random.key(0), jnp.zeros((1, 4, 4)))[0]
    live = kd_teacher.live(WIDE, params)
    assert teacher_shardings(live, live.variables, FSDP, mesh)["params"]["Dense_1"][
        "kernel"
    ].spec == P("fsdp")
    assert (
        teacher_shardings(live, live.variables, Rule(), mesh)["params"]["Dense_1"]["kernel"].spec
        == P()
    )
    three = jax.tree.map(lambda x: jnp.stack([x] * 3), params)
    ensemble = kd_teacher.ensemble(WIDE, three)
    layer = teacher_shardings(ensemble, ensemble.variables, BOTH, mesh)["params"]["Dense_1"][
        "kernel"
    ].spec
    assert layer == P(None, "fsdp", "tensor")
    table = kd_teacher.precomputed(np.zeros((8, 5), np.float32))
    assert teacher_shardings(table, table.variables, FSDP, mesh).logits.spec == P()
    with pytest.raises(KdError, match=r"path in sharding\.teacher\.paths"):
        loop.check(a_task(sharding=Sharding(teacher=Rule("fsdp", {"nothing": ()})), teacher=live))


def a_task(**changes):
    return tiny.task(WIDE, steps=4, **changes)


def losses(task):
    curves = []
    state = loop.run(
        task,
        cadence=loop.Cadence(1),
        start_writing=lambda _: [lambda _, values: curves.append(values["loss"])],
    )
    return np.asarray(curves), state


LAYOUTS = {
    "data 8": (MeshSpec(), Sharding()),
    "fsdp 8": (MeshSpec(fsdp=8), Sharding(FSDP, FSDP)),
    "data 2 x fsdp 2 x tensor 2": (MESH, Sharding(BOTH, Rule())),
    "4 devices": (MeshSpec(devices=4, fsdp=2), Sharding(FSDP)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_arrays_live_changes_no_number(layout):
    mesh, sharding = LAYOUTS[layout]
    alone, state = losses(a_task(optimizer=adam(), mesh=MeshSpec(devices=1)))
    spread, there = losses(a_task(optimizer=adam(), mesh=mesh, sharding=sharding))
    np.testing.assert_allclose(spread, alone, rtol=1e-6)
    tiny.close(there.params, state.params, rtol=1e-4, atol=1e-5)
    placement = place(a_task(optimizer=adam(), mesh=mesh, sharding=sharding))
    assert jax.tree.map(lambda x: x.sharding, there) == placement.state
    assert not np.allclose(spread[0], spread[-1])


def test_a_population_on_its_axis_is_the_same_population():
    members = tiny.members_of(seed=(0, 1, 2, 3))
    alone, _ = losses(a_task(members=members, mesh=MeshSpec(devices=1)))
    spread, state = losses(
        a_task(members=members, mesh=MeshSpec(member=4, fsdp=2), sharding=Sharding(FSDP))
    )
    np.testing.assert_allclose(spread, alone, rtol=1e-6)
    assert state.params["Dense_1"]["kernel"].sharding.spec == P("member", "fsdp")


def test_the_table_of_the_command_line(capsys):
    keys = {
        "mesh__devices": 8,
        "mesh__fsdp": 2,
        "sharding__student__rule": "fsdp",
        "student__widths": (256, 8),
    }
    command = runs.kd(
        "train", "--show-sharding", arg="distilled", teacher__workdir=runs.finished(), **keys
    )
    assert runs.main(command) == 0
    shown = capsys.readouterr().out
    assert "student Dense_0/kernel" in shown
    assert "[64, 256]" in shown
    assert "None, fsdp" in shown
    assert "32.8 kB" in shown  # 64 x 256 x 4 bytes over 2
    assert "teacher" in shown
