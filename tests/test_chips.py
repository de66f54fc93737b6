"""The table of chips, and which topologies exist."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.errors import KdError
from kd.planning.chips import CHIPS, Topology, parse_topology, shapes

TPUS = [chip for name, chip in CHIPS.items() if name != "cpu"]
WANTED = [
    "v5e:2x4", "v5e:4x4", "v5e:8x8", "v5e:16x16", "v6e:16x16",
    "v4:2x2x4", "v5p:4x4x4", "v5p:16x16x16", "tpu7x:4x4x4",
]  # fmt: skip


@pytest.mark.parametrize("name", WANTED)
def test_a_topology_is_read_and_written_the_same(name):
    assert str(parse_topology(name)) == name
    assert parse_topology(name.upper()) == parse_topology(name)


@pytest.mark.parametrize("chip", TPUS, ids=lambda chip: chip.name)
def test_every_shape_obeys_the_rules(chip):
    known = shapes(chip)
    assert len(set(known)) == len(known)
    for shape in known:
        assert len(shape) == chip.dimensions
        assert list(shape) == sorted(shape) or shape == (2, 2, 1)
        assert math.prod(shape) <= chip.max_chips
        assert math.prod(shape) < 64 or chip.dimensions == 2 or all(side % 4 == 0 for side in shape)
        assert parse_topology(str(Topology(chip, shape))).chips == math.prod(shape)


@pytest.mark.parametrize("chip", TPUS, ids=lambda chip: chip.name)
def test_the_numbers_of_a_chip_belong_together(chip):
    assert chip.usable <= chip.hbm < 2**38
    assert chip.devices in (1, chip.cores)
    assert 1e14 < chip.flops < 1e16
    # what a chip can do, it can do least of all over the network
    assert (chip.dcn_rate or 0) < chip.ici_rate < chip.hbm_rate < chip.flops
    if chip.clock is not None:
        assert chip.flops == pytest.approx(chip.clock * chip.cores * 4 * 128 * 128 * 2, rel=0.01)


@given(st.sampled_from(TPUS), st.integers(0, 30))
def test_hosts_fill_a_topology(chip, number):
    topology = Topology(chip, shapes(chip)[number % len(shapes(chip))])
    assert all(side % part == 0 for side, part in zip(topology.shape, topology.host, strict=False))
    assert 1 <= math.prod(topology.host) <= 4


def test_a_chip_of_two_devices_counts_twice():
    assert parse_topology("tpu7x:4x4x4").devices == 2 * parse_topology("tpu7x:4x4x4").chips == 128
    assert parse_topology("v4:4x4x4").devices == 64  # its two cores are one device
    assert parse_topology("cpu:8").devices == parse_topology("cpu:8").chips == 8


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("v5e:3x3", "v5e:2x4"),
        ("v5e:4x2", "v5e:2x4"),
        ("v5e:32x32", "v5e:16x16"),
        ("v5e:4", "v5e:2x2"),
        ("v4:4x4", "v4:2x2x4"),
        ("v5p:16x4x8", "v5p:4x8x16"),
        ("v5p:16x16x25", "v5p:16x16x24"),
        ("v6f:2x2", "v6e"),
        ("v5e", "v5e:4x4"),
        ("v5e:axb", "v5e:4x4"),
        ("tpu7x:0x4x4", "tpu7x:2x4x4"),
        ("cpu:0", "cpu:4"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest(wrong, nearest):
    with pytest.raises(KdError, match=f"{nearest}('|$)"):
        parse_topology(wrong)


@given(st.sampled_from(TPUS), st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_any_shape_is_either_known_or_refused_with_one_that_is(chip, sides):
    text = f"{chip.name}:{'x'.join(map(str, sides))}"
    try:
        assert parse_topology(text).shape == tuple(sides)
    except KdError as error:
        named = str(error).rpartition("nearest is ")[2]
        assert parse_topology(named).chip is chip
        if len(sides) == chip.dimensions and tuple(sorted(sides)) in shapes(chip):
            assert parse_topology(named).shape == tuple(sorted(sides))
