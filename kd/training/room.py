"""Whether a run fits: what it will keep in memory, and what there is, before any of it is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

from kd import data as kd_data
from kd.errors import KdError
from kd.placement.sharding import bytes_per_device
from kd.system.memory import available_memory, devices_free, size
from kd.training.program import Placement
from kd.training.task import Task, teacher_variables

_ADVICE = {
    "parameters": "a smaller student",
    "gradients": "a smaller student",
    "optimiser state": "an optimiser with less state, such as sgd without momentum",
    "average": "no ema",
    "heads of the losses": "terms that own less",
    "best so far": "no early stopping",
    "teacher": "a smaller teacher",
    "data": "data.stream=true, which keeps no data in memory",
}


def kept(task: Task, placement: Placement) -> dict[str, int]:
    """Bytes that a run keeps on each device, by what they are; nothing is computed.

    Of all members together. Activations come on top, and are not counted.
    """
    state, taught = task.abstract_state, jax.eval_shape(lambda: teacher_variables(task))
    parameters = bytes_per_device(state.params, placement.state.params)
    sums = {
        "parameters": parameters,
        "gradients": parameters,
        "optimiser state": bytes_per_device(state.opt_state, placement.state.opt_state),
        "average": bytes_per_device(state.ema, placement.state.ema),
        "heads of the losses": bytes_per_device(
            (state.heads, state.heads_opt_state),
            (placement.state.heads, placement.state.heads_opt_state),
        ),
        "best so far": bytes_per_device(state.best, placement.state.best),
        "teacher": bytes_per_device(taught, placement.teacher),
        "data": _of_data(task.data),
    }
    return {name: count for name, count in sums.items() if count}


def check_room(task: Task, placement: Placement) -> None:
    """Raise a `KdError` where what a run keeps cannot fit on the devices of this process.

    On CPUs all devices share the memory of the host. A device that does not say what it has is not
    judged.
    """
    sums = kept(task, placement)
    needed, devices = sum(sums.values()), placement.mesh.local_devices
    if devices[0].platform == "cpu":
        needed, have = needed * len(devices), available_memory()
    else:
        have = devices_free(devices)
    if needed <= have:
        return
    largest = sorted(sums, key=lambda name: -sums[name])[:3]
    parts = ", ".join(f"{name} {size(sums[name])}" for name in largest)
    members = f" of {task.members.size} members together" if task.is_population else ""
    advice = _ADVICE[largest[0]] + (", or fewer members" if task.is_population else "")
    raise KdError(
        f"this run{members} keeps {size(needed)} in memory ({parts} a device) and there are "
        f"{size(have)}; take {advice}, or more devices over which sharding.student.rule splits it"
    )


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """What does not fit after all, such as activations, is a `KdError`.

    Raises:
      KdError: memory ran out in the block.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        words = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in words):
            raise
        raise KdError(
            f"memory ran out ({str(error)[:200] or 'host'}); take a smaller data.batch_size, "
            "accumulate=2, remat=true, or a smaller student"
        ) from error


def _of_data(data: kd_data.Examples) -> int:
    if isinstance(data, kd_data.Stream):
        return 0
    arrays = (data.inputs, data.labels, data.weights)
    beside = 0 if data.teacher_inputs is None else _of_data(data.teacher_inputs)
    return beside + sum(array.nbytes for array in arrays if array is not None)
