"""Laws of slices: data parallel from slice to slice, everything else inside one; and a run that
loses one goes on with the rest.
"""

import math
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental.mesh_utils import create_hybrid_device_mesh

import processes
import runs
from kd.errors import KdError
from kd.placement.mesh import AXES, MeshSpec, make_mesh
from kd.placement.slices import in_slices

SIZES = st.sampled_from([1, 2, 4])


@given(st.sampled_from([1, 2, 4, 8]), SIZES, SIZES)
def test_only_data_goes_from_slice_to_slice(slices, fsdp, tensor):
    spec = MeshSpec(slices=slices, fsdp=fsdp, tensor=tensor)
    inside, product = 8 // slices, fsdp * tensor
    if 8 % product or inside % product:
        words = "there are 8 devices" if 8 % product else f"a slice has {inside} devices"
        with pytest.raises(KdError, match=words):
            make_mesh(spec)
        return
    mesh = make_mesh(spec)
    assert mesh.axis_names == AXES
    assert {device.id for device in mesh.devices.flat} == set(range(8))
    of_each = np.vectorize(lambda device: device.id // inside)(mesh.devices)
    assert of_each.reshape(slices, -1).tolist() == [[i] * inside for i in range(slices)]
    shape = (inside // product, fsdp, tensor, 1)
    assert (ids(mesh.devices) == ids(hybrid(slices, shape))).all()


def ids(devices):
    return np.vectorize(lambda device: device.id)(devices)


def hybrid(slices, shape):
    """JAX's own mesh, over devices that know their slice."""
    inside = math.prod(shape)
    chips = [
        types.SimpleNamespace(id=i, slice_index=i // inside, platform="none", device_kind="none")
        for i in range(slices * inside)
    ]
    return create_hybrid_device_mesh(shape, (slices, 1, 1, 1), chips)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (MeshSpec(slices=3), "mesh.slices is 3 and 8 devices do not divide over that; use a"),
        (MeshSpec(slices=16), "mesh.slices is 16 and 8 devices do not divide"),
        (MeshSpec(slices=0), "mesh.slices must be 1 or more, got 0"),
        (MeshSpec(slices=True), "mesh.slices must be a whole number, got True"),
        (MeshSpec(devices=6, slices=4), "mesh.slices is 4 and 6 devices do not divide"),
    ],
)
def test_slices_that_cannot_be(spec, words):
    with pytest.raises(KdError, match=words):
        make_mesh(spec)


def chips(*slices, platform="tpu"):
    return [types.SimpleNamespace(platform=platform, slice_index=i) for i in slices]


def test_chips_know_their_slice():
    """Whatever their order is; a number can only repeat what they say."""
    mixed = chips(1, 0, 1, 0)
    for number in (None, 2):
        groups = in_slices(mixed, number)
        assert [[chip.slice_index for chip in group] for group in groups] == [[0, 0], [1, 1]]
    with pytest.raises(KdError, match=r"mesh.slices is 4 and these chips are 2 slices; leave it"):
        in_slices(mixed, 4)
    with pytest.raises(KdError, match="these chips are 1 slice"):
        in_slices(chips(0, 0), 2)
    with pytest.raises(KdError, match="the slices have 1 and 2 chips"):
        in_slices(chips(0, 0, 1), None)
    assert len(in_slices(chips(0, 1, platform="gpu"), None)) == 1


def test_a_process_lies_in_one_slice():
    def of(*processes):
        return [types.SimpleNamespace(platform="cpu", process_index=i) for i in processes]

    assert len(in_slices(of(0, 0, 1, 1), 2)) == 2
    assert len(in_slices(of(0, 0, 0, 0), 2)) == 2  # alone it plays all of them
    with pytest.raises(KdError, match=r"mesh.slices is 4 and 2 processes do not divide over that"):
        in_slices(of(0, 0, 1, 1), 4)


def test_show_sharding_says_slices(capsys):
    command = runs.kd("train", "--show-sharding", mesh__devices=8, mesh__fsdp=2)
    assert runs.main([*command, "--config.mesh.slices=2"]) == 0
    assert "Mesh of 8 devices in 2 slices: data 4 x fsdp 2" in capsys.readouterr().out
    assert runs.main(command) == 0
    assert "Mesh of 8 devices: data 4 x fsdp 2" in capsys.readouterr().out
    assert runs.main([*command, "--config.mesh.slices=3"]) == 2
    assert "kd: mesh.slices is 3 and 8 devices do not divide" in capsys.readouterr().err


LAYOUT = {"mesh__fsdp": 2, "sharding__student__rule": "fsdp"}
SHORT = {"total_steps": 12, "log_steps": 1, "student__widths": (128,), "checkpoint_epochs": 1}


def test_a_run_that_loses_a_slice_goes_on_with_the_rest(tmp_path):
    """Each of two processes is a slice; the batch stays the batch, and the numbers those of one."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    alone = {**LAYOUT, **SHORT, "mesh__devices": 2}
    assert runs.train(whole, **alone) == 0
    both = {**LAYOUT, **SHORT, "mesh__devices": None, "mesh__slices": 2}
    command = runs.kd("train", f"--workdir={broken}", **both)
    lost, left = processes.trained(command, fault="line:8")  # that of step 3 is whole by then
    assert (lost[0], left[0]) == (-9, 75), (lost, left)
    assert "kd: process 0 of 2 (host " in left[2]
    assert 3 <= int(runs.restored(broken)["['step']"]) < 8
    assert runs.train(broken, **alone) == 0
    np.testing.assert_allclose(runs.losses(broken), runs.losses(whole), rtol=1e-5)
    saved = runs.restored(broken)
    for path, leaf in runs.restored(whole).items():
        np.testing.assert_allclose(saved[path], leaf, rtol=1e-4, atol=1e-5, err_msg=path)
