"""The text of a compiled program, read: instructions by computation, sizes, groups, trips of
loops.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](\{[^}]*\})?")
_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "c64": 64, "c128": 128}


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of an instruction's result. `hbm`: it lies in main memory, not in one of the chip's
    small ones.
    """

    shape: tuple[int, ...]
    bits: int
    hbm: bool = True

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: ``%name = result opcode(operands), attributes``."""

    name: str
    result: str
    opcode: str
    operands: tuple[str, ...]
    literal: str
    attributes: str
    root: bool

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays of the result, of a tuple all of them."""
        return tuple(arrays(self.result))

    def attribute(self, name: str) -> str:
        """The value of a short attribute such as ``body=%region`` or ``direction=LT``, without the
        %; else "".
        """
        match = re.search(rf"\b{name}=%?([\w.\-]+)", self.attributes)
        return match.group(1) if match else ""


@dataclasses.dataclass(frozen=True)
class Computation:
    """A list of instructions in the order in which they run."""

    name: str
    instructions: Mapping[str, Instruction]

    @property
    def root(self) -> Instruction:
        """What the computation answers."""
        return next(
            (i for i in self.instructions.values() if i.root), list(self.instructions.values())[-1]
        )

    @property
    def parameters(self) -> dict[str, int]:
        """Number of each parameter, by name."""
        return {
            i.name: int(i.literal) for i in self.instructions.values() if i.opcode == "parameter"
        }


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program for one device; `partitions` devices in `slices` run it together.

    `hosted` slices run one each, and what is for the others goes through their hosts.
    """

    computations: Mapping[str, Computation]
    entry: str
    partitions: int
    slices: int = 1
    hosted: int = 1

    def called(self, instruction: Instruction) -> list[Computation]:
        """The computations that an instruction names as ``calls``, ``to_apply`` or branches."""
        names = [instruction.attribute("calls"), instruction.attribute("to_apply")]
        branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
        names += (
            [part.strip().lstrip("%") for part in branches.group(1).split(",")] if branches else []
        )
        names += [
            instruction.attribute("true_computation"),
            instruction.attribute("false_computation"),
        ]
        return [self.computations[name] for name in names if name in self.computations]


def parse(text: str) -> Module:
    """The module that ``compiled.as_text()`` describes."""
    computations: dict[str, Computation] = {}
    lines: dict[str, Instruction] = {}
    entry = ""
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            lines = {}
            computations[header.group(2)] = Computation(header.group(2), lines)
            entry = header.group(2) if header.group(1) else entry
            continue
        matched = _LINE.match(line)
        if matched and computations:
            instruction = _instruction(matched.group(2), matched.group(3), bool(matched.group(1)))
            if instruction is not None:
                lines[instruction.name] = instruction
    partitions = re.search(r"num_partitions=(\d+)", text[:100_000])
    return Module(computations, entry, int(partitions.group(1)) if partitions else 1)


def arrays(result: str) -> Iterator[Array]:
    """The arrays in the text of a shape; of a tuple all of them."""
    for kind, shape, layout in _ARRAY.findall(result):
        space = re.search(r"S\((\d+)\)", layout)
        sizes = tuple(int(size.strip("<=")) for size in shape.split(",") if size)
        yield Array(sizes, _bits(kind), space is None or space.group(1) == "0")


@dataclasses.dataclass(frozen=True)
class Frame:
    """A computation as it runs: inside a loop or a call of `caller`."""

    computation: Computation
    caller: Frame | None = None
    loop: Instruction | None = None


def trips(module: Module, loop: Instruction, frame: Frame) -> int | None:
    """How often the body of a ``while`` runs; None where the text does not say.

    Either the compiler wrote it down (``known_trip_count``), or the condition compares a counter
    from a constant with another constant; the counter goes up by a constant, where the body shows
    none by one.
    """
    known = re.search(r'known_trip_count"?[:=]\{"?n"?:"?(\d+)', loop.attributes)
    if known:
        return int(known.group(1))
    condition = module.computations.get(loop.attribute("condition"))
    if condition is None:
        return None
    inside = Frame(condition, frame, loop)
    compared, operand_of = condition.root, {}
    if compared.opcode == "fusion" and module.called(compared):
        fused = module.called(compared)[0]
        operand_of = {name: compared.operands[number] for name, number in fused.parameters.items()}
        compared = fused.root
        constants = {
            i.name: i.literal for i in fused.instructions.values() if i.opcode == "constant"
        }
    else:
        constants = {}
    if compared.opcode != "compare" or compared.attribute("direction") not in ("LT", "GT"):
        return None
    ends = [
        _whole(constants[name])
        if name in constants
        else _constant(module, operand_of.get(name, name), inside, fixed=fixed)
        for name, fixed in zip(
            compared.operands
            if compared.attribute("direction") == "LT"
            else compared.operands[::-1],
            (False, True),
            strict=True,
        )
    ]
    start, bound = ends
    counter = compared.operands[0 if compared.attribute("direction") == "LT" else 1]
    step = _step(module, operand_of.get(counter, counter), inside)
    return None if bound is None else max(-(-(bound - (start or 0)) // step), 0)


def _step(module: Module, counter: str, condition: Frame) -> int:
    """By how much a loop's body raises the counter that its condition reads."""
    read = condition.computation.instructions.get(counter)
    if read is None or read.opcode != "get-tuple-element" or condition.loop is None:
        return 1
    body = module.computations[condition.loop.attribute("body")]
    if body.root.opcode != "tuple":
        return 1
    raised = body.instructions.get(body.root.operands[int(read.attribute("index") or 0)])
    while raised is not None and raised.opcode in ("copy", "bitcast"):
        raised = body.instructions.get(raised.operands[0])
    if raised is None or raised.opcode != "add":
        return 1
    frame = Frame(body, condition.caller, condition.loop)
    steps = [_constant(module, name, frame, fixed=True) for name in raised.operands]
    return next((step for step in steps if step is not None and step > 0), 1)


