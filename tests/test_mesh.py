"""Laws of the mesh: its axes multiply to the devices, and what cannot be split is refused before
anything compiles.
"""

import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.errors import KdError
from kd.placement.mesh import (
    AXES,
    MeshSpec,
    batch_parts,
    check_batch,
    check_members,
    make_mesh,
    mesh_of,
    put,
    sharding,
)

SIZES = st.sampled_from([1, 2, 4])


@given(SIZES, SIZES, SIZES)
def test_every_axis_is_there_and_data_takes_what_is_left(fsdp, tensor, member):
    spec = MeshSpec(fsdp=fsdp, tensor=tensor, member=member)
    if 8 % (fsdp * tensor * member):
        with pytest.raises(KdError, match="there are 8 devices"):
            make_mesh(spec)
        return
    mesh = make_mesh(spec)
    assert mesh.axis_names == AXES
    assert math.prod(mesh.shape.values()) == 8
    assert (mesh.shape["fsdp"], mesh.shape["tensor"], mesh.shape["member"]) == (
        fsdp,
        tensor,
        member,
    )
    assert batch_parts(mesh) == mesh.shape["data"] * fsdp


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (MeshSpec(devices=9), "mesh.devices is 9 and there are 8"),
        (MeshSpec(devices=0), "mesh.devices is 0"),
        (
            MeshSpec(data=3),
            "mesh data 3 x fsdp 1 x tensor 1 x member 1 has 3 places and there are 8 devices",
        ),
        (MeshSpec(devices=4, data=2, fsdp=4), "has 8 places and there are 4 devices"),
        (MeshSpec(fsdp=0), "mesh.fsdp must be 1 or more, got 0"),
    ],
)
def test_a_mesh_that_cannot_be(spec, words):
    with pytest.raises(KdError, match=words):
        make_mesh(spec)


def test_what_does_not_divide_is_refused():
    mesh = make_mesh(MeshSpec(fsdp=2, member=2))
    check_batch(mesh, 8, 2)
    with pytest.raises(
        KdError, match=r"batch_size 6 does not divide over 4 devices .* use a multiple of 4"
    ):
        check_batch(mesh, 6)
    with pytest.raises(KdError, match=r"batch_size 12 does not divide over 4 devices .* x 2 parts"):
        check_batch(mesh, 12, 2)
    check_members(mesh, 4)
    for members in (None, 3):
        with pytest.raises(KdError, match=r"mesh.member is 2"):
            check_members(mesh, members)


@given(
    st.sampled_from(
        [MeshSpec(), MeshSpec(fsdp=4), MeshSpec(tensor=2, member=2), MeshSpec(devices=2)]
    )
)
def test_what_is_put_on_a_mesh_is_the_same_array(spec):
    mesh = make_mesh(spec)
    whole = np.arange(64.0).reshape(8, 8)
    placed = put({"a": whole, "key": jax.random.key(3)}, sharding(mesh))
    split = put(whole, sharding(mesh, ("data", "fsdp"), "tensor"))
    np.testing.assert_array_equal(placed["a"], whole)
    np.testing.assert_array_equal(split, whole)
    assert (
        jax.random.key_data(placed["key"]).tolist()
        == jax.random.key_data(jax.random.key(3)).tolist()
    )
    assert mesh_of(placed) == mesh
    assert mesh_of({"a": whole}) is None
