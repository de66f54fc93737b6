"""What a compiled step costs, read from its text, and against what the compiler says itself."""

import json
import textwrap

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from kd.planning.count import Collective, as_dict, count, from_dict

# ----------------------------------------------------------------------------------------- the text

# a line, and (kind, times, bytes of the whole, bytes that a device sends), with 8 partitions
COLLECTIVES = {
    "%r = f32[256]{0} all-reduce(%p), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, "
    "to_apply=%add": (
        "all-reduce", 1, 1024, 2 * 3 / 4 * 1024),
    "%r = f32[256]{0} all-reduce-start(%p), channel_id=1, replica_groups=[2,4]<=[8], "
    "to_apply=%add": (
        "all-reduce", 1, 1024, 2 * 3 / 4 * 1024),
    "%r = bf16[256]{0} all-gather(%p), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}": (
        "all-gather", 1, 512, 7 / 8 * 512),
    "%r = (bf16[32]{0}, bf16[256]{0}) all-gather-start(%p), channel_id=1, replica_groups={}, "
    "dimensions={0}": (
        "all-gather", 1, 512, 7 / 8 * 512),
    "%r = ((bf16[32]{0}, bf16[8]{0}), (bf16[256]{0}, bf16[64]{0})) all-gather-start(%p, %p), "
    "replica_groups={}": (
        "all-gather", 1, 640, 7 / 8 * 640),
    "%r = f32[32]{0} reduce-scatter(%p), replica_groups=mesh['a'=8,'b'=1] {'a'}, dimensions={0}, "
    "to_apply=%add": (
        "reduce-scatter", 1, 1024, 7 / 8 * 1024),
    "%r = f32[32]{0} reduce-scatter(%p), replica_groups=mesh['a'=2,'b'=4] {'a':(1)2,'b'}, "
    "to_apply=%add": (
        "reduce-scatter", 1, 1024, 7 / 8 * 1024),
    "%r = f32[256]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}": (
        "collective-permute", 1, 1024, 1024),
    "%r = (f32[256]{0}, f32[256]{0}, u32[], u32[]) collective-permute-start(%p), "
    "source_target_pairs={{0,1}}": (
        "collective-permute", 1, 1024, 1024),
    "%r = (f32[128]{0}, f32[128]{0}) all-to-all(%p, %p), replica_groups={{0,1}}": (
        "all-to-all", 1, 1024, 512),
}  # fmt: skip


def module(body, *, before=""):
    lines = textwrap.indent(textwrap.dedent(body).strip(), "  ")
    return (
        f"HloModule m, num_partitions=8\n\n{before}ENTRY %main (p: f32[256]) -> f32[256] {{\n"
        f"{lines}\n}}\n"
    )


PARAMETER = "%p = f32[256]{0} parameter(0)\n"


@pytest.mark.parametrize("line", COLLECTIVES)
def test_a_collective_is_counted_once_with_its_bytes(line):
    kind, times, whole, sent = COLLECTIVES[line]
    counted = count(module(PARAMETER + line)).collectives
    assert list(counted) == [kind]
    assert (counted[kind].count, counted[kind].payload) == (times, whole)
    assert counted[kind].sent == pytest.approx(sent)


def test_the_second_half_of_a_collective_and_groups_of_one_are_not_counted():
    start = (
        "%s = f32[256]{0} all-reduce-start(%p), channel_id=1, replica_groups={}, to_apply=%add\n"
    )
    done = "%d = f32[256]{0} all-reduce-done(%s)\n"
    alone = (
        "%o = f32[256]{0} all-reduce(%d), channel_id=2, "
        "replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}"
    )
    assert count(module(PARAMETER + start + done + alone)).collectives["all-reduce"].count == 1


def fusion(name, inside):
    return (
        f"%{name} (q: f32[256]) -> f32[256] {{\n  %q = f32[256]{{0}} parameter(0)\n  {inside}\n"
        "}\n\n"
    )


def test_the_pieces_of_one_asynchronous_collective_are_one():
    gather = (
        "ROOT %g = f32[2048]{0} all-gather(%q), channel_id=9, replica_groups={}, dimensions={0}"
    )
    before = fusion("start", gather) + fusion("end", gather)
    lines = (
        "%a = f32[2048]{0} fusion(%p), kind=kCustom, calls=%start\n%b = f32[2048]{0} fusion(%a), "
        "calls=%end\n"
    )
    assert count(module(PARAMETER + lines, before=before)).collectives["all-gather"].count == 1


def test_a_reduction_of_which_each_device_keeps_a_part_is_a_reduce_scatter():
    inside = "%r = f32[256]{0} all-reduce(%q), channel_id=3, replica_groups={}, to_apply=%add\n"
    inside += "  ROOT %d = f32[32]{0} dynamic-slice(%r, %i), dynamic_slice_sizes={32}"
    lines = "%f = f32[32]{0} fusion(%p), kind=kCustom, calls=%scatter\n"
    counted = count(module(PARAMETER + lines, before=fusion("scatter", inside))).collectives
    assert counted == {"reduce-scatter": Collective(1, 1024, 7 / 8 * 1024)}


