"""What section 5 reads: what an earlier stage makes of sentences or of images, or what its runs
name themselves.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.hinton2015.specialists import images as pictures
from experiments.hinton2015.specialists import protocol as first
from experiments.hinton2015.specialists import text as sentences
from experiments.hinton2015.specialists.protocol import File
from kd.config import build
from kd.data import parse_split
from kd.errors import KdError
from kd.runs import Computation

_HERE = "experiments.hinton2015.specialists"
MADE = "features"
"""The name of the stage that makes the examples, by which others find its folder."""


@dataclasses.dataclass(frozen=True)
class Images:
    """Images in folders, `size` pixels a side."""

    data: File
    size: int = 32


@dataclasses.dataclass(frozen=True)
class Protocol(first.Protocol):
    """The config of section 5, of which `images` may stand in the place of `text`: then an earlier
    stage decodes them once, and the runs read ``npz:images.npz``.
    """

    images: Mapping[str, Any] | None = None

    @functools.cached_property
    def pictures(self) -> Images | None:
        """`images`, typed. Raises a `KdError` where it is not well-formed."""
        return None if self.images is None else build(Images, self.images, "config.images")


def made(protocol: Protocol) -> list[Computation]:
    """The stage that makes the examples; none where the runs name their own source.

    Raises:
      KdError: sentences and images at once, or data that is not there.
    """
    if protocol.sentences is not None and protocol.pictures is not None:
        raise KdError("config.text and config.images are both examples; leave one of them out")
    if protocol.sentences is not None:
        return [_of_sentences(protocol.sentences)]
    if protocol.pictures is not None:
        return [_of_images(protocol.pictures, _splits(protocol))]
    return []


def needs(protocol: Protocol) -> tuple[str, ...]:
    """The stage whose folder the examples lie in, where there is one."""
    return (MADE,) if protocol.text is not None or protocol.images is not None else ()


def source(protocol: Protocol) -> str:
    """What the examples are made of: the name of the archive, or the source of the runs."""
    for told in (protocol.sentences, protocol.pictures):
        if told is not None:
            return pathlib.PurePath(told.data.source.rpartition(":")[2]).name
    return protocol.generalist["data"]["source"]


def _of_sentences(text: first.Text) -> Computation:
    source, data_dir = text.data.source, text.data.data_dir
    return Computation(
        MADE,
        f"{_HERE}.text:features",
        {
            "source": source,
            "width": text.features,
            "words": text.words,
            "checksum": sentences.checksum(source, data_dir),
        },
        places={"data_dir": data_dir},
    )


def _of_images(images: Images, splits: list[str]) -> Computation:
    source, data_dir = images.data.source, images.data.data_dir
    return Computation(
        MADE,
        f"{_HERE}.images:features",
        {
            "source": source,
            "splits": splits,
            "size": images.size,
            "checksum": pictures.checksum(source, splits, images.size, data_dir),
        },
        places={"data_dir": data_dir},
    )


def _splits(protocol: Protocol) -> list[str]:
    """The whole splits that the runs, the clusters and the page look at parts of."""
    data = protocol.generalist["data"]
    parts = (data["train"], data["eval"], protocol.clustering.split, protocol.split)
    return sorted({parse_split(part)[0] for part in parts})
