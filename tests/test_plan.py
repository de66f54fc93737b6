"""Planning: the compiled text is counted right, the roofline keeps its laws, and what does not fit
is refused.
"""

import functools
import importlib.util
import json
import pathlib
import textwrap

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import plan_stub
import runs
from kd.config import Data, resolve, to_json
from kd.errors import KdError
from kd.planning import plan as kd_plan
from kd.planning.candidates import candidates, changed, overrides
from kd.planning.chips import CHIPS, parse_topology
from kd.planning.count import Collective, Count, as_dict, count, from_dict, sent_share
from kd.planning.page import COLUMNS, as_json, row, table, tables
from kd.planning.roofline import answer_bytes, bill, cache, compiler_seconds, roofline
from kd.planning.worker import memory_refused
from kd.runs import build

V5E = CHIPS["v5e"]
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="pip install -e '.[plan]'"
)

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
    found = count(module(PARAMETER + line)).collectives
    assert list(found) == [kind]
    assert (found[kind].count, found[kind].payload) == (times, whole)
    assert found[kind].sent == pytest.approx(sent)


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
    found = count(module(PARAMETER + lines, before=fusion("scatter", inside))).collectives
    assert found == {"reduce-scatter": Collective(1, 1024, 7 / 8 * 1024)}


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
    found = count(module(lines, before=before))
    assert (found.collectives["all-reduce"].count, found.loops, found.unknown_loops) == (
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
    found = count(module(PARAMETER + next(iter(COLLECTIVES))))
    assert from_dict(json.loads(json.dumps(as_dict(found)))) == found


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
    found = count(program.as_text())
    assert found.flops == 3 * layers * 2 * 16 * 64**2
    assert found.unknown_loops == 0
    assert program.cost_analysis()["flops"] < found.flops / layers * 2


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
    found = count(jitted.lower(*shapes).compile().as_text())
    assert found.flops == 2 * (2 * 128 * 64 * 32) / 8
    assert found.collectives == {"all-reduce": Collective(1, 64 * 32 * 4, 2 * 7 / 8 * 64 * 32 * 4)}


# ------------------------------------------------------------------------------------- the roofline

amounts = st.floats(1e3, 1e18)


def work(flops=0.0, hbm=0.0, sent=0.0, **rest):
    return Count(flops, hbm, collectives={"all-gather": Collective(1, sent, sent)}, **rest)


@given(
    amounts,
    amounts,
    amounts,
    st.sampled_from([c for c in CHIPS.values() if c.flops]),
    st.floats(1, 100),
)
def test_the_roofline_is_its_slowest_part(flops, hbm, sent, chip, factor):
    line = roofline(work(flops, hbm, sent), chip)
    assert line.seconds == max(line.compute, line.memory, line.network) == getattr(line, line.bound)
    assert 0 < line.mfu <= 1
    assert (line.mfu == 1) == (line.compute == line.seconds)
    slower = roofline(work(flops * factor, hbm * factor, sent * factor), chip)
    assert slower.seconds == pytest.approx(factor * line.seconds)
    assert slower.mfu == pytest.approx(line.mfu)
    assert line.compute * chip.flops == pytest.approx(flops * chip.devices)


def test_of_fake_devices_nothing_is_known():
    assert roofline(work(1e9), CHIPS["cpu"]) is None
    assert cache(10, 1e9, 10.0, parse_topology("cpu:8"), mfu=0.4, read_rate=1e9) is None


def test_a_negative_estimate_is_no_time_and_a_loop_counted_once_is_no_estimate():
    v6e = CHIPS["v6e"]
    assert compiler_seconds(-0.99, work(), v6e) is None
    assert compiler_seconds(0.5, work(), v6e) == 0.5
    assert compiler_seconds(0.5, work(loops=1), v6e) is None
    assert compiler_seconds(0.5, work(loops=1, cycles=3e9), V5E) == 2.0


@given(st.sampled_from(["all-gather", "reduce-scatter", "all-to-all"]), st.integers(2, 10_000))
def test_an_all_reduce_sends_as_much_as_its_two_halves(kind, group):
    assert sent_share("all-reduce", group) == pytest.approx(2 * sent_share(kind, group))
    assert 0.5 <= sent_share(kind, group) < 1


@given(st.floats(1e-4, 10), st.integers(1, 4096), st.integers(1, 10**6), st.floats(0, 10))
def test_a_bill_adds_up(seconds, batch_size, steps, price):
    topology = parse_topology("v5e:4x4")
    one, all_of_it = (
        bill(seconds, batch_size, 1, topology, price),
        bill(seconds, batch_size, steps, topology, price),
    )
    assert all_of_it.chip_hours == pytest.approx(16 * all_of_it.hours)
    assert all_of_it.price == pytest.approx(steps * one.price)
    assert all_of_it.examples_per_second * all_of_it.hours * 3600 == pytest.approx(
        batch_size * steps
    )
    assert bill(seconds, batch_size, steps, topology).price is None


@given(
    st.integers(1, 10**7),
    st.floats(1e6, 1e13),
    st.floats(1, 1e6),
    st.floats(0.05, 1),
    st.floats(1e6, 1e12),
    st.integers(1, 50),
)
def test_a_cache_pays_from_the_first_epoch_at_which_it_takes_less(
    examples, flops, answer, mfu, rate, members
):
    found = cache(
        examples, flops, answer, parse_topology("v5e:2x4"), mfu=mfu, read_rate=rate, members=members
    )
    assert found.bytes == examples * answer
    one, read = found.pass_seconds, found.read_seconds
    asked = members * one
    if found.from_epochs is None:
        assert asked <= read * (1 + 1e-9)  # no number of epochs would do
    else:
        epochs = found.from_epochs
        assert epochs >= (1 if members > 1 else 2)
        assert one + epochs * read <= epochs * asked * (1 + 1e-9)
        assert one + (epochs - 1) * read >= (epochs - 1) * asked * (1 - 1e-9)


def test_a_small_answer_is_smaller_unless_there_is_nothing_to_leave_out():
    assert answer_bytes(1000, 16) < answer_bytes(1000)
    assert answer_bytes(10, 16) == answer_bytes(10) == 20


VIEWS = {"stream": True, "crop": "random", "flip": True, "mixup": True, "jitter_pixels": 1}


@pytest.mark.parametrize("key", VIEWS)
def test_a_cache_that_training_refuses_never_pays(key):
    config = runs.get_config("distilled")
    config.data.image_size, config.data.examples, config.data.stream = 32, 1000, True
    config.student.classes, config.teacher.model = 10, {"name": "mlp"}
    config.data[key] = VIEWS[key]
    with pytest.raises(KdError, match=r"config.teacher.precompute keeps") as refusal:
        build.planned(resolve(config))
    config.teacher.precompute = False
    answer = {"facts": {"examples": 10, "batch_size": 5, "members": 1, "width": 10}}
    answer["teacher"] = {"count": as_dict(Count(flops=1e12))}
    spec = json.loads(to_json(resolve(config)))
    kept = kd_plan.Plan(parse_topology("v5e:2x4"), spec, answer).cache(None)
    assert kept.from_epochs is None
    assert f"data.{key}" in kept.why_not
    assert kept.why_not in str(refusal.value)
    assert Data().why_not_kept == ""


# ------------------------------------------------------------------------------------------ refusal

GIB = 2**30
SPEC = {
    "mesh": {"fsdp": 1, "data": None},
    "remat": False,
    "accumulate": 1,
    "sharding": {"student": {"rule": "replicate"}},
}


def refusing(need):
    """A compiler to which a spec needs ``need(spec)`` GiB of v5e's 15.75."""

    def compile(text, topology):
        spec = json.loads(text)
        size = need(spec)
        if size is None:
            raise KdError("cannot be lowered")
        facts = {"batch_size": 256, "total_steps": 10, "examples": 1000, "members": 1, "width": 10}
        answer = {"held": {"parameters": GIB, "teacher": GIB}, "facts": facts, "teacher": None}
        if size > 15.75:
            refused = {"needed": int(size * GIB), "available": int(15.75 * GIB)}
            return {**answer, "step": {"refused": refused, "compile_seconds": 1.0}}
        memory = {
            "arguments": int(size * GIB),
            "outputs": 5,
            "aliased": 5,
            "temporaries": 0,
            "code": 0,
        }
        step = {
            "refused": None,
            "compile_seconds": 1.0,
            "memory": memory,
            "xla": {},
            "count": as_dict(work(1e9, 1e6, 1e3)),
        }
        return {**answer, "step": step}

    return compile


def planned(need, topology="v5e:4x4", **options):
    return kd_plan.plan(runs.get_config("distilled"), topology, compile=refusing(need), **options)


def test_what_fits_is_not_changed():
    plan = planned(lambda _: 15.0)
    assert (plan.fits, plan.exit_code, plan.change, list(plan.tried)) == (True, 0, None, [])
    assert plan.needed == 15 * GIB


@pytest.mark.parametrize(
    ("fits", "change"),
    [
        (lambda s: s["mesh"].get("fsdp", 1) >= 8, {"mesh.fsdp": 8}),
        (lambda s: s["mesh"].get("fsdp", 1) >= 16, {"mesh.fsdp": 16}),
        (lambda s: s.get("remat"), {"remat": True}),
        (lambda s: s.get("accumulate", 1) >= 4, {"accumulate": 4}),
        (
            lambda s: s.get("remat") and s.get("accumulate", 1) >= 8,
            {"mesh.fsdp": 16, "remat": True, "accumulate": 8},
        ),
    ],
)
def test_the_nearest_change_that_fits_is_found(fits, change):
    plan = planned(lambda spec: 10.0 if fits(spec) else 20.0)
    assert plan.exit_code == 3
    assert change.items() <= plan.change.items()
    assert plan.changed.fits
    assert fits(changed(plan.spec, plan.change))
    said = kd_plan.describe_change(plan)
    for key, value in change.items():
        assert f"--config.{key}={str(value).lower()}" in said
    assert "20.00 of 15.75 GiB" in said


def test_what_nothing_helps_says_so_and_a_change_that_cannot_be_made_is_passed_over():
    plan = planned(lambda spec: None if spec.get("remat") else 20.0)
    assert plan.change is None
    assert not plan.fits
    assert None in [size for _, size in plan.tried]
    assert "does not fit" in kd_plan.describe_change(plan)
    assert not planned(lambda _: 20.0, search=False).tried


@given(
    st.sampled_from([1, 2, 4, 8, 16]),
    st.booleans(),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 8, 16, 256]),
)
def test_candidates_change_something_and_never_the_same_thing_twice(
    fsdp, remat, accumulate, devices
):
    spec = {**SPEC, "mesh": {"fsdp": min(fsdp, devices)}, "remat": remat, "accumulate": accumulate}
    found = list(candidates(spec, devices))
    results = [json.dumps(changed(spec, change), sort_keys=True) for change in found]
    assert len(set(results)) == len(results)
    assert json.dumps(spec, sort_keys=True) not in results
    assert all(devices % change.get("mesh.fsdp", 1) == 0 for change in found)
    assert all(overrides(change).count("--config.") == len(change) for change in found)


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
         "temporaries (24.25G) exceeds "
         "available HBM (15.75G).", 24.25 * GIB, 15.75 * GIB),
        (
            "Ran out of memory in memory space hbm. Used 512.5M of 15.75G hbm.",
            512.5 * 2**20, 15.75 * GIB,
        ),
    ],
)  # fmt: skip
def test_the_compilers_refusal_is_read(message, needed, available):
    assert memory_refused(message) == {"needed": needed, "available": available}
    assert memory_refused("INTERNAL: something else (3.00G)") is None