BODY = """\
%body (t: (s32[], f32[256], s32[])) -> (s32[], f32[256], s32[]) {
  %t = (s32[], f32[256]{0}, s32[]) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %x = f32[256]{0} get-tuple-element(%t), index=1
  %n = s32[] get-tuple-element(%t), index=2
  %one = s32[] constant(1)
  %j = s32[] add(%i, %one)
  %y = f32[256]{0} all-reduce(%x), channel_id=1, replica_groups={}, to_apply=%add
  ROOT %out = (s32[], f32[256]{0}, s32[]) tuple(%j, %y, LAST)
}

%condition (u: (s32[], f32[256], s32[])) -> pred[] {
  %u = (s32[], f32[256]{0}, s32[]) parameter(0)
  %k = s32[] get-tuple-element(%u), index=0
  %m = s32[] get-tuple-element(%u), index=2
  %twelve = s32[] constant(12)
  ROOT %less = pred[] compare(%k, BOUND), direction=LT
}

"""
LOOP = """\
%first = s32[] constant(FIRST)
%bound = s32[] constant(7)
%start = (s32[], f32[256]{0}, s32[]) tuple(%first, %p, %bound)
%w = (s32[], f32[256]{0}, s32[]) while(%start), condition=%condition, body=%bodyKNOWN
"""


@pytest.mark.parametrize(
    ("first", "bound", "last", "known", "rounds", "unknown"),
    [
        ("0", "%twelve", "%n", "", 12, 0),  # a constant of the condition
        ("2", "%twelve", "%n", "", 10, 0),
        ("0", "%m", "%n", "", 7, 0),  # a constant from outside, handed round
        ("0", "%m", "%j", "", 1, 1),  # a bound that changes is no bound
        ("0", "%m", "%j", ', backend_config={"known_trip_count":{"n":"5"}}', 5, 0),
        ("0", "%twelve", "%n", ', backend_config={"known_trip_count":{"n":"5"}}', 5, 0),
    ],
)
def test_what_is_in_a_loop_counts_as_often_as_it_runs(first, bound, last, known, rounds, unknown):
    before = BODY.replace("BOUND", bound).replace("LAST", last)
    lines = PARAMETER + LOOP.replace("FIRST", first).replace("KNOWN", known)
    counted = count(module(lines, before=before))
    assert (counted.collectives["all-reduce"].count, counted.loops, counted.unknown_loops) == (
        rounds,
        1,
        unknown,
    )


@pytest.mark.parametrize(("step", "rounds"), [(1, 12), (2, 6), (5, 3)])
def test_a_counter_may_go_up_by_more_than_one(step, rounds):
    """The compiler unrolls the loops of a product whose operand goes round the devices."""
    before = (
        BODY.replace("BOUND", "%twelve")
        .replace("LAST", "%n")
        .replace("constant(1)", f"constant({step})")
    )
    lines = PARAMETER + LOOP.replace("FIRST", "0").replace("KNOWN", "")
    assert count(module(lines, before=before)).collectives["all-reduce"].count == rounds


def test_small_memories_are_not_main_memory():
    small = "f32[256]{0:T(256)S(1)}"
    lines = f"{PARAMETER}%q = {small} negate(%p)\n%r = {small} negate(%q)\n"
    assert count(module(lines)).hbm_bytes == 1024


def test_of_a_slice_only_the_slice_is_read_and_written():
    inside = (
        "%z = s32[] constant(0)\n  ROOT %d = f32[32]{0} dynamic-slice(%q, %z), "
        "dynamic_slice_sizes={32}"
    )
    lines = PARAMETER + "%f = f32[32]{0} fusion(%p), kind=kLoop, calls=%cut\n"
    assert count(module(lines, before=fusion("cut", inside))).hbm_bytes == 2 * 128


def test_a_count_survives_json():
    counted = count(module(PARAMETER + next(iter(COLLECTIVES))))
    assert from_dict(json.loads(json.dumps(as_dict(counted)))) == counted


# ------------------------------------------------------------------------------------------------
# against the compiler


def compiled(function, *shapes):
    return (
        jax.jit(function)
        .lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
        .compile()
    )


def test_products_are_counted_as_the_compiler_does_where_nothing_loops():
    program = compiled(lambda a, b: jnp.einsum("bik,bkj->bij", a, b), (3, 64, 128), (3, 128, 32))
    assert (
        count(program.as_text()).flops == 2 * 3 * 64 * 128 * 32 == program.cost_analysis()["flops"]
    )


def test_convolutions_are_counted_as_the_compiler_does():
    def f(x, k):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, k, (2, 1), ((1, 2), (0, 1)), (1, 2), (2, 1), dimensions
        )

    program = compiled(f, (2, 9, 8, 4), (3, 3, 4, 6))
    assert count(program.as_text()).flops == program.cost_analysis()["flops"] > 0


@pytest.mark.parametrize("layers", [3, 9])
def test_a_scanned_stack_costs_what_its_layers_cost(layers):
    """The closed form 2bd² a layer, three times for a gradient; the compiler's own figure counts
    one layer.
    """

    def loss(stack, inputs):
        return jnp.sum(jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), inputs, stack)[0] ** 2)

    program = compiled(jax.grad(loss), (layers, 64, 64), (16, 64))
    counted = count(program.as_text())
    assert counted.flops == 3 * layers * 2 * 16 * 64**2
    assert counted.unknown_loops == 0
    assert program.cost_analysis()["flops"] < counted.flops / layers * 2


def test_a_step_over_eight_devices_does_an_eighth_each_and_sends_what_rings_send():
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())

    def gradient(w, x):
        return jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w)))(w)

    jitted = jax.jit(gradient, in_shardings=(whole, split), out_shardings=whole)
    shapes = (
        jax.ShapeDtypeStruct((64, 32), jnp.float32),
        jax.ShapeDtypeStruct((128, 64), jnp.float32),
    )
    counted = count(jitted.lower(*shapes).compile().as_text())
    assert counted.flops == 2 * (2 * 128 * 64 * 32) / 8
    assert counted.collectives == {
        "all-reduce": Collective(1, 64 * 32 * 4, 2 * 7 / 8 * 64 * 32 * 4)
    }
