"""Planning: the roofline keeps its laws, the worker compiles what is not here, and what does not
fit is refused.
"""

import functools
import importlib.util
import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plan_stub
import runs
from kd.config import Data, resolve, to_json
from kd.errors import KdError
from kd.planning import plan as kd_plan
from kd.planning.candidates import candidates, changed, overrides
from kd.planning.chips import CHIPS, parse_topology
from kd.planning.count import Collective, Count, as_dict, from_dict, sent_share
from kd.planning.page import COLUMNS, as_json, row, table, tables
from kd.planning.roofline import answer_bytes, bill, cache, compiler_seconds, roofline
from kd.planning.worker import memory_refused
from kd.runs import build

V5E = CHIPS["v5e"]
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="pip install -e '.[plan]'"
)

# ------------------------------------------------------------------------------------- the roofline

amounts = st.floats(1e3, 1e18)


def work(flops=0.0, hbm=0.0, sent=0.0, across=0.0, **rest):
    gathered = Collective(1, sent + across, sent + across, across)
    return Count(flops, hbm, collectives={"all-gather": gathered}, **rest)


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


@given(amounts, amounts, st.sampled_from([c for c in CHIPS.values() if c.flops]))
def test_what_goes_from_slice_to_slice_has_a_rate_of_its_own(flops, across, chip):
    alone, line = roofline(work(flops), chip), roofline(work(flops, across=across), chip)
    assert (alone.dcn, line.network) == (0.0, 0.0)
    if chip.dcn_rate is None:
        assert line.dcn is None
        assert (line.seconds, line.bound) == (alone.seconds, alone.bound)
    else:
        assert line.dcn * chip.dcn_rate == pytest.approx(across * chip.devices)
        assert line.seconds == max(line.compute, line.dcn)
        assert line.at(0.5) == max(2 * line.compute, line.dcn)


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
    first, all_of_it = (
        bill(seconds, batch_size, 1, topology, price),
        bill(seconds, batch_size, steps, topology, price),
    )
    assert all_of_it.chip_hours == pytest.approx(16 * all_of_it.hours)
    assert all_of_it.price == pytest.approx(steps * first.price)
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
    kept = cache(
        examples, flops, answer, parse_topology("v5e:2x4"), mfu=mfu, read_rate=rate, members=members
    )
    assert kept.bytes == examples * answer
    pass_seconds, read = kept.pass_seconds, kept.read_seconds
    asked = members * pass_seconds
    if kept.from_epochs is None:
        assert asked <= read * (1 + 1e-9)  # no number of epochs would do
    else:
        epochs = kept.from_epochs
        assert epochs >= (1 if members > 1 else 2)
        assert pass_seconds + epochs * read <= epochs * asked * (1 + 1e-9)
        assert pass_seconds + (epochs - 1) * read >= (epochs - 1) * asked * (1 - 1e-9)


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
    changes = list(candidates(spec, devices))
    results = [json.dumps(changed(spec, change), sort_keys=True) for change in changes]
    assert len(set(results)) == len(results)
    assert json.dumps(spec, sort_keys=True) not in results
    assert all(devices % change.get("mesh.fsdp", 1) == 0 for change in changes)
    assert all(overrides(change).count("--config.") == len(change) for change in changes)


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
