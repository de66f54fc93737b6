"""What this machine is: versions, devices, limits, memory, and the folder of the runs."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import pathlib
import resource
import shutil
import tempfile
from collections.abc import Iterator

import jax

from kd.doctor.facts import Asked, Fact
from kd.errors import KdError
from kd.evidence import machine
from kd.system import kept
from kd.system.memory import available_memory, size

_GIB = 2**30
_OPEN_FILES = 1024  # of checkpoints and archives, with some left
_SHARED = _GIB  # NCCL's buffers between the GPUs of a machine
_PLUGINS = ("libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin")
_ACCELERATORS = {  # the files by which a machine shows them, what they are, and what JAX needs
    "/dev/nvidia0": ("an NVIDIA GPU", "jax[cuda12]"),
    "/dev/accel0": ("a TPU", "jax[tpu]"),
    "/dev/vfio/0": ("a TPU", "jax[tpu]"),
}


def versions(_: Asked) -> Iterator[Fact]:
    """Of Python, kd, JAX and what it is used with."""
    about = machine()
    names = {"kd": importlib.metadata.version("kd"), **about["versions"]}
    for plugin in _PLUGINS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            names[plugin] = importlib.metadata.version(plugin)
    yield Fact("Python", about["python"])
    yield Fact("versions", ", ".join(f"{name} {number}" for name, number in names.items()))
    yield Fact("processor", f"{about['cores']} cores of {about['cpu']}")


def devices(_: Asked) -> Iterator[Fact]:
    """What JAX computes on, and an accelerator that it does not see."""
    everywhere, here = jax.devices(), jax.local_devices()
    kinds = " and ".join(sorted({device.device_kind for device in everywhere}))
    said = f"{len(everywhere)} x {kinds} ({everywhere[0].platform}), {len(here)} of them here"
    yield Fact("devices", said, _unseen(everywhere[0].platform))
    stats = here[0].memory_stats() or {}
    if "bytes_limit" in stats:
        yield Fact("memory of a device", size(stats["bytes_limit"]))


def _unseen(platform: str) -> str:
    if platform != "cpu":
        return ""
    for file, (what, package) in _ACCELERATORS.items():
        if not os.path.exists(file):
            continue
        if os.environ.get("JAX_PLATFORMS"):
            wanted = os.environ["JAX_PLATFORMS"]
            return f"{what} is here, and JAX_PLATFORMS={wanted} hides it; unset that"
        return f"{what} is here, and JAX computes on the processor; pip install '{package}'"
    return ""


def limits(_asked: Asked) -> Iterator[Fact]:
    """Open files, shared memory, memory."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = f"a process may have {files} files open; raise that with 'ulimit -n 65536'"
    unlimited = files == resource.RLIM_INFINITY
    enough = unlimited or files >= _OPEN_FILES
    yield Fact("open files", "no limit" if unlimited else f"{files:,}", "" if enough else few)
    free = available_memory()
    little = f"{size(free)} of memory are free; stop other programs, or take a larger machine"
    yield Fact("free memory", size(free), little if free < _GIB else "")
    yield from _shared_memory(pathlib.Path("/dev/shm"))


def _shared_memory(folder: pathlib.Path) -> Iterator[Fact]:
    if not folder.is_dir():
        return
    total = shutil.disk_usage(folder).total
    wrong = ""
    if (
        total < _SHARED
        and len(jax.local_devices()) > 1
        and jax.local_devices()[0].platform == "gpu"
    ):
        wrong = (
            f"{folder} holds {size(total)}, too little for NCCL between the GPUs here; start the "
            "container with --shm-size=16g, or mount an emptyDir of medium Memory there"
        )
    yield Fact("shared memory", size(total), wrong)


def folder(asked: Asked) -> Iterator[Fact]:
    """Room in the folder of the runs, and whether it can be written, locked and renamed in."""
    place = asked.folder
    if place.exists() and not place.is_dir():
        raise KdError(f"{place} is no folder; choose another --workdir")
    while not place.is_dir():
        place = place.parent
    free = shutil.disk_usage(place).free
    little = f"{size(free)} are free in {place}; free some, or choose another --workdir"
    yield Fact(f"free in {place}", size(free), little if free < _GIB else "")
    yield Fact("writing there", "written, locked and renamed", _unwritable(place))


def _unwritable(place: pathlib.Path) -> str:
    try:
        with tempfile.TemporaryDirectory(prefix=".kd-doctor-", dir=place) as name:
            first, second = pathlib.Path(name, "first"), pathlib.Path(name, "second")
            with first.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.replace(first, second)
    except OSError as error:
        return (
            f"{place} cannot be written, locked or renamed in ({error.strerror}); choose another "
            "--workdir, on a file system with locks and renames"
        )
    return ""


def kept_programs(_: Asked) -> Iterator[Fact]:
    """Where compiled programs are kept from one command to the next."""
    place = kept.folder("compiled")
    if place is None:
        yield Fact("compiled programs", "not kept")
        return
    if not kept.ready(place):
        raise KdError(
            f"{place} cannot be written, so every command compiles anew; mend that folder"
        )
    yield Fact("compiled programs", f"kept in {place}")
