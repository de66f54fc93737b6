"""What goes wrong is said in words: blocks that cannot be read, a poor layout, too few clusters."""

import types
import warnings

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import runs
from kd.data.stream import Stream
from kd.errors import KdError
from kd.evidence import MIN_UNITS, compare_counts, compare_errors
from kd.placement import mesh as kd_mesh
from kd.placement.mesh import MeshSpec, make_mesh
from kd.planning import plan as kd_plan


class Blocks:
    """Ten images, each of which can be read alone; several at once as `several` says."""

    def __init__(self, several):
        self.several, self.alone = several, 0

    def __len__(self):
        return 10

    def __getitem__(self, row):
        self.alone += 1
        return {"image": np.full((2, 2, 1), row, np.uint8), "label": row}

    def __getitems__(self, rows):
        return self.several(self, rows)


def test_blocks_that_always_fail_are_an_error_and_not_slow_for_ever():
    def broken(source, rows):
        raise TypeError(f"{len(rows)} rows are too many")

    source = Blocks(broken)
    stream = Stream(source, 10, "ten", record_shape=(2, 2, 1))
    with pytest.raises(KdError, match="each of 4 examples alone, and not all at once: 4 rows are"):
        stream.read([1, 2, 3, 4])
    assert source.alone == 4
    assert stream.read([5])[1].tolist() == [5]


def test_blocks_that_can_be_read_are_read_once():
    source = Blocks(lambda source, rows: [Blocks.__getitem__(source, row) for row in rows])
    images, labels = Stream(source, 10, "ten", record_shape=(2, 2, 1)).read([3, 1, 7])
    assert labels.tolist() == images[:, 0, 0, 0].tolist() == [3, 1, 7]
    assert source.alone == 3


@pytest.mark.parametrize(("platform", "warned"), [("tpu", 1), ("cpu", 0)])
def test_a_mesh_that_follows_no_network_says_so(platform, warned, monkeypatch):
    def unknown(*_, **__):
        raise NotImplementedError("no such layout")

    def here(devices, names, axis_types):
        """The chips are names alone: devices of this process stand for them."""
        ours = np.asarray(jax.devices()[: devices.size]).reshape(devices.shape)
        return Mesh(ours, names, axis_types=axis_types)

    chips = [types.SimpleNamespace(platform=platform, id=i) for i in range(4)]
    monkeypatch.setattr(jax, "make_mesh", unknown)
    monkeypatch.setattr(kd_mesh, "Mesh", here)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert make_mesh(MeshSpec(fsdp=2), chips).devices.shape == (2, 2, 1, 1)
    assert [("2 x 2 x 1 x 1" in str(w.message)) for w in caught] == [True] * warned


@pytest.mark.parametrize("units", [1, MIN_UNITS - 1, MIN_UNITS])
def test_a_verdict_takes_as_many_clusters_as_seeds(units):
    """One speaker, however many utterances: what holds for it need not hold for another."""
    better, worse = np.full((6, units), 1.0), np.full((6, units), 9.0)
    comparison = compare_counts(better.tolist(), worse.tolist())
    assert comparison.high < 0
    assert comparison.units == units
    assert comparison.verdict == ("HELPS" if units >= MIN_UNITS else "NO EVIDENCE")
    assert ("clusters" in comparison.meaning) == (units < MIN_UNITS)
    everything = [list(range(units))] * 6
    assert compare_errors([[]] * 6, everything, units).verdict == comparison.verdict


@pytest.mark.parametrize(("batch", "said"), [(1, False), (2, True)])
def test_no_smaller_batch_than_one_is_advised(batch, said):
    facts = {"batch_size": batch, "total_steps": 10, "examples": 100, "members": 1, "width": 10}
    step = {"refused": {"needed": 2**40, "available": 2**34}, "compile_seconds": 1.0}
    answer = {"held": {}, "facts": facts, "teacher": None, "step": step}
    plan = kd_plan.plan(runs.get_config(), "v5e:4x4", compile=lambda *_: answer, search=False)
    assert ("a smaller batch" in kd_plan.describe_change(plan)) == said
