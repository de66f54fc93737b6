"""Labels as words: class names in their order, and the index of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from kd.data.targets import NO_LABEL
from kd.errors import KdError


def class_list(words: Mapping[str, Iterable[str]], what: str) -> tuple[str, ...]:
    """The sorted class names of a source: those of its split ``train``, else of all splits.

    `words` are the labels of each split. One list for all splits keeps an index the same class in
    each of them. An empty word is no label.

    Raises:
      KdError: a split has a class that ``train`` has not.
    """
    classes = {split: set(names) - {""} for split, names in words.items()}
    known = classes.get("train") or set().union(*classes.values())
    for split, names in classes.items():
        unknown = sorted(names - known)
        if unknown:
            raise KdError(
                f"{what}: {split} has class '{unknown[0]}', which train has not; the classes of "
                "both must agree"
            )
    return tuple(sorted(known))


def indices(words: Iterable[str], names: tuple[str, ...]) -> np.ndarray:
    """Where each word stands among the class names, -1 for an empty one: ``[n]`` int32."""
    places = {"": NO_LABEL, **{name: place for place, name in enumerate(names)}}
    return np.asarray([places[word] for word in words], np.int32)


def same_names(these: tuple[str, ...] | None, other: tuple[str, ...] | None) -> bool:
    """Whether two lists of class names agree; a data set without names agrees with every other."""
    return these is None or other is None or these == other
