"""MFU of a run is that of a plan: the same count, the same table of chips."""

import pytest

import tiny
from kd.errors import KdError
from kd.placement.mesh import MeshSpec, make_mesh
from kd.planning.chips import CHIPS
from kd.planning.count import count
from kd.planning.here import KINDS, at_peak
from kd.training.program import compile_program, lower, place


def test_every_chip_of_the_table_is_known_by_its_device():
    assert set(KINDS.values()) == {*CHIPS} - {"cpu"}


def test_a_step_costs_what_a_plan_says_however_long_the_dispatch():
    task = tiny.task(mesh=make_mesh(MeshSpec(devices=1)))
    said = count(lower(task).compile().as_text()).flops / CHIPS["v5e"].flops
    assert said > 0
    for capacity in (2, 5):
        program = compile_program(task, place(task), capacity, 0, None)
        assert at_peak(program.text, "TPU v5 lite") == pytest.approx(said)
        program.close()


def test_a_device_without_a_known_peak_is_not_counted():
    with pytest.raises(KdError, match="no MFU: the peak of a device 'cpu' is not known"):
        at_peak(lambda: pytest.fail("its program was asked for"), "cpu")
