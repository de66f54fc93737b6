"""An in-memory data set: arrays with an identity per example."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kd.core.types import Targets
from kd.data.order import Rows
from kd.data.seen import Seen, unit_of
from kd.data.stored import (
    as_array,
    check_ids,
    check_numbers,
    check_numeric,
    check_scale,
    check_seen,
    default_scale,
    is_image,
    prepare,
)
from kd.data.targets import check_labels, check_targets, has_label, judged
from kd.data.tokens.buckets import order_of
from kd.data.tokens.encode import lengths_of
from kd.data.tokens.vocabulary import Tokens
from kd.data.weights import check_weights
from kd.data.windows import Windows, windows
from kd.errors import KdError
from kd.placement.mesh import is_whole


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and labels. An example's row is its identity (``batch["index"]``).

    Shapes: ``inputs[n ...]`` in any numeric type, ``labels`` as `targets` says (int32 ``[n]`` of
    classes, -1 for an example that has none; float32 ``[n]`` or ``[n v]`` of all else, NaN for an
    example that has none) or None, ``weights[n]`` float32 or None; the model sees
    ``inputs * scale`` as float32 (`kd.data.prepare`), so images may stay bytes in memory, and
    whole numbers that are no images keep their value; where they are `ids`, such as tokens, it sees
    them as they are, int32. The inputs may be `Windows` of frames. With `positions` there is an
    answer for each of them, ``labels[n *p]`` and ``weights[n *p]``, such as one per token.
    `class_names` are the words for the classes, where the source has some, and `named` the `names`
    of the examples, where those are not 0, 1, ... `num_classes` is the number of outputs that the
    labels ask for. `teacher_inputs` are the same examples as a teacher sees them, such as images of
    another size; None: it sees what the student sees. `tokens` is what is known of inputs that are
    text.
    """

    inputs: np.ndarray | Windows = dataclasses.field(repr=False)
    labels: np.ndarray | None = dataclasses.field(repr=False)
    num_classes: int
    scale: float = 1.0
    class_names: tuple[str, ...] | None = None
    named: np.ndarray | None = dataclasses.field(default=None, repr=False)
    targets: Targets = "classes"
    weights: np.ndarray | None = dataclasses.field(default=None, repr=False)
    ids: bool = False
    positions: tuple[int, ...] = ()
    teacher_inputs: Dataset | None = dataclasses.field(default=None, repr=False)
    tokens: Tokens | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def taught(self) -> Dataset:
        """The examples as a teacher sees them."""
        return self if self.teacher_inputs is None else self.teacher_inputs

    @property
    def names(self) -> np.ndarray:
        """What each example is called, ``[n]``: its file as text where it has one,
        ``split/class/file``, else the number of its row in the split that it is from.
        """
        return np.arange(len(self)) if self.named is None else self.named

    def order(self, seeds: Sequence[int], batch_size: int) -> Rows:
        """Which examples each member of a population sees at each step, an `Order`; of text whose
        batches have several lengths `kd.data.tokens.buckets.Buckets`.
        """
        return order_of(self, seeds, batch_size)

    @functools.cached_property
    def token_lengths(self) -> np.ndarray:
        """How many tokens each example has, ``[n]``, where the inputs are text."""
        return lengths_of(self.inputs)

    def member(self, i: int) -> Dataset:
        """The data of member `i` of a population alone."""
        del i
        return self

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.labels is not None

    @functools.cached_property
    def has_label(self) -> np.ndarray:
        """Which examples have a label to be judged by, ``[n *p]``: see `kd.data.targets.judged`."""
        return judged(self.labels, self.weights, (len(self), *self.positions))

    @property
    def partly_labelled(self) -> bool:
        """Whether some examples have a label and others none."""
        return self.labels is not None and not has_label(self.labels).all()

    @property
    def dtype(self) -> np.dtype:
        """Type in which the inputs are stored."""
        return self.inputs.dtype

    @property
    def unit(self) -> np.float32 | None:
        """What the stored numbers are multiplied by: see `kd.data.stored.prepare`."""
        return unit_of(self.scale, self.ids)

    @property
    def first(self) -> np.ndarray:
        """The first example as the model sees it, in a batch of one: ``[1 ...]``."""
        return prepare(self.inputs[:1], self.unit)

    @functools.cached_property
    def seen(self) -> Seen:
        """What a model sees of these inputs: shape of one example, stored type, scale and range."""
        windowed = isinstance(self.inputs, Windows)
        stored = self.inputs.frames if isinstance(self.inputs, Windows) else self.inputs
        low, high, shape = float(stored.min()), float(stored.max()), self.inputs.shape[1:]
        image = is_image(shape) and not windowed and not self.ids
        told = "" if self.tokens is None else self.tokens.vocabulary.fingerprint
        return Seen(shape, str(self.dtype), 1.0, low, high, image, self.ids, told).at(self.scale)

    def scaled(self, scale: float | None) -> Dataset:
        """The same stored numbers, seen at another scale; None: as they are.

        Raises:
          KdError: a scale that float32 cannot multiply these numbers by.
        """
        if scale is None or scale == self.scale:
            return self
        check_numeric(self.ids, scale)
        data = dataclasses.replace(self, scale=check_scale(scale))
        check_seen(data.seen)
        return data

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of every byte: two data sets with the same fingerprint are the same data set."""
        windowed = self.inputs if isinstance(self.inputs, Windows) else None
        stored = self.inputs if windowed is None else windowed.frames
        digest = hashlib.sha256(
            f"{stored.shape} {stored.dtype} {self.num_classes} {self.scale}".encode()
        )
        digest.update(np.ascontiguousarray(stored).data)
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels).data)
        if windowed is not None:
            digest.update(f"{windowed.width}".encode() + np.ascontiguousarray(windowed.starts).data)
        if self.class_names is not None:
            digest.update(repr(self.class_names).encode("utf-8", "surrogateescape"))
        if self.targets != "classes":
            shape = None if self.labels is None else self.labels.shape
            digest.update(f"{self.targets} {shape}".encode())
        if self.weights is not None:
            digest.update(b"weights" + np.ascontiguousarray(self.weights).data)
        if self.ids or self.positions:
            digest.update(f"ids {self.ids} positions {self.positions}".encode())
        if self.teacher_inputs is not None:
            digest.update(f"teacher {self.teacher_inputs.fingerprint}".encode())
        if self.tokens is not None:
            told = (self.tokens.vocabulary.fingerprint, self.tokens.packed, self.tokens.words)
            digest.update(f"tokens {told}".encode())
        return digest.hexdigest()[:16]


def arrays(
    inputs: np.ndarray,
    labels: np.ndarray | Sequence[Any] | None = None,
    *,
    num_classes: int | None = None,
    scale: float | None = None,
    starts: np.ndarray | None = None,
    window: int = 0,
    class_names: Sequence[str] | None = None,
    targets: Targets | None = None,
    weights: np.ndarray | Sequence[float] | None = None,
    ids: bool = False,
    positions: Sequence[int] = (),
    teacher_inputs: np.ndarray | Dataset | None = None,
) -> Dataset:
    """A data set from NumPy arrays; without labels, a transfer set for soft targets alone.

    `labels` are classes ``[n]``; or yes and no, 0 and 1, of one output ``[n]`` or several
    ``[n v]``; or numbers ``[n]`` or ``[n v]``. `targets` says which of these ("classes", "binary",
    "numbers"); without it whole numbers ``[n]`` are classes, and other labels "binary" where all
    lie in [0, 1]. An example without a label has -1 for a class, NaN for numbers, or None.
    `weights` ``[n]`` are how much each example counts in training, 1 without them; 0 is ignored.

    With ``ids=True`` inputs are identities, such as tokens, and not numbers. Of a model that
    answers for each of several `positions` of an example, such as ``(length,)``, labels are classes
    ``[n *p]`` and weights ``[n *p]``: 0 is padding.

    `num_classes` is the number of outputs. Of classes it defaults to the number of `class_names`,
    else to the largest label plus one. The model sees ``inputs * scale``; without a `scale`, images
    of unsigned numbers, ``[n h w]`` or ``[n h w c]`` with 1, 3 or 4 channels, are divided by the
    largest number of their type, bytes by 255, and all else stays as it is. `starts` and `window`
    make a windowed data set, see `Windows`. `teacher_inputs` ``[n ...]`` are what a teacher sees in
    the place of `inputs`, such as the same images at another size; a data set where they have a
    scale of their own.

    Raises:
      KdError: no examples, lengths that differ, inputs that are not finite numbers or that float32
        cannot tell apart, masked values, no classes, labels that are not of their kind, weights
        that are negative, not finite or all 0, windows that reach beyond the inputs.
    """
    if not isinstance(ids, (bool, np.bool_)):
        raise KdError(f"ids says whether inputs are identities, True or False, got {ids!r:.80}")
    stored = _checked(as_array("inputs", inputs), ids, scale)
    names, outputs = _outputs(class_names, num_classes)
    unit = scale
    if scale is None:
        unit = 1.0 if ids or starts is not None else default_scale(stored)
    data = Dataset(
        _windowed(stored, starts, window),
        None,
        outputs or 1,
        check_scale(unit),
        names,
        ids=ids,
        positions=_positions(positions),
    )
    check_seen(data.seen)
    if teacher_inputs is not None:
        data = beside(data, teacher_inputs, scale)
    return _labelled(data, labels, outputs, targets, weights)


def beside(data: Dataset, teacher_inputs: Any, scale: float | None = None) -> Dataset:
    """The examples of `data`, which a teacher sees as `teacher_inputs`: an array, whose numbers it
    sees times `scale`, or a data set.

    Raises:
      KdError: another number of examples, and all that `arrays` refuses.
    """
    shown = teacher_inputs
    if not isinstance(shown, Dataset):
        shown = arrays(shown, num_classes=1, scale=scale)
    if len(shown) != len(data):
        raise KdError(
            f"teacher_inputs are {len(shown)} examples and the data has {len(data)}; show the "
            "teacher each of them"
        )
    return dataclasses.replace(data, teacher_inputs=shown)


def _checked(inputs: np.ndarray, ids: bool, scale: float | None) -> np.ndarray:
    """The inputs. Raises a `KdError` where they are none, or not of the kind that `ids` says."""
    if inputs.ndim == 0:
        raise KdError(
            "inputs must be an array with one row per example, got a single value; pass [n ...]"
        )
    if len(inputs) == 0:
        raise KdError("the split is empty: 0 examples; choose another split or widen its slice")
    if inputs.size == 0:
        raise KdError(f"inputs of shape {inputs.shape} hold no numbers; pass [n ...]")
    check_numbers(inputs, precise=not ids)
    if ids:
        check_ids(inputs)
    if scale is not None:
        check_numeric(ids, scale)
    return inputs


def _outputs(
    class_names: Sequence[str] | None, num_classes: int | None
) -> tuple[tuple[str, ...] | None, int | None]:
    """The names of the classes, and how many outputs the caller or the names say there are."""
    if num_classes is not None and not (is_whole(num_classes) and 1 <= num_classes < 2**31):
        raise KdError(
            f"num_classes must be 1 or more, got {num_classes!r}; pass how many classes there are"
        )
    if class_names is None:
        return None, num_classes
    names = tuple(class_names) if isinstance(class_names, Iterable) else (class_names,)
    if not all(isinstance(name, str) for name in names):
        raise KdError(f"class_names must be words, one for each class, got {class_names!r:.80}")
    outputs = len(names) if num_classes is None else num_classes
    _check_names(names, outputs)
    return names, outputs


def _labelled(
    data: Dataset, labels: Any, outputs: int | None, targets: Targets | None, weights: Any
) -> Dataset:
    """The data set with labels, their kind, and weights."""
    shape = (len(data), *data.positions)
    if weights is not None:
        data = dataclasses.replace(data, weights=check_weights(weights, shape))
    if labels is not None:
        labels, outputs, targets = check_labels(labels, shape, outputs, targets)
    elif outputs is None:
        raise KdError("without labels num_classes cannot be counted; pass num_classes")
    check_targets(targets)
    told: Targets = "classes" if targets is None else targets
    return dataclasses.replace(data, labels=labels, num_classes=outputs, targets=told)


def _check_names(names: tuple[str, ...], num_classes: int) -> None:
    if len(set(names)) != num_classes or len(names) != num_classes:
        raise KdError(
            f"class_names must be {num_classes} different words, one for each class, got "
            f"{len(names)}, {len(set(names))} of them different"
        )


def _windowed(inputs: np.ndarray, starts: np.ndarray | None, window: int) -> np.ndarray | Windows:
    if starts is not None:
        return windows(inputs, starts, window)
    if window:
        raise KdError(
            "a window without starts has no examples; pass starts, the first frame of each"
        )
    return inputs


def _positions(positions: Any) -> tuple[int, ...]:
    if isinstance(positions, Sequence) and all(is_whole(n) and n >= 1 for n in positions):
        return tuple(map(int, positions))
    raise KdError(
        f"positions must be the shape of an example's answers, got {positions!r}; e.g. (length,)"
    )
