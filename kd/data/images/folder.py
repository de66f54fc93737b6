"""Folders of images, plain or in an archive: ``split/class/file``."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kd.data.archive import Member, find_data, members
from kd.data.dataset import Dataset
from kd.data.held import decoded as decoded_once
from kd.data.held import in_memory
from kd.data.images.crops import Crop
from kd.data.images.pictures import ENDINGS, Kind, decoded, glance
from kd.data.slices import parse_split
from kd.data.stream import Stream
from kd.data.words import class_list, indices
from kd.errors import KdError, unknown
from kd.system.kept import key_of_files, remembered

_LARGEST = 2**28  # bytes of an image file
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev"}
_LAYOUT = "images lie in split/class/file.png, or .jpg, .webp, .bmp, .gif"


def folder(name: str, argument: str, data_dir: str | None) -> Dataset:
    """Images in folders, plain or in a .zip or .tar: ``folder:PATH`` holding
    ``split/class/file.png`` (or .jpg, .webp, .bmp, .gif).

    Class names are the folders' names in their order, the same in every split; a split with images
    and no folders is unlabelled. Examples stand in an order that mixes the classes, that of the
    hashes of their names, so that ``train[:10%]`` has some of each. Images are turned as their EXIF
    data says. A data set that is all grey has one channel, of 16 bits where the files have;
    otherwise three. What was decoded is kept on disk, see `kd.system.kept`. `PATH` lies in
    `data_dir`, else in ``KD_DATA_DIR``, else here.

    Raises:
      KdError: nothing there, no such split, an image that is damaged, transparent or animated,
        images of several sizes (``data.image_size`` brings them to one), or more than memory holds.
    """
    path = find_data(argument, data_dir)
    images = _open(path, name)
    try:
        return in_memory(_stream(images))
    except KdError:
        _check_sizes(images, path)  # of several, all are listed
        raise


def stream_folder(
    argument: str,
    split: str,
    data_dir: str | None = None,
    *,
    size: int | None = None,
    crop: Crop = "none",
    flip: bool = False,
) -> Stream:
    """The images of `folder`, read one by one; `split` may be a slice, ``train[:3%]``.

    Its fingerprint comes from names, sizes and, in a zip, checksums of the files; the images are
    not read for it.

    Raises:
      KdError: as `folder`, but images may have several sizes if `size` is given.
    """
    images = _open(find_data(argument, data_dir), parse_split(split)[0])
    return decoded_once(_stream(images, size, crop, flip)).take(split)


@dataclasses.dataclass(frozen=True, eq=False)
class _Images:
    """Random access to the images of a split. Any number of threads may read."""

    members: Sequence[Member]
    files: tuple[str, ...]
    called: tuple[str, ...]
    classes: np.ndarray | None
    class_names: tuple[str, ...]
    kind: Kind
    identity: str

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        member = self.members[index]
        image = {"image": decoded(member.read(), member.location, self.kind)}
        return image if self.classes is None else {**image, "label": self.classes[index]}

    def labels(self, rows: np.ndarray) -> np.ndarray:
        assert self.classes is not None
        return self.classes[rows]

    def names(self, rows: np.ndarray) -> np.ndarray:
        return np.array([self.called[row] for row in rows.tolist()], object)


def _stream(
    images: _Images, size: int | None = None, crop: Crop = "none", flip: bool = False
) -> Stream:
    largest = 65535 if images.kind == "deep grey" else 255
    return Stream(
        images,
        len(images.class_names),
        images.identity,
        1 / largest,
        size,
        crop,
        flip,
        labelled=images.classes is not None,
        record_shape=(None, None, 3 if images.kind == "colour" else 1),
        dtype=np.dtype(np.uint16 if images.kind == "deep grey" else np.uint8),
        class_names=images.class_names,
    )


def _open(path: pathlib.Path, split: str) -> _Images:
    listed = list(members(path, lambda parts: parts[-1].lower().endswith(ENDINGS), _LARGEST))
    if not listed:
        raise KdError(f"{path} holds no image; {_LAYOUT}")
    splits = _by_split(listed, path)
    if split not in splits:
        raise unknown(f"split of {path} ({_LAYOUT}):", split, splits)
    words = {name: [w for w, *_ in part] for name, part in splits.items() if part[0][0]}
    names = class_list(words, str(path)) if words else ()
    if not names:
        raise KdError(f"{path} has no folder of a class; {_LAYOUT}")
    chosen = splits[split]
    digest = hashlib.sha256()
    for word, _, member in chosen:
        line = f"{word} {member.name} {member.size} {member.checksum}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    kind = _common_kind(path, [member for part in splits.values() for *_, member in part])
    digest.update(f"{names} {kind}".encode("utf-8", "surrogateescape"))
    return _Images(
        [member for *_, member in chosen],
        _files(path, [member for *_, member in chosen]),
        tuple(file for _, file, _ in chosen),
        indices(words[split], names) if split in words else None,
        names,
        kind,
        digest.hexdigest()[:16],
    )


def _by_split(
    listed: Sequence[Member], path: pathlib.Path
) -> dict[str, list[tuple[str, str, Member]]]:
    """Each split's images with their class, or "", and their name below the folders that are
    around the splits, in the order of the hashes of these names.
    """
    levels = zip(*(_above(member) for member in listed), strict=False)
    top = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, levels)))
    splits: dict[str, list[tuple[bytes, str, str, Member]]] = {}
    for member in listed:
        parts = member.parts[top:]
        if len(parts) < 2:
            raise KdError(f"{member.location} lies in no split; {_LAYOUT}")
        file = "/".join(parts)
        key = hashlib.sha256(file.encode("utf-8", "surrogateescape")).digest()
        word = parts[1] if len(parts) > 2 else ""
        splits.setdefault(parts[0], []).append((key, word, file, member))
    for name, part in splits.items():
        labelled = {bool(word) for _, word, *_ in part}
        if len(labelled) > 1:
            raise KdError(f"{path}: some images of {name} lie in no folder of a class; {_LAYOUT}")
    return {
        name: [entry[1:] for entry in sorted(part, key=lambda entry: entry[0])]
        for name, part in splits.items()
    }


def _above(member: Member) -> tuple[str, ...]:
    """Folders that an archive may have around the splits."""
    folders = member.parts[:-1]
    ends = [place for place, part in enumerate(folders) if part.lower() in _SPLITS]
    return folders[: ends[0]] if ends else folders[:-2]


def _files(path: pathlib.Path, listed: Iterable[Member]) -> tuple[str, ...]:
    """The files that members are read from: the archive, or those of a folder."""
    return tuple(member.location for member in listed) if path.is_dir() else (str(path),)


def _common_kind(path: pathlib.Path, listed: Sequence[Member]) -> Kind:
    """That of all images. Where they are grey each was looked at, and that is kept."""
    first, _ = glance(listed[0].read(), listed[0].location)
    if first == "colour":
        return first
    key = key_of_files(_files(path, listed), "kind", [member.name for member in listed])
    stored = remembered("data", key, lambda: {"kind": np.array([_kind_of_all(listed)])})
    return stored["kind"].item()


def _kind_of_all(listed: Iterable[Member]) -> Kind:
    """Colour as soon as one has colours."""
    kinds: dict[Kind, str] = {}
    for member in listed:
        kind, _ = glance(member.read(), member.location)
        if kind == "colour":
            return kind
        kinds.setdefault(kind, member.location)
        if len(kinds) > 1:
            deep, plain = kinds["deep grey"], kinds["grey"]
            raise KdError(f"{deep} has 16 bits and {plain} 8; convert one of them")
    return next(iter(kinds))


def _check_sizes(images: _Images, path: pathlib.Path) -> None:
    sizes = Counter(glance(member.read(), member.location)[1] for member in images.members)
    if len(sizes) > 1:
        listed = [f"{height}x{width} ({n:,})" for (height, width), n in sizes.most_common(5)]
        more = ", ..." if len(sizes) > 5 else ""
        raise KdError(
            f"{path} has images of {len(sizes)} sizes, {', '.join(listed)}{more}; set "
            "data.image_size to bring them to one"
        )
