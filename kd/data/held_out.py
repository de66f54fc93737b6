"""Whether held-out examples are of the same kind as those that are trained on."""

from __future__ import annotations

from kd.data.examples import Examples
from kd.data.seen import check_alike
from kd.data.words import same_names
from kd.errors import KdError


def check_same_kind(
    what: str, held_out: Examples, of_training: str, data: Examples, fix: str
) -> None:
    """Raise a `KdError` unless both have the same shape, kind of labels, class names and unit, and
    the held-out examples no more classes. `what` and `of_training` are what the caller calls them.
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
    labelled = held_out.labelled and data.labelled
    if labelled and held_out.targets != data.targets:
        raise KdError(
            f"the labels of {what} are {held_out.targets} and those of {of_training} "
            f"{data.targets}; say which by targets (config.data.targets), or {fix}"
        )
    check_alike(what, held_out.seen, data.seen)
