"""``kd plan``: compile the real training step for chips that are not here; does it fit, and what
does it cost?
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd.config import Data, build, resolve, to_json
from kd.errors import KdError
from kd.placement.mesh import check_parts, parts_on
from kd.planning.candidates import Change, candidates, changed, overrides
from kd.planning.chips import Topology, parse_topology
from kd.planning.count import Count, from_dict
from kd.planning.roofline import (
    Bill,
    Cache,
    Roofline,
    answer_bytes,
    bill,
    cache,
    compiler_seconds,
    roofline,
)

TIMEOUT = 1800.0
TOP = 16
"""Logits of one answer that a small cache keeps."""

Answer = Mapping[str, Any]
Compile = Callable[[str, Topology], Answer]
"""``compile(spec as JSON, topology)``: what the worker answers.

Raises a `KdError` where a config cannot be lowered.
"""


@dataclasses.dataclass(frozen=True)
class Assumed:
    """What the compiler cannot know.

    `mfu`: part of the peak that a run reaches; `read_rate`: bytes a second that a host of four
    chips reads from disks.
    """

    price_per_chip_hour: float | None = None
    mfu: float = 0.4
    read_rate: float = 500e6


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one config needs on one topology. Sizes in bytes, of one device; times in seconds, of
    one step.

    `needed` and `available` memory decide whether it `fits`; where nothing is known of the chip's
    memory it does. `change` is the nearest change of the config that fits, `changed` the plan with
    it; `tried` what was compiled on the way, with what it needed (None: it could not be lowered).
    """

    topology: Topology
    spec: Mapping[str, Any]
    answer: Answer
    assumed: Assumed = Assumed()
    change: Change | None = None
    changed: Plan | None = None
    tried: Sequence[tuple[Change, int | None]] = ()

    @property
    def needed(self) -> int | None:
        """Bytes of main memory that a device needs for the step."""
        return needed(self.answer)

    @property
    def available(self) -> int | None:
        """Bytes of main memory that a device has for a program; None where nothing is known of
        it.
        """
        refused = self.answer["step"].get("refused")
        usable = self.topology.chip.usable
        if refused:
            return refused["available"]
        return None if usable is None else usable // self.topology.chip.devices

    @property
    def fits(self) -> bool:
        """Whether the step fits into memory."""
        if self.answer["step"].get("refused"):
            return False
        return self.available is None or self.needed is None or self.needed <= self.available

    @property
    def exit_code(self) -> int:
        """0, or 3 where it does not fit."""
        return 0 if self.fits else 3

    @property
    def count(self) -> Count | None:
        """What a device does in one step; None of a program that the compiler refused."""
        step = self.answer["step"]
        return None if step.get("refused") else from_dict(step["count"])

    @functools.cached_property
    def roofline(self) -> Roofline | None:
        """The step's lower bounds; None where the chip's rates are unknown, or the compiler
        refused.
        """
        return None if self.count is None else roofline(self.count, self.topology.chip)

    @property
    def compiler_seconds(self) -> float | None:
        """The compiler's own estimate of a step, where it gives one."""
        if self.count is None:
            return None
        optimal = self.answer["step"]["xla"].get("optimal_seconds")
        return compiler_seconds(optimal, self.count, self.topology.chip)

    @property
    def expected_seconds(self) -> float | None:
        """A step when the matrix units reach the assumed part of their peak, unless memory or
        network takes longer.
        """
        line = self.roofline
        return (
            None
            if line is None
            else max(line.compute / self.assumed.mfu, line.memory, line.network)
        )

    def bill(self, seconds: float) -> Bill:
        """The whole run, at so many seconds a step."""
        facts = self.answer["facts"]
        batch_size = facts["batch_size"] * facts["members"]
        return bill(
            seconds,
            batch_size,
            facts["total_steps"],
            self.topology,
            self.assumed.price_per_chip_hour,
        )

    def cache(self, top: int | None) -> Cache | None:
        """The teacher's answers kept, all logits or the `top`; None without a teacher, or without
        known rates.
        """
        teacher, facts = self.answer.get("teacher"), self.answer["facts"]
        if teacher is None or teacher.get("refused"):
            return None
        total = from_dict(teacher["count"]).flops * self.topology.devices
        hosts = max(self.topology.chips // 4, 1)
        return cache(
            facts["examples"],
            total / facts["batch_size"],
            answer_bytes(facts["width"], top),
            self.topology,
            mfu=self.assumed.mfu,
            read_rate=self.assumed.read_rate * hosts,
            members=facts["members"],
            why_not=build(Data, self.spec["data"], "data").why_not_kept,
        )


def plan(
    config: Any,
    topology: str,
    *,
    slices: int = 1,
    price_per_chip_hour: float | None = None,
    mfu: float = Assumed.mfu,
    search: bool = True,
    compile: Compile | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Compile a config's step, and its teacher alone, for so many `slices` of a topology such as
    ``v5e:16x16`` or ``cpu:8``.

    All chips take part, whatever ``mesh.devices`` and ``mesh.slices`` say. Where the step does not
    fit, `search` compiles changes until one does. `compile` stands in for the worker, in tests;
    `say` is told what is being compiled.

    Raises:
      KdError: an unknown topology, libtpu missing, a price or `mfu` out of range, or whatever is
        wrong with the config.
    """
    if not 0 < mfu <= 1:
        raise KdError(f"--mfu is a part of the peak and must lie in (0, 1], got {mfu}")
    if price_per_chip_hour is not None and not 0 <= price_per_chip_hour < float("inf"):
        raise KdError(f"--price_per_chip_hour must be 0 or more, got {price_per_chip_hour}")
    target = parse_topology(topology, slices)
    compile = ask_worker if compile is None else compile
    resolved = resolve(config)
    spec = changed(json.loads(to_json(resolved)), {"mesh.devices": None, "mesh.slices": slices})
    if compile is ask_worker:
        on_all = dataclasses.replace(resolved.mesh, devices=None, slices=slices)
        check_parts(parts_on(on_all, target.devices), resolved.data.batch_size, resolved.accumulate)
        check_compiler(target)
    say(f"compiling for {target}: a minute or two on 2 cores")
    planned = Plan(
        target, spec, compile(json.dumps(spec), target), Assumed(price_per_chip_hour, mfu)
    )
    return planned if planned.fits or not search else _mended(planned, compile, say)


def _mended(plan: Plan, compile: Compile, say: Callable[[str], None]) -> Plan:
    """`plan` with the first change that fits, or with none and everything that was tried."""
    tried = []
    inside = plan.topology.devices // plan.topology.slices
    for change in candidates(plan.spec, inside):
        spec = changed(plan.spec, change)
        say(f"it does not fit; compiling with {overrides(change)}")
        try:
            other = Plan(
                plan.topology, spec, compile(json.dumps(spec), plan.topology), plan.assumed
            )
        except KdError:  # a batch that does not divide, a model without remat
            tried.append((change, None))
            continue
        tried.append((change, other.needed))
        if other.fits:
            return dataclasses.replace(plan, change=change, changed=other, tried=tried)
    return dataclasses.replace(plan, tried=tried)


def needed(answer: Answer) -> int | None:
    """Main memory that a compiled step takes: arguments, results that are not written over them,
    temporaries, code.
    """
    step = answer["step"]
    if step.get("refused"):
        return step["refused"]["needed"]
    memory = step["memory"]
    if memory is None:
        return None
    return (
        memory["arguments"]
        + memory["outputs"]
        - memory["aliased"]
        + memory["temporaries"]
        + memory["code"]
    )


def ask_worker(spec: str, topology: Topology, lower: str = "kd.planning.lower:lower") -> Answer:
    """Compile in a process of its own, on the CPU, with the TPU compiler where the topology asks
    for it.

    Raises:
      KdError: libtpu is missing, the worker's own `KdError`, or a worker that broke down or took
        over half an hour.
    """
    check_compiler(topology)
    target = {"topology": topology.slice, "slices": topology.slices}
    request = json.dumps({"spec": spec, **target, "lower": lower})
    # it ends when this process does, however that happens, and the worker with it
    line, ours = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "kd.planning.worker", str(line)],
            input=request,
            env=_environment(topology),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            pass_fds=[line],
        )
    except subprocess.TimeoutExpired as error:
        raise KdError(
            f"compiling for {topology} took over {TIMEOUT / 60:.0f} minutes; plan a smaller step"
        ) from error
    finally:
        os.close(line)
        os.close(ours)
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode or not last.startswith("{"):
        cause = (done.stderr.strip() or "nothing was said").splitlines()[-1]
        raise KdError(f"compiling for {topology} broke down (exit {done.returncode}): {cause}")
    answer = json.loads(last)
    if "error" in answer:
        raise KdError(answer["error"])
    return answer


def check_compiler(topology: Topology) -> None:
    """Raise a `KdError` where the compiler of a topology is not installed."""
    if topology.chip.name != "cpu" and importlib.util.find_spec("libtpu") is None:
        raise KdError(
            f"planning for {topology} needs the TPU compiler: pip install -e '.[plan]' in kd's "
            "folder; "
            "--topology=cpu:8 works without it"
        )


def _environment(topology: Topology) -> dict[str, str]:
    root = str(pathlib.Path(__file__).resolve().parents[2])
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}  # the chips are only described: none is started
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    env["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # a training run may hold the library's lock
    env["TPU_SKIP_MDS_QUERY"] = "1"  # do not look for a cloud machine's metadata
    env["TF_CPP_MIN_LOG_LEVEL"] = "2"
    env["JAX_TRACEBACK_FILTERING"] = (
        "off"  # else the last line of what breaks down speaks of frames, not of the cause
    )
    if topology.chip.name == "cpu":
        others = re.sub(
            r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", "")
        )
        env["XLA_FLAGS"] = (
            f"{others} --xla_force_host_platform_device_count={topology.devices}".strip()
        )
    return env


def describe_change(plan: Plan) -> str:
    """One line: it fits, or what to type so that it does."""
    size = f"needs {gib(plan.needed)} of {gib(plan.available)} GiB on {plan.topology}"
    if plan.fits:
        return (
            f"fits: {size}"
            if plan.available is not None
            else f"needs {gib(plan.needed)} GiB; nothing is known of the memory"
        )
    if plan.change is None:
        tried = f"; tried {len(plan.tried)} changes" if plan.tried else ""
        smaller = ", or a smaller batch" if plan.answer["facts"]["batch_size"] > 1 else ""
        return f"does not fit: {size}{tried}; use more or larger chips{smaller}"
    assert plan.changed is not None
    return (
        f"does not fit: {size}; it fits ({gib(plan.changed.needed)} GiB) with "
        f"{overrides(plan.change)}"
    )


def gib(size: float | None) -> str:
    """Bytes in GiB; a dash for None."""
    if size is None:
        return "—"
    return f"{size / 2**30:.2f}" if size >= 2**26 or not size else f"{size / 2**30:.1g}"