def _constant(module: Module, name: str, frame: Frame, *, fixed: bool) -> int | None:
    """The integer that `name` holds, at a loop's start or, when `fixed`, in every round; None where
    it is not one.
    """
    instruction = frame.computation.instructions.get(name)
    if instruction is None:
        return None
    if instruction.opcode == "constant":
        return _whole(instruction.literal)
    if instruction.opcode in ("copy", "bitcast"):
        return _constant(module, instruction.operands[0], frame, fixed=fixed)
    if instruction.opcode != "get-tuple-element" or frame.loop is None or frame.caller is None:
        return None
    number = int(instruction.attribute("index") or 0)
    body = module.computations[frame.loop.attribute("body")]
    if fixed and not _kept(body, number):
        return None
    start = frame.caller.computation.instructions.get(frame.loop.operands[0])
    if start is None or start.opcode != "tuple":
        return None
    return _constant(module, start.operands[number], frame.caller, fixed=fixed)


def _kept(body: Computation, number: int) -> bool:
    """True if a loop's body hands on entry `number` of its tuple as it came."""
    if body.root.opcode != "tuple":
        return False
    last = body.instructions.get(body.root.operands[number])
    while last is not None and last.opcode in ("copy", "bitcast"):
        last = body.instructions.get(last.operands[0])
    return (
        last is not None
        and last.opcode == "get-tuple-element"
        and int(last.attribute("index") or 0) == number
    )


def _instruction(name: str, text: str, root: bool) -> Instruction | None:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.find(" ")
    opcode = re.match(r"\s*([\w\-]+)\(", text[end:])
    if opcode is None:
        return None
    opening = end + opcode.end() - 1
    closing = _closing(text, opening)
    inside = text[opening + 1 : closing]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    if not operands and opcode.group(1) not in ("constant", "parameter"):
        operands = tuple(part.split()[-1] for part in inside.split(",") if part.strip())
    return Instruction(
        name, text[:end], opcode.group(1), operands, inside.strip(), text[closing + 1 :], root
    )


def _closing(text: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(text)):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth == 0:
            return position
    return len(text)


def _bits(kind: str) -> int:
    if kind in _BITS:
        return _BITS[kind]
    digits = re.match(r"[a-z]+(\d+)", kind)
    return int(digits.group(1)) if digits else 0


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None
