"""Where a teacher comes from: one spelling with a scheme, read here and nowhere else."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal, cast

from kd.data import SOURCES
from kd.errors import KdError
from kd.system.paths import anywhere

Scheme = Literal["run", "hf", "weights", "table", "function"]
KNOWN = "run:DIR, hf:DIR, weights:FILE, table:FILE or package.module:function"
_PLACES = ("run", "hf", "weights", "table")
"""Schemes of a file or folder."""
_MODELS = ("run", "hf", "weights")
_TABLES = (".npz", ".npy", ".csv", ".tsv")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")
_LATER = ("store",)


@dataclasses.dataclass(frozen=True)
class Source:
    """A teacher's `scheme`, and its `place`: the folder of a run or of Hugging Face, the file of
    weights or of a table, or ``package.module:function``.
    """

    scheme: Scheme
    place: str

    @property
    def text(self) -> str:
        """As it is typed."""
        return self.place if self.scheme == "function" else f"{self.scheme}:{self.place}"

    @property
    def is_model(self) -> bool:
        """Whether it is a model that can be asked again, and not one answer for each example."""
        return self.scheme in _MODELS


def parse(text: str, key: str = "config.teacher.source") -> Source:
    """What ``run:DIR``, ``table:FILE`` and the others of `KNOWN` name; `key` said it.

    Raises:
      KdError: another scheme or none, or a path that this machine cannot have.
    """
    scheme, colon, place = text.partition(":")
    if scheme in _PLACES and place:
        return Source(cast("Scheme", scheme), str(anywhere(place, key)))
    if scheme in SOURCES and colon:
        raise KdError(f"{key}={text}: {scheme}: means data; a table of soft labels is table:FILE")
    if scheme in _LATER and colon:
        raise KdError(f"{key}={text}: no teacher comes from {scheme}: here; it is {KNOWN}")
    if _FUNCTION.fullmatch(text) and scheme not in _PLACES:
        return Source("function", text)
    if colon or not text:
        raise KdError(f"{key}={text} names no teacher; it is {KNOWN}")
    likely = "table" if text.lower().endswith(_TABLES) else "run"
    likely = "weights" if text.lower().endswith(".safetensors") else likely
    raise KdError(f"{key}={text} does not say what it is; did you mean {likely}:{text}?")
