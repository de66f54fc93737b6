"""What ``kd plan`` says of a step against what the device reports:
``python -m bench.plan_accuracy``.

Memory: a device that keeps statistics (GPU, TPU) is asked for its peak; on a CPU it is the
  process's peak resident
memory over the step, in which the scratch of XLA's threads is too. FLOPs: of the same step without
a loop over layers, as XLA counts them for this device, element-wise operations included; the plan
counts products, and loops by itself.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.config import load_config, resolve, to_json
from kd.evidence import machine
from kd.planning.chips import parse_topology
from kd.planning.plan import ask_worker, needed
from kd.runs.build import planned
from kd.training import program
from kd.training.task import initial_state, teacher_variables

OUT = pathlib.Path(__file__).with_name("plan_accuracy.json")
VIT = (
    "data.jitter_pixels=0",
    "data.batch_size=800",
    "teacher.model.width=192",
    "teacher.model.depth=6",
    "student.width=192",
    "student.depth=6",
)
CASES = {
    "vit": VIT,
    "vit, accumulate 4": (*VIT, "accumulate=4"),
    "vit, remat": (*VIT, "remat=true"),
    "vit, bfloat16": (*VIT, "compute='bfloat16'"),
}
CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "patient_consistent.py"
STEPS = 3


def main() -> int:
    """Every case in a process of its own, so that one's memory is not another's."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return 0
    rows = []
    for case in CASES:
        done = subprocess.run(
            [sys.executable, "-m", "bench.plan_accuracy", case], stdout=subprocess.PIPE, check=True
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(line(rows[-1]), flush=True)
    command = "python -m bench.plan_accuracy"
    results = {
        "command": command,
        "machine": machine(),
        "device": jax.devices()[0].device_kind,
        "rows": rows,
    }
    OUT.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return 0


def measure(case: str) -> dict[str, Any]:
    """Predicted and reported, of one case on the first device."""
    spec = resolve(load_config(CONFIG, "tiny", [*CASES[case], "mesh.devices=1"]))
    said = ask_worker(to_json(spec), parse_topology("cpu:1"))
    task = planned(spec)
    compiled = program.lower(task).compile()
    before, peak = run(compiled, task)
    return {
        "case": case,
        "memory": {
            "predicted": needed(said),
            "reported": peak - before,
            "kind": "device" if statistics() else "process",
        },
        "flops": {"predicted": said["step"]["count"]["flops"], "reported": flops_unrolled(case)},
    }


def run(compiled: Any, task: Any) -> tuple[int, int]:
    """A few steps on arrays made up.

    Bytes before the arrays were made, and the peak of the steps.
    """
    places = program.place(task)
    before = in_use()
    state = initial_state(task, places.state)
    random = np.random.default_rng(0)

    def made(leaf: Any) -> Any:
        return jnp.asarray(random.normal(0, 0.05, leaf.shape), leaf.dtype)

    variables = jax.device_put(jax.tree.map(made, teacher_variables(task)), places.teacher)
    batch = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), program.host_batch(task))
    batch = jax.device_put(batch, places.batch)
    jax.block_until_ready((state, variables, batch))
    reset_peak()
    for _ in range(STEPS):
        state, metrics = compiled(state, variables, batch, task.members.hparams)
    jax.block_until_ready((state, metrics))
    return before, peak_in_use()


def flops_unrolled(case: str) -> float:
    """The same step, its loops over layers and parts written out, as XLA counts it: it counts a
    loop's body once.
    """
    depth = ("student.unroll=6", "teacher.model.unroll=6")
    spec = resolve(load_config(CONFIG, "tiny", [*CASES[case], *depth, "mesh.devices=1"]))
    task = planned(spec)
    cost = program.lower(task).compile().cost_analysis()
    assert cost is not None
    return float(cost["flops"]) * (1 if task.accumulate == 1 else task.accumulate)


def statistics() -> dict[str, int] | None:
    """What the device knows of its memory; None on a CPU."""
    return jax.devices()[0].memory_stats()


def in_use() -> int:
    """Bytes in use now: the device's, or this process's resident memory."""
    counts = statistics()
    return counts["bytes_in_use"] if counts else _status("VmRSS")


def peak_in_use() -> int:
    """The most since `reset_peak`."""
    counts = statistics()
    return counts["peak_bytes_in_use"] if counts else _status("VmHWM")


def reset_peak() -> None:
    """Start over; a device's own statistics cannot, and hold the peak of the whole process."""
    if not statistics():
        pathlib.Path("/proc/self/clear_refs").write_text("5", "ascii")


def line(row: dict[str, Any]) -> str:
    """One case in words."""
    parts = [f"{row['case']:20}"]
    for what, unit, scale in (("memory", "MB", 1e6), ("flops", "GFLOP", 1e9)):
        pair = row[what]
        ratio = pair["predicted"] / pair["reported"]
        parts.append(
            f"{what}: {pair['predicted'] / scale:.1f} {unit} said, {pair['reported'] / scale:.1f} "
            f"found ({ratio:.2f})"
        )
    return "  ".join(parts)


def _status(key: str) -> int:
    text = pathlib.Path("/proc/self/status").read_text("ascii")
    line = next(row for row in text.splitlines() if row.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