@pytest.mark.parametrize("wrong", [{"mfu": 0.0}, {"mfu": 1.5}, {"price_per_chip_hour": -1.0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(KdError, match=next(iter(wrong))):
        planned(lambda _: 1.0, **wrong)


def test_the_table_has_a_row_per_topology_and_says_what_does_not_fit():
    need = {16: 20.0, 64: 10.0}
    compile = refusing(lambda spec: 10.0 if spec.get("remat") else 20.0)
    text = table(runs.get_config("distilled"), ["v5e:4x4", "v6e:8x8", "v5e:3x3"], compile=compile)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(need) + 2 == len(lines)
    assert {line.count("|") for line in lines} == {len(COLUMNS) + 1}
    assert "--config.remat=true" in text
    assert "v5e:3x3" in text
    with pytest.raises(KdError, match="nearest"):
        table(runs.get_config("distilled"), ["v5e:3x3"], compile=compile)


# --------------------------------------------------------------------------------------- the worker


@pytest.fixture
def worker(monkeypatch):
    """The true worker, on a small step of its own."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(plan_stub.__file__).parent))

    def start(lower="plan_stub:lower"):
        return functools.partial(kd_plan.ask_worker, lower=lower)

    return start


def test_a_step_is_compiled_for_devices_that_are_not_here(worker):
    plan = kd_plan.plan(runs.get_config("distilled"), "cpu:4", compile=worker())
    student, teacher = plan_stub.flops(40 * 4)
    assert plan.count.flops * 4 == student + teacher
    assert plan.fits
    assert plan.needed > plan.answer["held"]["parameters"] > 0
    assert plan.roofline is None
    assert from_dict(plan.answer["teacher"]["count"]).flops * 4 == teacher
    assert [len(line) for line in tables(plan)[0].rows]
    assert len(row(plan)) == len(COLUMNS)
    assert json.loads(as_json(plan))["fits"] is True


def test_what_the_worker_finds_wrong_is_said_here(worker):
    with pytest.raises(KdError, match="did you mean 'lower'"):
        kd_plan.plan(runs.get_config(), "cpu:2", compile=worker("plan_stub:lowr"))


def test_without_the_tpu_compiler_the_way_to_get_it_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(KdError, match=r"pip install -e '.\[plan\]'"):
        kd_plan.plan(runs.get_config(), "v5e:2x4")


@needs_libtpu
@pytest.mark.parametrize("topology", ["v5e:2x4", "tpu7x:2x2x1"])
def test_the_tpu_compiler_does_the_same_work(worker, topology):
    plan = kd_plan.plan(runs.get_config("distilled"), topology, compile=worker())
    student, teacher = plan_stub.flops(40 * 8)
    assert plan.count.flops * 8 == pytest.approx(student + teacher)
    assert plan.count.collectives["all-gather"].count == 18
    assert plan.roofline.seconds > 0
    assert plan.count.unknown_loops == 0


@needs_libtpu
def test_the_tpu_compiler_refuses_what_does_not_fit(worker):
    plan = kd_plan.plan(
        runs.get_config("distilled"), "v5e:2x2", compile=worker("plan_stub:huge"), search=False
    )
    assert not plan.fits
    assert plan.needed > plan.available == V5E.usable
    assert plan.answer["held"]["teacher"] == 6 * 4 * plan_stub.HUGE**2 // 4
