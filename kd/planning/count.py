"""What one step of a compiled program does on one device: operations, bytes of main memory,
collectives.

XLA's own `cost_analysis` counts the body of a loop once, however often it runs (measured on TPU and
CPU), so that a model whose layers are scanned would come out far too cheap. Here a body counts as
often as it runs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

from kd.planning.groups import groups_of
from kd.planning.hlo import Array, Computation, Frame, Instruction, Module, parse, trips

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind: how many, bytes of the whole arrays, bytes that one device
    sends, and of those the ones that go across, from slice to slice.
    """

    count: int = 0
    payload: float = 0.0
    sent: float = 0.0
    across: float = 0.0

    def plus(self, other: Collective) -> Collective:
        """Both together."""
        return Collective(
            self.count + other.count,
            self.payload + other.payload,
            self.sent + other.sent,
            self.across + other.across,
        )


@dataclasses.dataclass
class Count:
    """Totals for one device.

    `flops` are those of matrix products and convolutions, `hbm_bytes` what is read from and written
    to main memory, `cycles` the compiler's own estimate where it left one, `loops` the loops in the
    text, `unknown_loops` those whose trips it does not say: they count once.
    """

    flops: float = 0.0
    hbm_bytes: float = 0.0
    cycles: float = 0.0
    loops: int = 0
    unknown_loops: int = 0
    collectives: dict[str, Collective] = dataclasses.field(default_factory=dict)

    @property
    def sent(self) -> float:
        """Bytes that one device sends to others."""
        return sum(collective.sent for collective in self.collectives.values())

    @property
    def across(self) -> float:
        """Those of them that go from slice to slice."""
        return sum(collective.across for collective in self.collectives.values())

    @property
    def within(self) -> float:
        """Those that stay inside a slice."""
        return self.sent - self.across


def count(text: str, slices: int = 1, devices: int | None = None) -> Count:
    """Totals of the program that ``compiled.as_text()`` describes, of `devices` in so many slices.

    TPUs of several slices have a program of one, which sends to the others through its hosts.
    """
    module = parse(text)
    hosted = module.partitions * slices == devices
    told = {"hosted": slices} if hosted else {"slices": slices}
    module = dataclasses.replace(module, **told)
    total = Count()
    if module.entry:
        _run(module, Frame(module.computations[module.entry]), 1, total)
    return total


def sent_share(kind: str, group: int) -> float:
    """Bytes that a device sends per byte of the whole array, with ring algorithms in a group of
    `group`.

    all-reduce 2(g-1)/g; all-gather, reduce-scatter, all-to-all (g-1)/g; collective-permute 1.

    Source: Thakur, Rabenseifner & Gropp (2005), "Optimization of collective communication
    operations in MPICH".
    """
    if kind == "collective-permute":
        return 1.0
    return (2.0 if kind == "all-reduce" else 1.0) * (group - 1) / group


def _run(module: Module, frame: Frame, times: int, total: Count) -> None:
    seen: set[str] = set()  # the pieces of one asynchronous collective share a channel
    for instruction in frame.computation.instructions.values():
        opcode = instruction.opcode
        total.cycles += times * _cycles(instruction)
        if opcode == "while":
            rounds = trips(module, instruction, frame)
            total.loops += 1
            total.unknown_loops += rounds is None
            body = module.computations[instruction.attribute("body")]
            _run(
                module,
                Frame(body, frame, instruction),
                times * (1 if rounds is None else rounds),
                total,
            )
        elif opcode == "conditional":  # the most expensive branch
            branches = []
            for branch in module.called(instruction):
                branches.append(Count())
                _run(module, Frame(branch, frame), times, branches[-1])
            if branches:
                _add(total, max(branches, key=lambda counted: (counted.flops, counted.hbm_bytes)))
        elif opcode in ("call", "call-start", "async-start"):
            for called in module.called(instruction):
                _run(module, Frame(called, frame), times, total)
        else:
            total.hbm_bytes += times * hbm_bytes(module, frame.computation, instruction)
            for inner, computation in _within(module, frame.computation, instruction):
                total.flops += times * flops(inner, computation)
                _collective(module, inner, instruction, times, total, seen)


def _within(
    module: Module, computation: Computation, instruction: Instruction
) -> list[tuple[Instruction, Computation]]:
    """The instruction, or of a fusion those that are fused into it, however deep."""
    if instruction.opcode != "fusion":
        return [(instruction, computation)]
    return [
        pair
        for called in module.called(instruction)
        for inner in called.instructions.values()
        for pair in _within(module, called, inner)
    ]


