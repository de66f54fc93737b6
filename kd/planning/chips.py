"""TPU chips and the shapes they are rented in: one table, and the rules that say which topologies
exist.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re

from kd.errors import KdError, unknown

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can hold and do. Rates are peaks: what a program reaches is below.

    Units: `hbm` and `usable` bytes, `flops` bfloat16 operations per second, `hbm_rate` bytes per
    second, `ici_rate` bytes per second that a chip can send over all its links at once (half of the
    bidirectional figure), `dcn_rate` bytes per second between slices, a chip's share of its host's
    network cards, `clock` hertz (None where it is not public). `cores` are TensorCores,
    `devices` what JAX sees of a chip; `usable` is the part of the memory that the compiler gives to
    a program. None: unknown.

    Source: https://docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e, /tpu7x (system
    architecture). `dcn_rate`: the page of tpu7x has "data center network bandwidth per chip" of
    v5p, v6e and tpu7x; that of v5e has two cards of 100 Gbit/s for 8 chips; that of v4 says
    nothing.
    """

    name: str
    cores: int
    devices: int
    hbm: int | None
    usable: int | None
    flops: float | None
    hbm_rate: float | None
    ici_rate: float | None
    dcn_rate: float | None
    clock: float | None
    max_chips: int
    dimensions: int
    config: str | None = None
    """Name of the libtpu chip configuration, where the default is not the one in use: v4 joins its
    two cores into one device ("megacore"), as Cloud TPU does."""


def _chip(
    name: str,
    gib: float,
    usable: float,
    tflops: float,
    hbm: float,
    ici: float,
    dcn: float | None,
    **rest: object,
) -> Chip:
    return Chip(
        name,
        hbm=int(gib * _GIB),
        usable=int(usable * _GIB),
        flops=tflops * 1e12,
        hbm_rate=hbm * 1e9,
        ici_rate=ici / 2 * 1e9,
        dcn_rate=None if dcn is None else dcn / 8 * 1e9,
        **rest,  # pyright: ignore[reportArgumentType]
    )


# `usable` is what the compiler says is available when it refuses a program that is too large.
# Clocks are peak rate over multipliers (cores x 4 units x 128 x 128 x 2 operations). v4's
# interconnect: six links of 50 GB/s each way (Jouppi et al. 2023, "TPU v4"). v5p's largest job is
# 16x16x24 of the pod's 8,960 chips.
CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        _chip(
            "v4", 32, 30.75, 275, 1200, 600, None,
            cores=2, devices=1, clock=1.05e9, max_chips=4096, dimensions=3, config="megacore",
        ),
        _chip(
            "v5e", 16, 15.75, 197, 819, 400, 25,
            cores=1, devices=1, clock=1.5e9, max_chips=256, dimensions=2,
        ),
        _chip(
            "v5p", 95, 95, 459, 2765, 1200, 50,
            cores=2, devices=1, clock=1.75e9, max_chips=6144, dimensions=3,
        ),
        _chip(
            "v6e", 32, 31.25, 918, 1638, 800, 100,
            cores=1, devices=1, clock=None, max_chips=256, dimensions=2,
        ),
        _chip(
            "tpu7x", 192, 189.5, 2307, 7380, 1200, 100,
            cores=2, devices=2, clock=None, max_chips=9216, dimensions=3,
        ),
        Chip("cpu", 1, 1, None, None, None, None, None, None, None, 4096, 1),
    )
}  # fmt: skip
"""By name. ``cpu`` stands for fake devices: everything compiles and nothing is known of memory or
speed.
"""

MOST_SLICES = 1024
_FLAT = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_BELOW_A_CUBE = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))


@dataclasses.dataclass(frozen=True)
class Topology:
    """So many chips of one kind in this shape, which is a slice, or several such slices."""

    chip: Chip
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chips(self) -> int:
        """Number of chips, of all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        """Number of JAX devices."""
        return self.chips * self.chip.devices

    @property
    def host(self) -> tuple[int, int, int]:
        """Shape of what one host holds: 2x2 chips, the compiler's default, or one where there is
        but one.
        """
        sides = (*self.shape, 1, 1)
        return min(sides[0], 2), min(sides[1], 2), 1

    @property
    def slice(self) -> str:
        """The name of one slice, such as ``v5e:16x16``."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    def __str__(self) -> str:
        return self.slice if self.slices == 1 else f"{self.slices} slices of {self.slice}"


@functools.cache
def shapes(chip: Chip) -> tuple[tuple[int, ...], ...]:
    """Every shape that a slice of these chips can have, smallest first.

    Two dimensions: a list. Three: four shapes below a cube of 4x4x4, and then multiples of 4, A <=
    B <= C.

    Source: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (topologies),
    and the list that XPK generates by the same rule (AI-Hypercomputer/xpk,
    ``src/xpk/core/system_characteristics.py``).
    """
    if chip.dimensions == 1:
        return tuple((count,) for count in range(1, chip.max_chips + 1))
    if chip.dimensions == 2:
        return _FLAT
    cubes = chip.max_chips // 64
    cubic = [
        (4 * a, 4 * b, 4 * c)
        for a in range(1, int(cubes ** (1 / 3) + 1e-9) + 1)
        for b in range(a, int((cubes / a) ** 0.5 + 1e-9) + 1)
        for c in range(b, cubes // (a * b) + 1)
    ]
    return tuple(sorted((*_BELOW_A_CUBE, *cubic), key=lambda shape: (math.prod(shape), shape)))


def parse_topology(text: str, slices: int = 1) -> Topology:
    """So many slices of ``v5e:16x16``, ``v5p:4x4x4``, ``tpu7x:2x2x1``, or of ``cpu:8``, fake
    devices.

    Raises:
      KdError: no such chip, or a shape that these chips are not offered in; the nearest one that
        is, is named. No such number of slices.
    """
    if not 1 <= slices <= MOST_SLICES:
        raise KdError(f"--slices must be from 1 to {MOST_SLICES}, got {slices}")
    name, _, sizes = text.strip().lower().partition(":")
    if name not in CHIPS:
        raise unknown("chip", name, CHIPS)
    chip = CHIPS[name]
    example = Topology(chip, shapes(chip)[min(3, len(shapes(chip)) - 1)])
    if not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5})*", sizes):
        raise KdError(f"topology '{text}' has no shape; write it as {example}")
    shape = tuple(map(int, sizes.split("x")))
    if shape not in shapes(chip):
        nearest = Topology(chip, min(shapes(chip), key=lambda known: _distance(shape, known)))
        limit = (
            f", which has {chip.max_chips} chips at most"
            if math.prod(shape) > chip.max_chips
            else ""
        )
        raise KdError(f"there is no topology '{text}' of {name}{limit}; the nearest is {nearest}")
    return Topology(chip, shape, slices)


def _distance(wanted: tuple[int, ...], known: tuple[int, ...]) -> tuple[bool, float, float]:
    """The same dimensions in another order first; then the number of chips, in octaves; then the
    shape.
    """
    count = abs(math.log(math.prod(wanted) / math.prod(known)))
    ones = (1,) * abs(len(wanted) - len(known))
    asked, other = (
        sorted(wanted + ones * (len(wanted) < len(known))),
        sorted(known + ones * (len(known) < len(wanted))),
    )
    return (
        asked != other,
        round(count, 9),
        sum(abs(math.log(a / b)) for a, b in zip(asked, other, strict=True)),
    )
