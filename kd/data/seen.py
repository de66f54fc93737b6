"""What a model sees of stored numbers: at which scale, and from where to where they reach."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from kd.errors import KdError

_OTHER_STORAGE = 0.5  # of the wider range: so far apart may ends lie where the storage differs
_SAME_STORAGE = 0.875  # where it does not: 0 to 1 and 0 to 8 are pictures in other units


@dataclasses.dataclass(frozen=True)
class Seen:
    """The inputs of a data set as a model sees them: ``stored * scale``, float32.

    `shape` is that of one example and `dtype` the type that is stored. `low` and `high` are the
    ends of the range that the model sees, None where they are not known before the data is read.
    `image`: examples are pictures, ``[h w]`` or ``[h w c]``, whose range says in which unit they
    are; the range of other features may differ between two halves of one data set. `ids`: they are
    identities, such as tokens, which a model sees as they are, int32; `tokenizer` is the
    fingerprint of what made them of text, "" where nobody knows.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    low: float | None = None
    high: float | None = None
    image: bool = False
    ids: bool = False
    tokenizer: str = ""

    @property
    def text(self) -> str:
        """One line, e.g. ``inputs [8 8], uint8 x 1/16: 0 to 1``."""
        shape = " ".join(map(str, self.shape))
        line = f"inputs [{shape}], {_stored(self)}: {_range(self)}"
        if not self.image or self.high is None or 0.1 <= self.high <= 20:
            return line
        return f"{line}; if pictures should have another range, set their scale (config.data.scale)"

    @property
    def unit(self) -> np.float32 | None:
        """What the stored numbers are multiplied by: see `kd.data.stored.prepare`."""
        return unit_of(self.scale, self.ids)

    def at(self, scale: float) -> Seen:
        """The same stored numbers, seen at another scale."""
        if scale == self.scale or self.low is None or self.high is None:
            return dataclasses.replace(self, scale=scale)
        ends = sorted(end / self.scale * scale for end in (self.low, self.high))
        return dataclasses.replace(self, scale=scale, low=ends[0], high=ends[1])


def unit_of(scale: float, ids: bool) -> np.float32 | None:
    """What stored numbers are multiplied by; None of identities."""
    return None if ids else np.float32(scale)


def from_record(record: Any, file: object = "run.json") -> Seen | None:
    """What `dataclasses.asdict` made of a `Seen`, read back from JSON; None of a run that has
    none.

    Raises:
      KdError: what is no such record.
    """
    if record is None:
        return None
    try:
        scale = float(record["scale"])
        if not 0 < abs(scale) < math.inf:
            raise ValueError(f"a scale of {scale}")
        ends = [None if record[end] is None else float(record[end]) for end in ("low", "high")]
        return Seen(
            tuple(map(int, record["shape"])),
            str(record["dtype"]),
            scale,
            *ends,
            image=bool(record["image"]),
            ids=bool(record.get("ids", False)),
            tokenizer=str(record.get("tokenizer", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise KdError(
            f"the inputs of {file} are damaged: {error!r}; restore that file, or train that run "
            "again"
        ) from error


def agree(this: Seen, other: Seen) -> bool:
    """Whether two data sets can be shown to one model: numbers in the same unit.

    Unsigned numbers at one scale are in one unit, and so are features that are no pictures. Else
    the ranges decide: each end of the one lies near that of the other.
    """
    if this.ids or other.ids:
        return this.ids == other.ids and not _other_tokenizer(this, other)
    same_scale = this.scale == other.scale
    kinds = {this.dtype.rstrip("0123456789"), other.dtype.rstrip("0123456789")}
    if same_scale and (kinds == {"uint"} or not (this.image or other.image)):
        return True
    same_storage = same_scale and len(kinds) == 1
    if this.low is None or this.high is None or other.low is None or other.high is None:
        return same_storage
    apart = max(abs(this.low - other.low), abs(this.high - other.high))
    span = max(this.high - this.low, other.high - other.low)
    return apart == 0 or apart < span * (_SAME_STORAGE if same_storage else _OTHER_STORAGE)


def scale_for(trained_on: Seen | None, data: Seen, who: str) -> float:
    """At which scale a model that was trained on other data sees the numbers that `data` stores.

    At that of `data`, if what is seen then agrees with what the model was trained on; else at the
    scale that the model was trained with.

    Raises:
      KdError: neither agrees, or both are tokens of different tokenizers.
    """
    if trained_on is None or agree(trained_on, data):
        return data.scale
    if agree(trained_on, data.at(trained_on.scale)):
        return trained_on.scale
    if _other_tokenizer(trained_on, data):
        raise KdError(
            f"{who} was trained on words of the tokenizer {trained_on.tokenizer}, and those of "
            f"this data are of {data.tokenizer}; read the text through the same tokenizer"
        )
    raise KdError(
        f"{who} was trained on {_stored(trained_on)}, {_range(trained_on)}, and this data is "
        f"{_stored(data)}, {_range(data)}; store it as that was, or set its scale"
    )


def _other_tokenizer(this: Seen, other: Seen) -> bool:
    """Whether both are tokens, and known to be of different tokenizers."""
    told = {this.tokenizer, other.tokenizer} - {""}
    return len(told) > 1


def check_alike(key: str, held_out: Seen, data: Seen) -> None:
    """Raise a `KdError` unless a model sees held-out examples in the unit of those that it is
    trained on.
    """
    if not agree(data, held_out):
        raise KdError(
            f"{key} is {_stored(held_out)}, {_range(held_out)}, and the examples to train on are "
            f"{_stored(data)}, {_range(data)}; store both alike"
        )


def _stored(seen: Seen) -> str:
    if seen.ids:
        return f"{seen.dtype} identities"
    if seen.scale == 1.0:
        return f"{seen.dtype} as stored"
    whole = round(1 / seen.scale) if 1e-9 < abs(seen.scale) <= 1 else 0
    exact = whole != 0 and abs(seen.scale * whole - 1) < 1e-9
    return f"{seen.dtype} x {f'1/{whole}' if exact else f'{seen.scale:g}'}"


def _range(seen: Seen) -> str:
    if seen.low is None or seen.high is None:
        return "a range that is not known before it is read"
    return f"{seen.low:g} to {seen.high:g}"
