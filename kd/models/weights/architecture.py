"""How a ``config.json`` of Hugging Face tells of a network: its fields, and how they are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kd.errors import KdError

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Described:
    """A network that a folder is of: its name in `kd.models.MODELS` and its options, the images
    ``[h w c]`` or, with `ids`, the texts ``[l 2]`` that it sees, its number of classes and the
    words for them.
    """

    model: str
    options: Mapping[str, Any]
    inputs: Shape
    classes: int
    class_names: tuple[str, ...] | None
    ids: bool = False


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of a ``config.json``, each as what it must be."""

    file: object
    told: Mapping[str, Any]

    def whole(self, key: str, most: int = 2**20) -> int:
        """A whole number from 1 to `most`, or a pair of one twice."""
        value = self.told.get(key)
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        if type(value) is not int or not 1 <= value <= most:
            raise self.wrong(key, f"a whole number from 1 to {most:,}")
        return value

    def wholes(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers of 1 or more."""
        value = self.told.get(key)
        if not isinstance(value, list) or not all(type(n) is int and n > 0 for n in value):
            raise self.wrong(key, "a list of whole numbers")
        return tuple(value)

    def number(self, key: str) -> float:
        """A finite number of 0 or more and below 1."""
        value = self.told.get(key)
        if type(value) not in (int, float) or not 0 <= value < 1:  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
            raise self.wrong(key, "a number from 0 to 1")
        return float(value)  # pyright: ignore[reportArgumentType]

    def chance(self, key: str, default: float) -> float:
        """A number of 0 or more and below 1, which decides nothing in evaluation."""
        return self.number(key) if key in self.told else default

    def must_say(self, *keys: str) -> None:
        """Raise a `KdError` for a field that decides a number and is not there."""
        for key in keys:
            if key not in self.told:
                raise KdError(
                    f"{self.file} does not say {key}, which decides what the network computes; get "
                    "it anew"
                )

    def switch(self, key: str, default: bool) -> bool:
        """Yes or no."""
        value = self.told.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def wrong(self, key: str, wanted: str) -> KdError:
        """What to raise over the field `key`."""
        value = self.told.get(key)
        return KdError(f"{self.file}: {key} must be {wanted}, got {value!r:.80}; get it anew")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How ``config.json`` tells of one class of Hugging Face.

    `told` are the options that the class itself says, `read` makes the others of the fields, and
    `write` fields of all options and of the shapes of the parameters. `fixed` are fields that
    change what is computed and can have these values alone. `texts`: it sees tokens, not images.
    `width` is the field that says how many numbers it answers with, where it has no classes.
    """

    model_type: str
    model: str
    told: Mapping[str, Any]
    fields: tuple[str, ...]
    read: Callable[[Fields], dict[str, Any]]
    write: Callable[[Mapping[str, Any], Mapping[str, Shape]], dict[str, Any]]
    fixed: Mapping[str, tuple[Any, ...]]
    texts: bool = False
    width: str | None = None
