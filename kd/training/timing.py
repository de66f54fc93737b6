"""How fast a run is and where its time goes: a line beside every line of metrics, in a file of its
own, since times differ from one run to the next and metrics do not.
"""

from __future__ import annotations

import json
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from kd.training.clock import STEPS, WAIT, Clock, goodput
from kd.training.writers import Write

REPEATED = "repeated"
"""Steps that were taken again, since the start that took them was killed before they were saved."""


class Timing:
    """Measures the steps between two lines of metrics, and writes it to `path` and to `sinks`.

    `examples` are those of a step, of all members; `peak_seconds` the time of a step's products of
    matrices at the peak of the chips, None where that is not known. Names and formulas:

      ``step_seconds``         (steps + wait) / number of steps
      ``examples_per_second``  examples / step_seconds
      ``mfu``                  peak_seconds / step_seconds
      ``input_wait``           wait / (steps + wait)
      ``memory_bytes``         the most that a device had in use; on a CPU the process
      ``goodput``              steps / wall time, of this start

    where ``steps`` and ``wait`` are seconds of the `Clock` since the line before.
    """

    def __init__(
        self,
        path: pathlib.Path,
        clock: Clock,
        step: int,
        examples: int,
        peak_seconds: float | None = None,
        sinks: Sequence[Write] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        self.path, self._clock, self._examples = path, clock, examples
        self._peak_seconds, self._sinks, self._say = peak_seconds, sinks, say
        self._first = self._step = step
        self._before = clock.seconds
        self._began, self._broken = time.time(), False

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """After a line of metrics of steps; evaluations have no time of their own."""
        if "loss" not in values or step <= self._step:
            return
        seconds = self._clock.at(step)
        measured = self._measured(step - self._step, seconds)
        self._step, self._before = step, seconds
        self._append(measured)
        for write in self._sinks:
            write(step, {f"timing/{name}": value for name, value in measured.items()})

    def close(self) -> bool:
        """Write what came after the last line of metrics, such as a checkpoint; whether there was a
        step.
        """
        if self._step > self._first:
            self._append({})
        return self._step > self._first

    def _measured(self, steps: int, seconds: Mapping[str, float]) -> dict[str, float]:
        waited = seconds[WAIT] - self._before[WAIT]
        spent = max(seconds[STEPS] - self._before[STEPS] + waited, 1e-9)
        step_seconds = spent / steps
        peak = self._peak_seconds
        return {
            "step_seconds": step_seconds,
            "examples_per_second": self._examples / step_seconds,
            **({} if peak is None else {"mfu": peak / step_seconds}),
            "input_wait": waited / spent,
            "memory_bytes": memory_in_use(),
            "goodput": goodput(seconds),
        }

    def _append(self, measured: Mapping[str, float]) -> None:
        if self._broken:
            return
        seconds = {name: round(value, 6) for name, value in self._clock.seconds.items()}
        start = {"began": self._began, "from": self._first}
        line = {"step": self._step, **measured, **start, "seconds": seconds}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:  # a full disk: metrics and checkpoints are what a run needs
            self._broken = True
            self._say(f"cannot write {self.path}: {error.strerror}; the run goes on without it")


def memory_in_use() -> int:
    """Bytes: the most that the fullest device of this process had in use; where devices do not say,
    as CPUs, the most that the process had.
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [entry["peak_bytes_in_use"] for entry in stats if "peak_bytes_in_use" in entry]
    if peaks:
        return max(peaks)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a file of timing; what is damaged is left out, and no file is no line."""
    lines = []
    for text in path.read_text("utf-8", "replace").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if _is_whole(line):
            lines.append(line)
    return lines


def _is_whole(line: Any) -> bool:
    if not isinstance(line, dict) or not isinstance(line.get("seconds"), dict):
        return False
    seconds = line["seconds"]
    numbers = [line.get("began"), line.get("from"), line.get("step"), *seconds.values()]
    return STEPS in seconds and all(type(number) in (int, float) for number in numbers)


def whole(lines: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, float]]:
    """How many starts a run took, and the seconds of all of them by activity.

    Steps beyond the one that the next start went on from are `REPEATED`. The time between two
    starts, and that of a start after its last line, is not known.
    """
    starts: dict[float, list[Mapping[str, Any]]] = {}
    for line in lines:
        starts.setdefault(line["began"], []).append(line)
    totals: dict[str, float] = {}
    every = list(starts.values())
    for number, own in enumerate(every):
        seconds = dict(own[-1]["seconds"])
        kept = every[number + 1][0]["from"] if number + 1 < len(every) else own[-1]["step"]
        good = max((line["seconds"][STEPS] for line in own if line["step"] <= kept), default=0.0)
        lost = seconds[STEPS] - good if own[-1]["step"] > kept else 0.0
        seconds |= {STEPS: seconds[STEPS] - lost, REPEATED: lost}
        for name, value in seconds.items():
            totals[name] = totals.get(name, 0.0) + value
    return len(every), totals


def words(starts: int, seconds: Mapping[str, float]) -> str:
    """One line: the goodput, and what the time went to, most of it first."""
    total = sum(seconds.values())
    parts = sorted(seconds.items(), key=lambda part: -part[1])
    shown = ", ".join(f"{name} {value:.1f} s" for name, value in parts if value >= 0.05)
    of = f"{total:.1f} s" if starts == 1 else f"{total:.1f} s in {starts} starts"
    return f"goodput {goodput(seconds):.0%} of {of}: {shown}"


AtPeak = Callable[[Callable[[], str | None], str], float]
"""``at_peak(program, device_kind)``: seconds of a step's products at the chips' peak.

Raises a `KdError` where that is not known.
"""
