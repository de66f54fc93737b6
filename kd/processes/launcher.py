"""Where the launcher puts this process: by the options of the command, or as Slurm, Open MPI, GKE
or a TPU says.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from kd.errors import KdError


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the coordinator listens (process 0 is it), how many processes there are, and which one
    this is.
    """

    address: str
    count: int
    index: int
    local_device_ids: tuple[int, ...] | None = None  # what the launcher leaves to this process


def from_arguments(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> Place | None:
    """The place that the three options name; None without any.

    Raises a `KdError` where they do not fit.
    """
    if coordinator is None and num_processes is None and process_id is None:
        return None
    if coordinator is None or num_processes is None or process_id is None:
        raise KdError(
            "give all of --coordinator, --num_processes and --process_id, or none where a "
            "launcher tells them"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise KdError(
            f"--coordinator must be HOST:PORT of process 0, got '{coordinator}'; e.g. 10.0.0.1:8476"
        )
    if num_processes < 1:
        raise KdError(f"--num_processes must be 1 or more, got {num_processes}")
    if not 0 <= process_id < num_processes:
        raise KdError(
            f"--process_id must be from 0 to {num_processes - 1} with "
            f"--num_processes={num_processes}, got {process_id}"
        )
    return Place(coordinator, num_processes, process_id)


def name_of(environment: Mapping[str, str]) -> str | None:
    """The launcher that started several processes, as its environment variables tell; None if there
    is none.
    """

    def number(name: str) -> int:
        return int(environment[name]) if environment.get(name, "").isdecimal() else 1

    if (
        number("SLURM_NTASKS") > 1
        and "SLURM_STEP_NODELIST" in environment
        and "SLURM_PROCID" in environment
    ):
        return "Slurm"  # not in an sbatch script itself: only srun makes tasks
    if number("OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    hosts = (
        environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    )
    if number("MEGASCALE_NUM_SLICES") > 1 or "," in hosts:
        return "GKE"
    return None


def from_launcher(environment: Mapping[str, str], timeout: float) -> Place | None:
    """Where the launcher puts this process.

    Raises a `KdError` where it does not say where process 0 is.
    """
    name = name_of(environment)
    if name is None and not (os.path.exists("/dev/accel0") or os.path.exists("/dev/vfio/0")):
        return None  # no TPU either, which would know of its slice: not even JAX is loaded
    from jax._src import clusters

    try:
        address, number, which, local = clusters.ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, int(timeout)
        )
    except Exception as error:  # metadata that does not answer, names that do not resolve
        raise KdError(
            f"{name or 'the TPU'} does not say where the other processes are: "
            f"{' '.join(str(error).split())}; give "
            "--coordinator, --num_processes and --process_id"
        ) from error
    if address is None or number is None or which is None:
        if name is None:
            return None
        raise KdError(
            f"{name} started several processes and does not say where process 0 is; give "
            "--coordinator, "
            "--num_processes and --process_id"
        )
    return Place(address, number, which, None if local is None else tuple(local))
