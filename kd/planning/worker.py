"""Compiles a config for a topology, in a process of its own: ``python -m kd.planning.worker``, JSON
in, JSON out.

The TPU compiler is a library that takes hold of the process that loads it, so it is never loaded
where training runs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from kd.errors import KdError
from kd.planning.chips import Topology, parse_topology

_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def main() -> None:
    """Answer one request, a mapping of spec, topology, slices and lower, in the last line of the
    output.

    The argument is a pipe that nobody writes to: when it ends, so has the one who asked.
    """
    from kd.placement.ambient import pinned

    threading.Thread(target=_leave_with, args=(int(sys.argv[1]),), daemon=True).start()
    try:
        with pinned():
            answer = work(json.loads(sys.stdin.read()))
    except KdError as error:
        answer = {"error": str(error)}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


def _leave_with(line: int) -> None:
    os.read(line, 1)
    os._exit(1)


def work(request: Mapping[str, Any]) -> dict[str, Any]:
    """Lower and compile the step, then the teacher alone.

    Raises a `KdError` where the parts do not fit together.
    """
    from kd.config import from_json
    from kd.names import lookup

    topology = parse_topology(request["topology"], request["slices"])
    devices = devices_of(topology)
    begin = time.perf_counter()
    lowered = lookup("function", request["lower"], {})(from_json(request["spec"]), devices)
    seconds = time.perf_counter() - begin
    step, teacher = compiled(lowered.step, topology), None
    if lowered.teacher is not None and not step["refused"]:
        teacher = compiled(lowered.teacher, topology)
    return {
        "step": step,
        "teacher": teacher,
        "held": dict(lowered.held),
        "facts": dataclasses.asdict(lowered.facts),
        "lower_seconds": seconds,
    }


def devices_of(topology: Topology) -> list[Any]:
    """Devices of a topology that need not be there.

    Raises:
      KdError: libtpu is missing, or does not know the topology.
    """
    import jax
    from jax.experimental import topologies

    if topology.chip.name == "cpu":
        return jax.devices()
    options: dict[str, Any] = {"chips_per_host_bounds": topology.host}
    if topology.chip.config is not None:
        options["chip_config_name"] = topology.chip.config
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    try:
        return list(topologies.get_topology_desc(topology.slice, platform="tpu", **options).devices)
    except Exception as error:  # the library is missing, or speaks in its own words
        raise KdError(
            f"libtpu cannot describe {topology}: {str(error).strip().splitlines()[0]}"
        ) from error


def compiled(lowered: Any, topology: Topology) -> dict[str, Any]:
    """Compile, and say what it takes: memory, the compiler's own cost, and ours (see
    `kd.planning.count`).

    A program that the compiler refuses because it does not fit has ``refused`` with the bytes it
    would need.
    """
    import jax

    from kd.planning.count import as_dict, count

    begin, worked = time.perf_counter(), time.process_time()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        refused = memory_refused(str(error))
        if refused is None:
            raise
        return {"refused": refused, "compile_seconds": time.perf_counter() - begin}
    seconds, work = time.perf_counter() - begin, time.process_time() - worked
    return {
        "refused": None,
        "compile_seconds": seconds,
        "compile_cpu_seconds": work,
        "memory": _memory(program),
        "xla": _cost(program),
        "count": as_dict(count(program.as_text(), topology.slices, topology.devices)),
    }


def memory_refused(message: str) -> dict[str, int] | None:
    """Bytes needed and available, from the compiler's refusal; None if it speaks of something
    else.
    """
    if "RESOURCE_EXHAUSTED" not in message and "Ran out of memory" not in message:
        return None
    sizes = r"([\d.]+)([KMGT]?)"
    for pattern in (
        rf"required[^(]*\({sizes}i?B?\) exceeds available[^(]*\({sizes}i?B?\)",
        rf"[Uu]sed {sizes}i?B? of {sizes}i?B?",
    ):
        match = re.search(pattern, message)
        if match:
            needed, unit, available, other = match.groups()
            return {"needed": _bytes(needed, unit), "available": _bytes(available, other)}
    return None


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit])


def _memory(program: Any) -> dict[str, int] | None:
    stats = program.memory_analysis()
    if stats is None:
        return None
    names = {
        "arguments": "argument_size_in_bytes",
        "outputs": "output_size_in_bytes",
        "aliased": "alias_size_in_bytes",
        "temporaries": "temp_size_in_bytes",
        "code": "generated_code_size_in_bytes",
    }
    return {name: int(getattr(stats, field)) for name, field in names.items()}


def _cost(program: Any) -> dict[str, float]:
    cost = program.cost_analysis() or {}
    cost = cost[0] if isinstance(cost, list) else cost
    names = {"flops": "flops", "bytes": "bytes accessed", "optimal_seconds": "optimal_seconds"}
    return {name: float(cost[key]) for name, key in names.items() if key in cost}


if __name__ == "__main__":
    main()
