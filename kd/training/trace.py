"""Reads a trace that `jax.profiler` left: what the devices did in the time that was traced."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jax.profiler import ProfileData

from kd.errors import KdError
from kd.training.profile import SPAN

Span = tuple[float, float, str]
"""Begin and end in seconds, and a name."""

COLLECTIVES = "collectives"
KINDS = {
    COLLECTIVES: r"all-(reduce|gather|to-all)|reduce-scatter|collective|nccl|send|recv|rendezvous",
    "products and convolutions": r"dot|conv|gemm|matmul|cublas|cudnn|cutlass|nvjet|xmma|onednn",
    "moving data": r"copy|transpose|gather|scatter|slice|concatenate|broadcast|reshape|pad|memcpy"
    r"|bitcast|infeed|outfeed|memset|formatting",
    "reductions and sorting": r"reduce|sort|top-?k|cumsum|argm",
    "random numbers": r"rng|threefry|random",
    "element-wise and other fusions": r"fusion|add|multiply|subtract|divide|exp|log|tanh|select|max"
    r"|min|compare|convert|sqrt|iota",
    "loops and calls": r"while|call|conditional|tuple|condition|region|thunk",
}
"""Kinds of operations, by what is in the name of one; the first that fits counts."""
OTHER = "other"


@dataclasses.dataclass(frozen=True)
class Traced:
    """Seconds of a device, the mean over `devices`: ``sum(kinds) + gaps = seconds``.

    `kinds` are seconds and number of operations by kind; when several operations run at once, the
    time is divided evenly among them. In `gaps` the device does nothing. `host` are seconds of what
    the process did meanwhile, by `kd.training.clock` activity.
    """

    seconds: float
    devices: int
    kinds: Mapping[str, tuple[float, float]]
    gaps: float
    host: Mapping[str, float]


def read(file: pathlib.Path) -> Traced:
    """What is in a trace.

    Raises:
      KdError: it is no trace, or holds nothing between its first and its last step.
    """
    with warnings.catch_warnings():
        # its types warn when they are first used, and end the process where that is an error
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            planes = list(ProfileData.from_file(str(file)).planes)
        except Exception as error:  # the library raises several kinds
            raise KdError(f"cannot read the trace {file}; trace these steps again") from error
        return _of(file, planes)


def _of(file: pathlib.Path, planes: Sequence[Any]) -> Traced:
    host = [span for plane in planes if plane.name.startswith("/host") for span in _named(plane)]
    traced = [span for span in host if span[2] == SPAN]
    if not traced:
        raise KdError(f"the trace {file} has no step of kd; trace these steps again")
    window = traced[-1][:2]
    devices = [lines for plane in planes if (lines := _operations(plane))]
    sums: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for lines in devices:
        clipped = [list(_within(line, window)) for line in lines]
        sums.update(shares([innermost(line) for line in clipped]))
        counts.update(name for line in clipped for _, _, name in line)
    several = max(len(devices), 1)
    kinds = {name: (sums[name] / several, counts[name] / several) for name in sums}
    seconds = window[1] - window[0]
    busy = sum(spent for spent, _ in kinds.values())
    return Traced(seconds, len(devices), kinds, max(seconds - busy, 0.0), _activities(host, window))


def kind_of(operation: str) -> str:
    """One of `KINDS`, or `OTHER`, of an operation called ``dot.12`` or ``loop_add_fusion``."""
    name = operation.lower()
    return next((kind for kind, words in KINDS.items() if re.search(words, name)), OTHER)


def innermost(spans: Iterable[Span]) -> list[Span]:
    """The same time as spans that do not overlap: what is within another one is taken from it."""
    flat: list[Span] = []
    stack: list[Span] = []
    at = 0.0

    def until(time: float) -> None:
        nonlocal at
        if stack and time > at:
            flat.append((at, time, stack[-1][2]))
        at = max(at, time)

    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        while stack and stack[-1][1] <= span[0]:
            until(stack[-1][1])
            stack.pop()
        if stack:
            until(span[0])
        at = span[0]
        stack.append(span)
    while stack:
        until(stack[-1][1])
        stack.pop()
    return flat


def shares(lines: Sequence[Sequence[Span]]) -> dict[str, float]:
    """Seconds by name; where several spans run side by side, each has an equal part of the time.

    They add up to the time in which there is any span.
    """
    edges = [(begin, 1, name) for line in lines for begin, _, name in line]
    edges += [(end, -1, name) for line in lines for _, end, name in line]
    running: Counter[str] = Counter()
    sums: dict[str, float] = {}
    before = 0.0
    for time, change, name in sorted(edges):
        together = running.total()
        for other, count in running.items() if together and time > before else ():
            sums[other] = sums.get(other, 0.0) + (time - before) * count / together
        before = time
        running[name] += change
        if not running[name]:
            del running[name]
    return sums


def _within(spans: Iterable[Span], window: tuple[float, float]) -> Iterable[Span]:
    for begin, end, name in spans:
        if begin < window[1] and end > window[0]:
            yield max(begin, window[0]), min(end, window[1]), name


def _named(plane: Any) -> list[Span]:
    """What kd itself called by a name."""
    return [
        (event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9, event.name)
        for line in plane.lines
        for event in line.events
        if event.name.startswith("kd ")
    ]


def _operations(plane: Any) -> list[list[Span]]:
    """The operations of a device, line by line, by their kind; of a CPU those of its threads."""
    lines = list(plane.lines)
    if plane.name.startswith("/device:TPU"):
        lines = [line for line in lines if line.name == "XLA Ops"]
    elif plane.name.startswith("/device:"):
        lines = [line for line in lines if line.name.startswith("Stream")]
    elif not plane.name.startswith("/host:CPU"):
        return []
    on_device = plane.name.startswith("/device:")
    every = (
        [span for event in line.events if (span := _operation(event, on_device))] for line in lines
    )
    return [line for line in every if line]


def _operation(event: Any, on_device: bool) -> Span | None:
    """Nothing of what a CPU's threads do besides operations."""
    stats = dict(event.stats)
    operation = stats.get("hlo_op") or (event.name.partition(" = ")[0] if on_device else None)
    if operation is None or not event.duration_ns:
        return None
    kind = kind_of(str(stats.get("hlo_category") or operation))
    return event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9, kind


def _activities(host: Iterable[Span], window: tuple[float, float]) -> dict[str, float]:
    own = (span for span in host if span[2] != SPAN)
    seconds = shares([innermost(_within(own, window))])
    return {name.removeprefix("kd "): value for name, value in seconds.items()}
