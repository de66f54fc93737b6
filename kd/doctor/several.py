"""What is between devices and processes: the network, the clocks, the folder that all must see."""

from __future__ import annotations

import functools
import pathlib
import secrets
import statistics
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from kd.doctor.facts import Asked, Fact
from kd.placement.mesh import AXES, MeshSpec, make_mesh, replicated, sharding
from kd.processes import clocks, group
from kd.processes.agreement import Agreement
from kd.system import words
from kd.system.memory import size

_SMALL, _LARGE = 1, 2**22  # elements of float32 that every device has: 4 B and 16 MiB
_REPEATS = 5
_WORDS = 50


def network(_: Asked) -> Iterator[Fact]:
    """An all-reduce over all devices, timed: of a number, and of 16 MiB.

    Bytes a second are those that a device sends, ``2 (n - 1) / n`` of what it has.
    """
    count = jax.device_count()
    if count == 1:
        yield Fact("all-reduce", "one device, nothing to exchange")
        return
    with words.doing("timing an all-reduce"):
        small, large = _seconds(_SMALL), _seconds(_LARGE)
    sent = 2 * (count - 1) / count * 4 * _LARGE
    said = f"{1e3 * small:.2f} ms of 4 B, {1e3 * large:.1f} ms of 16 MiB ({size(sent / large)}/s)"
    yield Fact(f"all-reduce of {count} devices", said)


def _seconds(elements: int) -> float:
    mesh = make_mesh(MeshSpec())
    total = jax.jit(functools.partial(jnp.sum, axis=0), out_shardings=replicated(mesh))
    shape, split = (mesh.size, elements), sharding(mesh, AXES)
    ones = jax.make_array_from_callback(shape, split, lambda _: np.ones((1, elements), np.float32))
    jax.block_until_ready(total(ones))
    times = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        jax.block_until_ready(total(ones))
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def agreement(_: Asked) -> Iterator[Fact]:
    """How long it takes until all processes have agreed to go on, as they do in a run."""
    if group.count() == 1:
        yield Fact("processes", "this one alone")
        return
    yield Fact("processes", f"{group.count()}, this one is {group.index()}")
    agreed, times = Agreement(), []
    for step in range(_WORDS):
        begun = time.perf_counter()
        agreed.agreed(step, None, at_once=True)
        times.append(time.perf_counter() - begun)
    yield Fact("agreeing at a dispatch", f"{1e3 * statistics.median(times):.2f} ms")


def clock(_: Asked) -> Iterator[Fact]:
    """How far this machine's clock is from that of process 0."""
    peers = group.peers()
    if peers is None:
        return
    ahead = clocks.offset(peers, group.index(), group.count())
    said = f"{ahead.seconds:+.3f} s from process 0's, give or take {ahead.error:.3f} s"
    yield Fact("clock", said, ahead.wrong)


def one_folder(asked: Asked) -> Iterator[Fact]:
    """Whether what process 0 writes into the folder of the runs is seen by this one."""
    if group.count() == 1:
        return
    name = group.first_does("doctor's file", lambda: f".kd-doctor-{secrets.token_hex(8)}")
    file = asked.folder / name
    written = group.first_does("doctor writes", lambda: _written(file))
    seen = file.exists()
    group.first_judges("doctor looked", seen, lambda _: file.unlink(missing_ok=True))
    said = "the same for all processes" if seen else "not that of process 0"
    wrong = (
        f"this process does not see what process 0 writes in {asked.folder}; mount one folder "
        "there on all machines"
    )
    yield Fact("folder of the runs", said if written else "—", wrong if written > seen else "")


def _written(file: pathlib.Path) -> bool:
    try:
        file.write_bytes(b"kd")
        return True
    except OSError:  # said by `machine.folder`, or `bucket.bucket`
        return False
