"""Where arrays live: one mesh with named axes over the devices."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kd.core import rng
from kd.errors import KdError
from kd.placement.slices import in_slices

AXES = ("data", "fsdp", "tensor", "member")
BATCH = ("data", "fsdp")
"""The axes that a batch is split over."""
MembersBy = Literal["auto", "vmap", "loop"] | int
"""How a device computes its members: see `MeshSpec`."""
# Auto axes: explicit ones reject embeddings, dropout and x[perm].
_TYPES = (jax.sharding.AxisType.Auto,) * len(AXES)


@dataclasses.dataclass(frozen=True)
class MeshSpec:
    """Sizes of the mesh's axes, and how a device computes its members.

    Batches are split over ``data`` and ``fsdp``, parameters over ``fsdp`` and ``tensor`` as their
    rules say, the members of a population over ``member``. `devices` is how many devices to use,
    None all of them; `data` None is what the other axes leave of them.

    `slices` is how many groups of devices have a fast network of their own and a slower one between
    them; None is what the devices say themselves. ``data`` goes over slices, the other axes stay
    inside one.

    A device computes its members of a population at once (``vmap``), one after another (``loop``)
    or so many at a time (a number); ``auto`` is the way that was measured to be the fastest.
    """

    devices: int | None = None
    data: int | None = None
    fsdp: int = 1
    tensor: int = 1
    member: int = 1
    members_by: MembersBy = "auto"
    slices: int | None = None


def make_mesh(spec: MeshSpec = MeshSpec(), devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of `spec` over `devices` (by default those of every process), with all four axes of
    `AXES`; of several slices the first part of ``data`` is the first slice, and so on, as in
    `jax.experimental.mesh_utils.create_hybrid_device_mesh`.

    Raises:
      KdError: more devices than there are, sizes that are not whole numbers or below 1, or whose
        product is not the number of devices, slices that do not divide them.
    """
    _check_whole(spec)
    have = list(jax.devices() if devices is None else devices)
    count = len(have) if spec.devices is None else spec.devices
    if not 1 <= count <= len(have):
        raise KdError(
            f"mesh.devices is {count} and there are {len(have)}; set mesh.devices between 1 and "
            "that"
        )
    data, *others = _shape(spec, count)
    slices = in_slices(have[:count], spec.slices)
    _check_inside(data, others, slices)
    shape = (data // len(slices), *others)
    if count == len(have):
        parts = [_neighbours(shape, chips) for chips in slices]
    else:
        parts = [np.asarray(chips).reshape(shape) for chips in slices]
    return Mesh(np.concatenate(parts), AXES, axis_types=_TYPES)


def _neighbours(shape: tuple[int, ...], devices: Sequence[Any]) -> np.ndarray:
    """The devices of one slice: neighbours of the mesh are neighbours of the network."""
    try:
        return jax.make_mesh(shape, AXES, _TYPES, devices=devices).devices
    except (AssertionError, NotImplementedError, ValueError):  # GPUs count each machine as a slice
        _warn_of_layout(shape, devices)
    return np.asarray(devices).reshape(shape)


def _check_inside(data: int, others: Sequence[int], slices: Sequence[Sequence[Any]]) -> None:
    """Only ``data`` goes over slices: the other axes exchange too much for a slow network."""
    if data % len(slices):
        raise KdError(
            f"mesh.fsdp x tensor x member is {math.prod(others)} and a slice has {len(slices[0])} "
            f"devices ({len(slices)} slices): only mesh.data goes from slice to slice; make that "
            f"product a divisor of {len(slices[0])}"
        )


def _warn_of_layout(shape: tuple[int, ...], devices: Sequence[Any]) -> None:
    """Where devices have a network of their own, their order decides how fast they exchange."""
    if all(device.platform == "tpu" for device in devices):
        sizes = " x ".join(map(str, shape))
        warnings.warn(
            f"no layout of the mesh {sizes} follows the network of these {len(devices)} TPU chips, "
            "so they stand in the order of their numbers and may exchange more slowly; other sizes "
            "of mesh.data, fsdp, tensor or member may fit",
            stacklevel=2,
        )


def _check_whole(spec: Any) -> None:
    if not isinstance(spec, MeshSpec):
        raise KdError(
            f"a mesh is described by kd.MeshSpec, got {spec!r}; e.g. mesh=kd.MeshSpec(fsdp=2)"
        )
    by = spec.members_by
    if by not in ("auto", "vmap", "loop") and not (is_whole(by) and by > 0):
        raise KdError(
            "mesh.members_by must be auto, vmap, loop, or how many at a time, 1 or more, got "
            f"{by!r}"
        )
    for field in dataclasses.fields(spec):
        size = getattr(spec, field.name)
        if field.name == "members_by":
            continue
        if not is_whole(size) and not (size is None and field.default is None):
            raise KdError(f"mesh.{field.name} must be a whole number, got {size!r}")


def is_whole(value: Any) -> bool:
    """Whether `value` is a whole number; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _shape(spec: MeshSpec, count: int) -> tuple[int, int, int, int]:
    others = (spec.fsdp, spec.tensor, spec.member)
    for name in (*AXES, "slices"):
        size = getattr(spec, name)
        if size is not None and size < 1:
            raise KdError(f"mesh.{name} must be 1 or more, got {size}")
    rest = math.prod(others)
    data = max(count // rest, 1) if spec.data is None else spec.data
    if data * rest != count:
        sizes = " x ".join(
            f"{axis} {size}" for axis, size in zip(AXES, (data, *others), strict=True)
        )
        raise KdError(
            f"the mesh {sizes} has {data * rest} places and there {_devices(count)}; "
            "make the product of mesh.data, fsdp, tensor and member the number of devices, or set "
            "mesh.devices"
        )
    return (data, *others)


def _devices(count: int) -> str:
    return "is 1 device" if count == 1 else f"are {count} devices"


def check_batch(mesh: Mesh, batch_size: int, accumulate: int = 1) -> None:
    """Raise a `KdError` unless a batch divides over the mesh's ``data`` and ``fsdp``, and into
    `accumulate` parts.
    """
    check_parts(batch_parts(mesh), batch_size, accumulate)


def check_parts(parts: int, batch_size: int, accumulate: int = 1) -> None:
    """`check_batch` of a mesh that is not there, which would split a batch into `parts`."""
    if batch_size % (parts * accumulate):
        over = f"{parts} devices (mesh.data x mesh.fsdp)" if parts > 1 else ""
        into = f"{accumulate} parts (accumulate)" if accumulate > 1 else ""
        raise KdError(
            f"data.batch_size {batch_size} does not divide over "
            f"{' x '.join(filter(None, (over, into)))}; "
            f"use a multiple of {parts * accumulate}"
        )


def check_members(mesh: Mesh, members: int | None) -> None:
    """Raise a `KdError` unless a population of `members`, or a single run (None), divides over the
    axis ``member``.
    """
    size = mesh.shape["member"]
    if size > 1 and (members or 1) % size:
        what = "a single run" if members is None else f"a population of {members}"
        raise KdError(
            f"mesh.member is {size} and this is {what}; use a divisor of the number of members"
        )


def parts_on(spec: MeshSpec, devices: int) -> int:
    """Into how many parts a batch would be split on so many devices.

    Raises a `KdError` where the sizes of the mesh do not fit their number.
    """
    data, fsdp, *_ = _shape(spec, devices)
    return data * fsdp


def batch_parts(mesh: Mesh) -> int:
    """Into how many parts a batch is split."""
    return math.prod(mesh.shape[axis] for axis in BATCH)


def sharding(mesh: Mesh, *axes: Any) -> NamedSharding:
    """Dimension by dimension: an axis of the mesh, several, or None."""
    return NamedSharding(mesh, PartitionSpec(*axes))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return sharding(mesh)


def put(tree: Any, shardings: Any) -> Any:
    """The arrays of `tree` on the mesh.

    Of several processes each gives the whole array and keeps its part.
    """

    def place(leaf: Any, layout: NamedSharding) -> jax.Array:
        if layout.is_fully_addressable or (
            isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        ):
            return jax.device_put(leaf, layout)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return rng.wrapped(place(jax.random.key_data(leaf), layout))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, layout, lambda index: whole[index])

    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda leaf: place(leaf, shardings), tree)
    return jax.tree.map(place, tree, shardings)


def over_batch(x: jax.Array) -> jax.Array:
    """`x` with its first axis, the batch's, split as batches are, where a step is compiled for a
    mesh; else as it is.

    Models say so between their layers. Without it the compiler is free to move activations to where
    split parameters are, and does: moving the parameters of a layer is cheaper by far.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not mesh.are_all_axes_auto:  # within shard_map it is split already
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH))


def mesh_of(tree: Any) -> Mesh | None:
    """The mesh that the arrays of `tree` live on; None where they live on no mesh."""
    for leaf in jax.tree.leaves(tree):
        layout = getattr(leaf, "sharding", None)
        if isinstance(layout, NamedSharding) and isinstance(layout.mesh, Mesh):
            return layout.mesh
    return None
