"""Whether held-out examples are of the same kind as those that are trained on."""

from __future__ import annotations

from kd.data.dataset import Dataset
from kd.data.seen import check_alike
from kd.data.stream import Stream
from kd.data.words import same_names
from kd.errors import KdError

Examples = Dataset | Stream


def check_same_kind(
    what: str, held_out: Examples, of_training: str, data: Examples, fix: str
) -> None:
    """Raise a `KdError` unless both have the same shape, class names and unit, and the held-out
    examples no more classes. `what` and `of_training` are what the caller calls them.
    """
    shapes = held_out.first.shape[1:], data.first.shape[1:]
    classes = held_out.num_classes, data.num_classes
    if shapes[0] != shapes[1] or classes[0] > classes[1]:
        raise KdError(
            f"{what} has inputs of shape {shapes[0]} and {classes[0]} classes, {of_training} "
            f"{shapes[1]} and {classes[1]}; {fix}"
        )
    if not same_names(held_out.class_names, data.class_names):
        raise KdError(
            f"{what} and {of_training} have different class names; give both the same classes"
        )
    check_alike(what, held_out.seen, data.seen)