def _add(total: Count, more: Count) -> None:
    total.flops += more.flops
    total.hbm_bytes += more.hbm_bytes
    total.cycles += more.cycles
    total.loops += more.loops
    total.unknown_loops += more.unknown_loops
    for kind, collective in more.collectives.items():
        total.collectives[kind] = total.collectives.get(kind, Collective()).plus(collective)


def _cycles(instruction: Instruction) -> float:
    match = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
    return float(match.group(1)) if match else 0.0


def _collective(
    module: Module, inner: Instruction, outer: Instruction, times: int, total: Count, seen: set[str]
) -> None:
    kind = inner.opcode.removesuffix("-start")
    if kind == "send" and module.hosted > 1:
        _add_hosted(inner, times, module.hosted, total)
    if kind not in KINDS:
        return
    groups = groups_of(inner, module.partitions)
    if groups.size == 1:
        return
    channel = re.search(r"channel_id=(\d+)", inner.attributes)
    identity = f"channel {channel.group(1)}" if channel else inner.name
    if identity in seen:
        return
    seen.add(identity)
    payload = _payload(inner, kind, groups.size)
    result = sum(array.size for array in outer.arrays)
    if (
        kind == "all-reduce" and outer is not inner and result * groups.size == payload
    ):  # each device keeps its part
        kind = "reduce-scatter"
    sent = payload * sent_share(kind, groups.size)
    across = sent * groups.over(kind, module.slices, module.partitions)
    more = Collective(times, times * payload, times * sent, times * across)
    total.collectives[kind] = total.collectives.get(kind, Collective()).plus(more)


def _add_hosted(send: Instruction, times: int, slices: int, total: Count) -> None:
    """The part of a collective that is among slices: a device sends what is its own, and each
    slice has as many devices for as many parts.
    """
    kind = _first(r'_xla_host_transfer_rendezvous="([a-z\-]+?)[._\d]*"', send.attributes)
    if kind not in KINDS:
        return
    own = max(array.size for array in send.arrays)
    payload = own * slices if kind == "all-gather" else own
    sent = payload * sent_share(kind, slices)
    more = Collective(0, 0.0, times * sent, times * sent)  # counted within the slice already
    total.collectives[kind] = total.collectives.get(kind, Collective()).plus(more)


def _payload(instruction: Instruction, kind: str, group: int) -> float:
    """Bytes of the whole array: gathered, reduced before it is scattered, exchanged."""
    size = sum(array.size for array in instruction.arrays)
    if kind == "reduce-scatter":
        return size * group
    if instruction.opcode == "all-gather-start":  # the result holds the operand too
        return size * group / (group + 1)
    if instruction.opcode in ("collective-permute-start", "all-to-all-start"):
        return sum(array.size for array in instruction.arrays if array.shape) / 2
    return size


def flops(instruction: Instruction, computation: Computation) -> float:
    """Operations of a matrix product or a convolution, two per multiply-add; 0 for anything
    else.
    """
    if instruction.opcode not in ("dot", "convolution") or not instruction.arrays:
        return 0.0
    operands = [computation.instructions.get(name) for name in instruction.operands]
    shapes = [
        operand.arrays[0].shape for operand in operands if operand is not None and operand.arrays
    ]
    if len(shapes) < 2:
        return 0.0
    out = instruction.arrays[0].shape
    if instruction.opcode == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        axes = [int(axis) for axis in contracted.group(1).split(",") if axis] if contracted else []
        return 2.0 * math.prod(out) * math.prod(shapes[0][axis] for axis in axes)
    return _convolution(instruction.attributes, shapes[0], shapes[1], out)


def _convolution(
    text: str, lhs: tuple[int, ...], kernel: tuple[int, ...], out: tuple[int, ...]
) -> float:
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", text)
    if labels is None:
        return 0.0
    names = [
        dict(zip(label, shape, strict=True))
        for label, shape in zip(labels.groups(), (lhs, kernel, out), strict=True)
    ]
    window = dict(re.findall(r"(\w+)=([\dx_\-]+)", _first(r"window=\{([^}]*)\}", text)))
    spatial = sorted(label for label in names[0] if label.isdigit())
    total = 2.0 * names[0]["b"] * names[1]["i"] * names[2]["f"]
    total /= int(_first(r"batch_group_count=(\d+)", text) or 1)
    for number, label in enumerate(spatial):

        def value(key: str, default: str, number: int = number) -> str:
            return window[key].split("x")[number] if key in window else default

        total *= _pairs(
            names[0][label],
            names[2][label],
            int(value("size", "1")),
            int(value("stride", "1")),
            int(value("pad", "0_0").split("_")[0]),
            int(value("lhs_dilate", "1")),
            int(value("rhs_dilate", "1")),
        )
    return total


