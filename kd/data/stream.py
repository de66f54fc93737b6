"""A data set that is read example by example and never held in memory."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kd.core.types import Targets
from kd.data.dataset import Dataset
from kd.data.images.crops import Crop, viewed
from kd.data.order import Rows
from kd.data.seen import Seen, unit_of
from kd.data.slices import of_classes, take
from kd.data.stored import check_numeric, check_scale, check_seen, prepare
from kd.data.targets import NO_LABEL, has_label, judged
from kd.data.tokens.buckets import order_of
from kd.data.tokens.vocabulary import Tokens
from kd.data.weights import check_weights
from kd.errors import KdError, cause


@runtime_checkable
class Source(Protocol):
    """Random access to examples: ``source[i] -> {"image": [h w c], "label": int}``; no label if
    there are none.

    Optional: ``__getitems__(rows)`` reads several at once, ``labels(rows)`` reads labels ``[n]``
    and no image, ``block(rows)`` reads several as arrays: images ``[n h w c]``, and labels ``[n]``
    or None, ``names(rows)`` says what examples are called, ``[n]``: see `Dataset.names`,
    ``lengths(rows)`` how many tokens they have, ``[n]``. ``files``
    are all that it reads from: what is decoded of them may be kept. Several threads read at the
    same time.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """Examples that are read when they are needed. Where an example stands in the stream is its
    identity.

    `identity` says which data set `source` is; the model sees ``image * scale`` as float32. With
    `size` the images may have any size and are seen as ``[size size c]``: in evaluation, and in
    training with `crop` "none", the middle of them (see `kd.data.images.crops`); with `crop`
    "random" training sees random boxes, and with `flip` mirrors half of them. `rows` are the rows
    of the source that are the examples; None: all. `record_shape` is the shape of an image where
    the source knows it, with None for what differs from image to image, and `known` what is known
    of the inputs without reading them. `class_names` are the words for the classes. `weights`
    ``[n *p]`` are how much each example counts in training, 1 without them; with `partly_labelled`
    some labels are -1, and these examples have none. `teacher_inputs` are the same examples as a
    teacher sees them, stored in the same unit, such as images of another size, cropped and flipped
    alike; None: it sees what the student sees. `tokens` is what is known of inputs that are text.
    """

    source: Source = dataclasses.field(repr=False)
    num_classes: int
    identity: str
    scale: float = 1 / 255
    size: int | None = None
    crop: Crop = "none"
    flip: bool = False
    labelled: bool = True
    rows: np.ndarray | None = dataclasses.field(default=None, repr=False)
    record_shape: tuple[int | None, ...] | None = None
    dtype: np.dtype = np.dtype(np.uint8)
    class_names: tuple[str, ...] | None = None
    known: Seen | None = dataclasses.field(default=None, repr=False)
    ids: bool = False
    positions: tuple[int, ...] = ()
    weights: np.ndarray | None = dataclasses.field(default=None, repr=False)
    partly_labelled: bool = False
    teacher_inputs: Stream | None = dataclasses.field(default=None, repr=False)
    tokens: Tokens | None = None

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise KdError("the split is empty: 0 examples; choose another split")
        if self.size is not None and self.size < 1:
            raise KdError(f"data.image_size must be 1 or more, got {self.size}")
        if self.crop not in ("none", "random"):
            raise KdError(f"data.crop must be 'none' or 'random', got '{self.crop}'")

    def __len__(self) -> int:
        return len(self.source) if self.rows is None else len(self.rows)

    def order(self, seeds: Sequence[int], batch_size: int) -> Rows:
        """Which examples each member of a population sees at each step: see
        `kd.data.Dataset.order`.
        """
        return order_of(self, seeds, batch_size)

    @functools.cached_property
    def token_lengths(self) -> np.ndarray:
        """How many tokens each example has, ``[n]``, where the inputs are text."""
        source: Any = self.source
        return source.lengths(self._rows(range(len(self))))

    @property
    def taught(self) -> Stream:
        """The examples as a teacher sees them."""
        return self if self.teacher_inputs is None else self.teacher_inputs

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example as a model sees it; looks at the first record if the source does not
        say.
        """
        wanted = self.record_shape
        if wanted is None or None in (wanted if self.size is None else wanted[2:]):
            wanted = np.shape(self._records([0])[0]["image"])
        if self.size is None:
            return tuple(int(n or 0) for n in wanted)
        return (self.size, self.size, *(int(n or 0) for n in wanted[2:]))

    @property
    def first(self) -> np.ndarray:
        """Zeros in the shape of a batch of one, as the model sees it: ``[1 h w c]``.

        No image is decoded.
        """
        return prepare(np.zeros((1, *self.shape), self.dtype), self.unit)

    @property
    def seen(self) -> Seen:
        """What a model sees of these inputs; where nothing else is known, unsigned numbers reach
        as far as their type does.
        """
        if self.known is not None:
            return dataclasses.replace(self.known, shape=self.shape).at(self.scale)
        ends = (0.0, float(np.iinfo(self.dtype).max)) if self.dtype.kind == "u" else (None, None)
        return Seen(self.shape, str(self.dtype), 1.0, *ends, image=True).at(self.scale)

    def scaled(self, scale: float | None) -> Stream:
        """The same stored numbers, seen at another scale; None: as they are.

        Raises a `KdError` as `kd.data.Dataset.scaled` does.
        """
        if scale is None or scale == self.scale:
            return self
        check_numeric(self.ids, scale)
        scale = check_scale(scale)
        identity = hashlib.sha256(f"{self.identity} x {scale}".encode()).hexdigest()[:16]
        stream = dataclasses.replace(self, scale=scale, identity=identity)
        check_seen(stream.seen)
        return stream

    @property
    def unit(self) -> np.float32 | None:
        """What the stored numbers are multiplied by: see `kd.data.stored.prepare`."""
        return unit_of(self.scale, self.ids)

    @property
    def targets(self) -> Targets:
        """Streamed labels are classes."""
        return "classes"

    @functools.cached_property
    def has_label(self) -> np.ndarray:
        """Which examples have a label to be judged by, ``[n *p]``: see `kd.data.targets.judged`."""
        shape = (len(self), *self.positions)
        if self.partly_labelled or (self.positions and self.weights is not None):
            return judged(self.labels, self.weights, shape)
        return np.full(shape, self.labelled)

    @property
    def augmented(self) -> bool:
        """Whether training sees another image of an example in every epoch."""
        return self.crop == "random" or self.flip

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides what is read: the source, the rows, the size, crop and
        flip.

        A stream of all of a source, as it is, has the fingerprint of its source.
        """
        view = f"{self.size} {self.crop} {self.flip}"
        if self.teacher_inputs is not None:
            view = f"{view} teacher {self.teacher_inputs.fingerprint}"
        if self.rows is None and view == "None none False":
            return self.identity
        digest = hashlib.sha256(f"{self.identity} {view}".encode())
        if self.rows is not None:
            digest.update(self.rows.astype(np.int64).data)
        return digest.hexdigest()[:16]

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """Labels of all examples, ``[n]`` int32, or None; read once, and without decoding images
        where the source can.

        Raises:
          KdError: labels that cannot be read, or a label out of range.
        """
        if not self.labelled:
            return None
        if not hasattr(self.source, "labels"):
            return np.asarray(
                [self._label(self._records([i])[0], i) for i in range(len(self))], np.int32
            )
        try:
            read = self.source.labels  # pyright: ignore[reportAttributeAccessIssue]
            labels = np.asarray(read(self._rows(range(len(self)))), np.int32)
        except KdError:
            raise
        except Exception as error:
            raise KdError(
                f"cannot read the labels: {cause(error)}; prepare the data set again"
            ) from error
        self._check_labels(labels, range(len(self)))
        return labels

    @property
    def names(self) -> np.ndarray:
        """What each example is called, ``[n]``: see `kd.data.Dataset.names`."""
        rows = self._rows(range(len(self)))
        read = getattr(self.source, "names", None)
        return rows if read is None else read(rows)

    def weighed(self, weights: np.ndarray | None) -> Stream:
        """The same examples, which count so much in training: ``[n *p]``; None: 1 each."""
        if weights is None and self.weights is None:
            return self
        digest = hashlib.sha256(f"{self.identity} weights".encode())
        digest.update(b"" if weights is None else np.ascontiguousarray(weights).data)
        return dataclasses.replace(self, weights=weights, identity=digest.hexdigest()[:16])

    def take(self, split: str) -> Stream:
        """The slice that `split` names, e.g. ``train[:3%]``; nothing is read.

        Raises a `KdError` as `kd.data.take`.
        """
        return self._chosen(np.asarray(take(self._places(None), split).inputs))

    def of_classes(self, classes: Sequence[int]) -> Stream:
        """The examples of these labels; the number of classes stays.

        Raises a `KdError` as `kd.data.of_classes`.
        """
        return self._chosen(np.asarray(of_classes(self._places(self.labels), classes).inputs))

    def read(
        self, places: Sequence[int], draw: Sequence[np.random.Generator] | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The examples at these places: images ``[b h w c]`` in the source's type and labels
        ``[b]`` int32, or None.

        With `draw`, one stream of random numbers per example, images are cropped and flipped as in
        training.

        Raises:
          KdError: an example that cannot be read, has another shape than the first, or a label out
            of range.
        """
        images = np.empty((len(places), *self.shape), self.dtype)
        shape = (len(places), *self.positions)
        labels = np.empty(shape, np.int32) if self.labelled else None
        self.read_into(images, labels, places, draw)
        return images, labels

    def read_into(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        places: Sequence[int],
        draw: Sequence[np.random.Generator] | None = None,
    ) -> None:
        """`read` into arrays that are there already, such as parts of a batch; without `labels`
        none are written.
        """
        if hasattr(self.source, "block") and self.size is None and not self.augmented:
            self._read_block(images, labels, places)
            return
        size = None if self.size is None else (self.size, self.size)
        for k, record in enumerate(self._records(places)):
            rng = None if draw is None else draw[k]
            image = viewed(np.asarray(record["image"]), size, self.crop, self.flip, rng)
            if image.shape != self.shape or image.dtype != self.dtype:
                raise KdError(
                    f"image {places[k]} is {image.dtype}{list(image.shape)} and "
                    f"{self.dtype}{list(self.shape)} was "
                    "expected; set data.image_size to bring images to one size"
                )
            images[k] = image
            if labels is not None:
                labels[k] = self._label(record, places[k])

    def _read_block(
        self, images: np.ndarray, labels: np.ndarray | None, places: Sequence[int]
    ) -> None:
        """`read_into` from arrays: nothing is done example by example."""
        source: Any = self.source
        block, told = source.block(self._rows(places))
        if block.shape[1:] != self.shape or block.dtype != self.dtype:
            raise KdError(
                f"the source's images are {block.dtype}{list(block.shape[1:])} and "
                f"{self.dtype}{list(self.shape)} was expected; set data.image_size to bring images "
                "to one size"
            )
        images[:] = block
        if labels is not None:
            self._check_labels(told, places)
            labels[:] = told

    def _check_labels(self, labels: np.ndarray, places: Sequence[int]) -> None:
        """Raise a `KdError` for the first label that is out of range."""
        for at in np.argwhere((labels < self._lowest) | (labels >= self.num_classes))[:1]:
            self._label({"label": labels[tuple(at)]}, places[at[0]])

    def _label(self, record: Mapping[str, Any], place: int) -> int:
        label = int(record["label"])
        # e.g. -1 where a test set keeps its labels to itself
        if not self._lowest <= label < self.num_classes:
            raise KdError(
                f"label {label} of example {place} is out of range: there are {self.num_classes} "
                "classes"
            )
        return label

    @property
    def _lowest(self) -> int:
        """The lowest number among the labels."""
        return NO_LABEL if self.partly_labelled else 0

    def _places(self, labels: np.ndarray | None) -> Dataset:
        return Dataset(np.arange(len(self)), labels, self.num_classes)

    def _chosen(self, places: np.ndarray) -> Stream:
        if len(places) == len(self):
            return self
        shown = None if self.teacher_inputs is None else self.teacher_inputs._chosen(places)
        weights = None if self.weights is None else self.weights[places]
        if weights is not None:
            weights = check_weights(weights, weights.shape)
        told: dict[str, Any] = {"weights": weights, "teacher_inputs": shown}
        chosen = dataclasses.replace(self, rows=self._rows(places), **told)
        if not self.partly_labelled or chosen.labels is None:
            return chosen
        there = has_label(chosen.labels)
        return dataclasses.replace(
            chosen, labelled=bool(there.any()), partly_labelled=bool(there.any() > there.all())
        )

    def _rows(self, places: Any) -> np.ndarray:
        return np.asarray(places, np.int64) if self.rows is None else self.rows[np.asarray(places)]

    def _records(self, places: Sequence[int]) -> Sequence[Mapping[str, Any]]:
        rows = self._rows(places).tolist()
        several = getattr(self.source, "__getitems__", None)
        if several is None or len(rows) < 2:
            return [self._record(row, place) for row, place in zip(rows, places, strict=True)]
        try:
            return several(rows)
        except Exception as error:
            for row, place in zip(rows, places, strict=True):
                self._record(row, place)  # names the example that it fails for
            raise KdError(
                f"the source reads each of {len(rows)} examples alone, and not all at once: "
                f"{cause(error)}; mend its __getitems__, or leave that out"
            ) from error

    def _record(self, row: int, place: int) -> Mapping[str, Any]:
        try:
            return self.source[row]
        except KdError:
            raise
        except Exception as error:  # damaged bytes fail in the words of whoever decodes them
            what = f"example {place}, row {row} of the source"
            raise KdError(
                f"cannot read {what}: {cause(error)}; prepare the data set again"
            ) from error
