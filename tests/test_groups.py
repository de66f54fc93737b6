"""Which devices a collective is among, by its text, and what it sends from slice to slice."""

import functools
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import plan_stub
import runs
from kd.errors import KdError
from kd.planning import plan as kd_plan
from kd.planning.chips import MOST_SLICES, parse_topology
from kd.planning.count import as_dict, count, from_dict, sent_share
from kd.planning.groups import Groups, groups_of
from kd.planning.hlo import parse
from kd.planning.page import row, tables

PROGRAM = """HloModule m, num_partitions=8

ENTRY %main (p: f32[256]) -> f32[256] {{
  %p = f32[256]{{0}} parameter(0)
  ROOT %r = f32[256]{{0}} {line}
}}
"""
REDUCE = "all-reduce(%p), channel_id=1, to_apply=%add, replica_groups="
PERMUTE = "collective-permute(%p), channel_id=1, source_target_pairs="


def groups(line):
    module = parse(PROGRAM.format(line=line))
    return groups_of(module.computations["main"].root, module.partitions).members.tolist()


@pytest.mark.parametrize(
    ("notations", "expected"),
    [
        (
            ["{}", "{{0,1,2,3,4,5,6,7}}", "[1,8]<=[8]", "mesh['a'=4,'b'=2] {'a','b'}"],
            [list(range(8))],
        ),
        (
            ["{{0,1},{2,3},{4,5},{6,7}}", "[4,2]<=[8]", "mesh['a'=4,'b'=2] {'b'}"],
            [[0, 1], [2, 3], [4, 5], [6, 7]],
        ),
        (
            [
                "{{0,4},{1,5},{2,6},{3,7}}",
                "[4,2]<=[2,4]T(1,0)",
                "mesh['a'=8] {'a':(1)2}",
                "mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}",
            ],
            [[0, 4], [1, 5], [2, 6], [3, 7]],
        ),
        (
            ["{{0,2},{1,3},{4,6},{5,7}}", "[4,2]<=[2,2,2]T(0,2,1)", "mesh['a'=8] {'a':(2)2}"],
            [[0, 2], [1, 3], [4, 6], [5, 7]],
        ),
    ],
)
def test_every_notation_names_the_same_groups(notations, expected):
    for notation in notations:
        assert groups(REDUCE + notation) == expected, notation


def test_pairs_are_groups_of_two():
    assert groups(PERMUTE + "{{0,1},{1,0}}") == [[0, 1], [1, 0]]


KINDS = st.sampled_from(["all-reduce", "all-gather", "reduce-scatter", "all-to-all"])


@given(KINDS, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_what_stays_and_what_goes_is_what_is_sent(kind, slices, within, apart):
    """A group of equal parts in `slices` of the slices; the others have groups of their own."""
    group = Groups(np.arange(slices * within * apart).reshape(slices, apart, within)
                   .transpose(1, 0, 2).reshape(apart, -1))  # fmt: skip
    if group.size == 1:
        return
    whole = sent_share(kind, group.size)
    across = whole * group.over(kind, slices, group.members.size)
    inside = sent_share(kind, within) if within > 1 else 0.0
    if kind == "all-to-all":
        assert across == pytest.approx((slices - 1) * within / group.size)
    else:  # each slice sums, or gathers, its own; then each of the parts goes to the others
        assert whole - across == pytest.approx(inside)
        assert across * within == pytest.approx(sent_share(kind, slices) if slices > 1 else 0.0)
    assert group.over(kind, 1, group.members.size) == 0.0


def test_a_permutation_sends_to_other_slices_what_its_pairs_do():
    text = PROGRAM.format(line=PERMUTE + "{{0,1},{1,2},{3,4},{4,0}}")
    [moved] = count(text, slices=2).collectives.values()
    assert (moved.sent, moved.across) == (1024, 512)
    assert from_dict(as_dict(count(text, slices=2))).across == 512
    assert count(text).across == 0


SEND = (
    "(f32[4,8]{{1,0}}, u32[], token[]) send(%p, %t), channel_id=3, is_host_transfer=true, "
    'frontend_attributes={{_xla_host_transfer_rendezvous="{kind}.3_0"}}'
)


@pytest.mark.parametrize(
    ("kind", "sent"), [("all-reduce", 4 / 3 * 128), ("all-gather", 2 / 3 * 384), ("other", 0)]
)
def test_slices_with_a_program_each_send_to_the_others_through_their_hosts(kind, sent):
    """As the TPU's compiler writes it; its collectives stay inside a slice, however it is split."""
    lines = f"%x = {SEND.format(kind=kind)}\n  %s = f32[256]{{0}} {REDUCE}{{{{0,4}}}}"
    text = PROGRAM.format(line=REDUCE + "{}").replace("  ROOT", f"  {lines}\n  ROOT")
    counted = count(text, slices=3, devices=24)
    assert counted.across == pytest.approx(sent)
    assert counted.within == pytest.approx(count(text).sent)


@pytest.fixture
def compile(monkeypatch):
    """The true worker, on a small step that is split over all devices."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(plan_stub.__file__).parent))
    return functools.partial(kd_plan.ask_worker, lower="plan_stub:lower")


def test_a_step_is_planned_for_slices(compile):
    planned = kd_plan.plan(runs.get_config("distilled"), "cpu:4", slices=2, compile=compile)
    assert (planned.topology.devices, str(planned.topology)) == (8, "2 slices of cpu:4")
    counted = planned.count
    assert counted.sent > 0
    # every collective is among all 8: of the 7 parts that a device sends, one goes across
    assert counted.across == pytest.approx(counted.sent / 7)
    assert counted.within + counted.across == pytest.approx(counted.sent)
    shown = [cell for table in tables(planned) for line in table.rows for cell in line]
    assert {"bytes sent from slice to slice", "rate unknown"} <= set(shown)
    assert f"{counted.across:.3e}" in shown
    assert f"({counted.across / 1e6:,.1f} across)" in row(planned)[8]


def test_the_slices_of_a_plan_are_those_of_its_mesh():
    """Whatever the config says; a change that would fit stays inside a slice."""
    seen = []

    def refusing(spec, topology):
        seen.append((kd_plan.json.loads(spec)["mesh"], topology.slices))
        step = {"refused": {"needed": 2**40, "available": 2**34}, "compile_seconds": 1.0}
        facts = {"batch_size": 1, "total_steps": 1, "examples": 1, "members": 1, "width": 1}
        return {"held": {}, "facts": facts, "teacher": None, "step": step}

    config = runs.get_config("distilled")
    config.mesh.slices = 3
    kd_plan.plan(config, "v5e:2x4", slices=4, compile=refusing)
    assert {mesh["slices"] for mesh, _ in seen} == {4}
    assert max(mesh["fsdp"] for mesh, _ in seen) == 8


@pytest.mark.parametrize("slices", [0, -1, MOST_SLICES + 1])
def test_a_number_of_slices_that_cannot_be(slices):
    with pytest.raises(KdError, match=r"--slices must be from 1 to"):
        parse_topology("v5e:4x4", slices)
