"""Where a run comes from: its data, its teacher, its first weights, its code, what ran it.

It is recorded once, when the run begins, and nobody who reads the run changes it; a run that is
made longer adds what it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

_LIBRARIES = ("jax", "flax", "optax", "numpy")
_DESPITE = "-despite-"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Trained weights that a run learned from, or began with.

    `source` says where they came from (``run:DIR``), `fingerprint` which run they are, `digest` is
    a hash of the arrays themselves. `changes` lists what had changed since that run was recorded,
    where it was used despite that.
    """

    source: str
    fingerprint: str
    digest: str
    licence: str = "own"
    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What they are called elsewhere, where a folder of the machine that trained says
        nothing: its last part.
        """
        scheme, colon, place = self.source.partition(":")
        return f"{scheme}{colon}{place.rstrip('/').rpartition('/')[2]}"


@dataclasses.dataclass(frozen=True)
class FirstWeights(Weights):
    """`Weights` that a run began with: the names of the arrays that it took, and of those that it
    drew itself. `layers` are the blocks that its own began with, where it chose some.
    """

    copied: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Shorter:
    """What a run was before it was made longer: its fingerprint, and how many steps it had."""

    fingerprint: str
    steps: int


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Data that a run has seen.

    `source` is the name of the data set, `place` the folder it was read from ("": the source's
    own). `train` is the fingerprint of the examples that were trained on, `splits` that of every
    split as it is read for an evaluation.
    """

    source: str
    place: str
    train: str
    splits: Mapping[str, str]
    licence: str = "own"


@dataclasses.dataclass(frozen=True)
class Lineage:
    """Everything that a run rests on.

    `code` maps the modules of the user's own to the hash of what they say, `stack` Python, the
    libraries and the backend to their versions. `teacher` is None where labels alone taught, `init`
    where the first weights were drawn from the seed; `teachers` are several that taught as one.
    `before` are the shorter runs that this one was, oldest first.
    """

    data: tuple[DataSet, ...]
    code: Mapping[str, str]
    stack: Mapping[str, str]
    teacher: Weights | None = None
    init: FirstWeights | None = None
    before: tuple[Shorter, ...] = ()
    teachers: tuple[Weights, ...] = ()

    @property
    def taught_by(self) -> tuple[Weights, ...]:
        """All that taught, one or several."""
        return self.teachers if self.teacher is None else (self.teacher,)

    def to_json(self) -> dict[str, Any]:
        """As dictionaries and lists, for a JSON file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, told: Any) -> Lineage:
        """What `to_json` wrote. Raises a `ValueError` where it is anything else."""
        try:
            return cls(
                data=tuple(
                    DataSet(**{**part, "splits": _texts(part["splits"])}) for part in told["data"]
                ),
                code=_texts(told["code"]),
                stack=_texts(told["stack"]),
                teacher=_weights(told["teacher"]),
                init=_first(told["init"]),
                before=tuple(Shorter(**part) for part in told.get("before", ())),
                teachers=tuple(filter(None, map(_weights, told.get("teachers", ())))),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"its lineage is not one: {error}") from error

    @property
    def splits(self) -> dict[str, str]:
        """The fingerprint of every split that was looked at, of all data sets."""
        return {name: seen for data in self.data for name, seen in data.splits.items()}


def stack(backend: str) -> dict[str, str]:
    """The versions of Python and the libraries that decide what is computed, and the backend."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), **versions, "backend": backend}


def despite(fingerprint: str, changes: Sequence[str]) -> str:
    """What a run is called where it is read although it has changed: its name, and a hash of the
    changes.
    """
    if not changes:
        return fingerprint
    return f"{fingerprint}{_DESPITE}{hashlib.sha256(repr([*changes]).encode()).hexdigest()[:8]}"


def recorded(fingerprint: str) -> str:
    """The fingerprint that the run of `despite` was recorded under."""
    return fingerprint.partition(_DESPITE)[0]


def _weights(told: Any) -> Weights | None:
    return None if told is None else Weights(**{**told, "changes": tuple(told["changes"])})


def _first(told: Any) -> FirstWeights | None:
    if told is None:
        return None
    lists = {name: tuple(told[name]) for name in ("changes", "copied", "fresh")}
    lists["layers"] = tuple(told.get("layers", ()))
    return FirstWeights(**{**told, **lists})


def _texts(told: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in told.items()}