@functools.lru_cache(maxsize=4096)
def _pairs(
    length: int, out: int, size: int, stride: int, pad: int, dilate: int, kernel_dilate: int
) -> int:
    """How many pairs (output, kernel) of one dimension meet a true input, neither padding nor a
    hole of dilation.
    """
    last = (length - 1) * dilate
    pairs = 0
    for k in range(size):
        for o in range(out):
            position = o * stride - pad + k * kernel_dilate
            pairs += 0 <= position <= last and position % dilate == 0
    return pairs


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1) if match else ""


_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all",
    "partition-id", "replica-id", "opt-barrier", "domain", "add-dependency",
}  # fmt: skip
_REFERENCES = ("ConcatBitcast", "AsyncCollectiveStart", "AsyncCollectiveDone", "Sharding")


def hbm_bytes(module: Module, computation: Computation, instruction: Instruction) -> float:
    """Bytes of main memory that an instruction reads and writes; of an array that is sliced, the
    slice.
    """
    opcode = instruction.opcode
    if (
        opcode in _FREE
        or opcode.endswith("-done")
        or any(f'custom_call_target="{name}"' in instruction.attributes for name in _REFERENCES)
    ):
        return 0.0
    written = instruction.arrays
    read = [_array(computation, name) for name in instruction.operands]
    if opcode == "copy-start":
        return _hbm(written)
    if opcode == "slice-start":
        moved = written[1].size if len(written) > 1 else 0
        return float(moved * sum(array.hbm for array in written[:2]))
    if opcode in ("dynamic-slice", "slice", "gather"):
        return _hbm(written) + sum(array.size for array in written) * (read[0].hbm if read else 0)
    if opcode == "dynamic-update-slice":
        return 2.0 * read[1].size * written[0].hbm
    if opcode == "scatter":
        return 3.0 * read[-1].size * written[0].hbm
    if opcode == "fusion" and module.called(instruction):
        return _fusion(module.called(instruction)[0], read, written)
    if opcode.endswith("-start"):
        return _hbm(written)
    return _hbm(read) + _hbm(written)


def _fusion(fused: Computation, read: list[Array], written: tuple[Array, ...]) -> float:
    total = 0.0
    for name, number in fused.parameters.items():
        if number < len(read) and read[number].hbm:
            total += _touched(fused, name, read[number].size)
    return total + sum(
        _stored(fused, number, array) for number, array in enumerate(written) if array.hbm
    )


def _touched(fused: Computation, name: str, size: int) -> int:
    """Bytes of a parameter that a fusion reads: all, unless every use is a slice, or an update in
    place.
    """
    total = 0
    for user in fused.instructions.values():
        if name not in user.operands:
            continue
        if user.opcode == "bitcast":
            total += _touched(fused, user.name, size)
        elif user.opcode in ("dynamic-slice", "slice", "gather") and user.operands[0] == name:
            total += sum(array.size for array in user.arrays)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            total += 0
        else:
            return size
    return min(total, size)


def _stored(fused: Computation, number: int, array: Array) -> int:
    """Bytes of a result that a fusion writes: all, unless it updates a slice of it in place."""
    root = fused.root
    if root.opcode == "tuple" and number < len(root.operands):
        root = fused.instructions.get(root.operands[number], root)
    while root.opcode == "bitcast" and root.operands[0] in fused.instructions:
        root = fused.instructions[root.operands[0]]
    if root.opcode == "dynamic-update-slice":
        return min(_array(fused, root.operands[1]).size, array.size)
    return array.size


def _array(computation: Computation, name: str) -> Array:
    instruction = computation.instructions.get(name)
    return (
        instruction.arrays[0]
        if instruction is not None and instruction.arrays
        else Array((0,), 0, False)
    )


def _hbm(arrays: tuple[Array, ...] | list[Array]) -> float:
    return float(sum(array.size for array in arrays if array.hbm))


def as_dict(total: Count) -> Mapping[str, object]:
    """For JSON; `from_dict` reads it back."""
    return dataclasses.asdict(total)


def from_dict(totals: Mapping[str, object]) -> Count:
    """The totals that `as_dict` wrote."""
    values = dict(totals)
    collectives = values.pop("collectives")
    assert isinstance(collectives, Mapping)
    by_kind = {kind: Collective(**numbers) for kind, numbers in collectives.items()}
    return Count(**values, collectives=by_kind)  # pyright: ignore[reportArgumentType]
