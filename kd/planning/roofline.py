"""How fast a step can be at best, what a run costs then, and when it pays to keep the teacher's
answers.
"""

from __future__ import annotations

import dataclasses
import math

from kd.planning.chips import Chip, Topology
from kd.planning.count import Count

HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds that each part of a step takes at the chip's peak rates; the step takes the longest
    of them. `network` is that within a slice; `dcn` that between slices, None where its rate is
    unknown.

    Source: Williams, Waterman & Patterson (2009), "Roofline".
    """

    compute: float
    memory: float
    network: float
    dcn: float | None = 0.0

    @property
    def _parts(self) -> dict[str, float]:
        parts = {"compute": self.compute, "memory": self.memory, "network": self.network}
        return parts if self.dcn is None else {**parts, "dcn": self.dcn}

    @property
    def seconds(self) -> float:
        """Time of one step if everything overlaps and every rate is reached: a lower bound."""
        return max(self._parts.values())

    @property
    def bound(self) -> str:
        """What a step waits for: ``compute``, ``memory``, ``network`` or ``dcn``."""
        return max(self._parts, key=self._parts.__getitem__)

    def at(self, mfu: float) -> float:
        """Seconds of a step whose matrix units reach that part of their peak, unless memory or a
        network takes longer.
        """
        return max(self.seconds, self.compute / mfu)

    @property
    def mfu(self) -> float:
        """Part of the peak that the matrix units reach at that time, 0 to 1: ``compute /
        seconds``.
        """
        return self.compute / self.seconds if self.seconds else 0.0


def roofline(count: Count, chip: Chip) -> Roofline | None:
    """``max(FLOPs / peak, HBM bytes / bandwidth, bytes sent within a slice / interconnect, bytes
    sent from slice to slice / data center network)``; None where the chip's rates are unknown.

    `count` is of one device; a chip's rates are shared by its devices.
    """
    if chip.flops is None or chip.hbm_rate is None or chip.ici_rate is None:
        return None
    share = chip.devices
    return Roofline(
        count.flops * share / chip.flops,
        count.hbm_bytes * share / chip.hbm_rate,
        count.within * share / chip.ici_rate,
        _dcn_seconds(count, chip),
    )


def _dcn_seconds(count: Count, chip: Chip) -> float | None:
    if not count.across:
        return 0.0
    return None if chip.dcn_rate is None else count.across * chip.devices / chip.dcn_rate


def compiler_seconds(optimal: float | None, count: Count, chip: Chip) -> float | None:
    """The compiler's own estimate of a step, or None.

    The cycles that it wrote beside the instructions, over the clock, where that is public:
    collectives are left out. Else XLA's ``optimal_seconds``, if it is a time at all: it comes out
    negative where one instruction's cost is unknown, and it counts each loop's body once.
    """
    if count.cycles and chip.clock:
        return count.cycles / chip.clock
    return optimal if optimal is not None and optimal > 0 and not count.loops else None


@dataclasses.dataclass(frozen=True)
class Bill:
    """A whole run: `hours` on the wall, `chip_hours` of all chips, `price` in the unit that an
    hour's was given in.
    """

    examples_per_second: float
    hours: float
    chip_hours: float
    price: float | None


def bill(
    seconds: float,
    batch_size: int,
    steps: int,
    topology: Topology,
    price_per_chip_hour: float | None = None,
) -> Bill:
    """``steps`` steps of `seconds` each, on every chip of `topology`."""
    hours = seconds * steps / HOUR
    price = None if price_per_chip_hour is None else hours * topology.chips * price_per_chip_hour
    return Bill(batch_size / seconds if seconds else math.inf, hours, hours * topology.chips, price)


@dataclasses.dataclass(frozen=True)
class Cache:
    """A teacher asked once and kept, against one asked in every step.

    `bytes` on disk; `pass_seconds` of one pass of the teacher over the data, `read_seconds` of an
    epoch's reads. `from_epochs` is the first whole number of epochs at which the cache takes less
    time; None: never. `why_not` says why it cannot answer at all.
    """

    bytes: float
    pass_seconds: float
    read_seconds: float
    from_epochs: int | None
    why_not: str = ""


def answer_bytes(classes: int, top: int | None = None) -> float:
    """Bytes of one kept answer: all logits in bfloat16, or `top` of them with their places, and
    log-sum-exp and tail.

    ``2 v``, or ``k (2 + 4) + 2 * 4``.
    """
    return 2.0 * classes if top is None or top >= classes else top * 6.0 + 8.0


def cache(
    examples: int,
    teacher_flops: float,
    answer: float,
    topology: Topology,
    *,
    mfu: float,
    read_rate: float,
    members: int = 1,
    why_not: str = "",
) -> Cache | None:
    """From how many epochs on a cache pays. None where the chip's rates are unknown.

    A pass costs ``n F / (chips peak mfu)`` (n examples, F operations of the teacher's forward pass
    for one). Each of the `members` that learn asks for a pass of its own in every epoch. Keeping
    costs one pass in all, and in every epoch a read of ``n answer`` bytes for each member at
    `read_rate` bytes a second: it pays from the first E with ``E m pass > pass + E m read``, that
    is ``E m > pass / (pass - read)``.
    """
    if topology.chip.flops is None:
        return None
    asked = examples * teacher_flops / (topology.chips * topology.chip.flops * mfu)
    read = examples * answer / read_rate
    epochs = None if asked <= read or why_not else math.floor(asked / (asked - read) / members) + 1
    return Cache(examples * answer, asked, read * members, epochs, why_not)
