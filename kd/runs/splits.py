"""The examples of a config: to train on, to evaluate on, to stop early by."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from kd import data as kd_data
from kd import evals
from kd.config import Spec
from kd.data import check_same_kind
from kd.data.examples import Examples, judged_as
from kd.data.slices import parse_split, split_rows
from kd.errors import KdError
from kd.system import words

_TO_LOOK_AT = ("val", "dev")


def load_splits(spec: Spec) -> tuple[Examples, Examples, Examples | None]:
    """The examples to train on, those to evaluate on, and those that early stopping looks at.

    Raises:
      KdError: a split that is not there, without the classes or labels asked for, or of another
        kind than the others.
    """
    data = shown(spec, open_split(spec, spec.data.train, training=True))
    data = with_teacher_inputs(spec, data, spec.data.train, spec.teacher.image_size, training=True)
    held_out = open_split(spec, spec.data.eval)
    validation = None if spec.early_stopping is None else open_split(spec, spec.early_stopping)
    if spec.data.examples not in (None, len(data)):
        raise KdError(
            f"config.data.examples declares {spec.data.examples} and {spec.data.train} has "
            f"{len(data)}; mend it"
        )
    _check_held_out("data.eval", held_out, data)
    if validation is not None:
        _check_apart(spec)
        _check_held_out("early_stopping", validation, data)
        if not validation.labelled:
            raise KdError(
                f"early stopping counts errors and '{spec.early_stopping}' has no labels; name "
                "another split"
            )
        watched(spec, validation)  # refused now, and not after an epoch
    return data, held_out, validation


def with_teacher_inputs(
    spec: Spec,
    data: Examples,
    split: str,
    image_size: int | str | None,
    data_dir: str | None = None,
    *,
    training: bool = False,
) -> Examples:
    """The examples of `split`, `data`, which a teacher sees as images of `image_size` pixels, or
    "native" as they are stored; where that is None, or the student's own, as the student does.

    Raises a `KdError` as `open_split` does.
    """
    if image_size in (None, spec.data.image_size):
        return data
    size = image_size if isinstance(image_size, int) else None
    seen = dataclasses.replace(spec.data, image_size=size, class_weights=None)
    spec = dataclasses.replace(spec, data=seen)
    other: Any = open_split(spec, split, data_dir, training=training)
    return dataclasses.replace(data, teacher_inputs=shown(spec, other) if training else other)


def watched(spec: Spec, validation: Examples) -> str:
    """The metric by which early stopping judges a run."""
    return evals.watch_of(spec.watch, judged_as(validation), validation.num_classes)


def split_fingerprints(
    spec: Spec, data: Examples, held_out: Examples, validation: Examples | None
) -> dict[str, str]:
    """The fingerprint of every split that a run looks at, as it is read for an evaluation.

    The examples are those of `load_splits`.
    """
    chosen = spec.data.classes is not None or spec.data.class_weights is not None
    chosen = chosen or spec.teacher.image_size is not None or bool(spec.data.text.masked)
    as_it_is = not chosen and spec.data.crop == "none" and not spec.data.flip
    splits = {spec.data.train: data if as_it_is else open_split(spec, spec.data.train)}
    splits[spec.data.eval] = held_out
    if validation is not None and spec.early_stopping is not None:
        splits[spec.early_stopping] = validation
    return {name: examples.fingerprint for name, examples in splits.items()}


def shown(spec: Spec, data: Examples) -> Examples:
    """Those of a training split's examples that a run is trained on: of `data.classes` alone where
    it names some, weighed by `data.class_weights`.
    """
    if spec.data.classes is not None:
        data = _of_classes(spec, data, spec.data.classes)
    if spec.data.class_weights is None:
        return data
    weighed = kd_data.weigh_classes(data, spec.data.class_weights)
    if weighed.fingerprint == data.fingerprint:
        raise KdError(
            "config.data.class_weights changes nothing: all classes weigh 1; leave it out"
        )
    return weighed


def _of_classes(spec: Spec, data: Examples, classes: Sequence[int]) -> Examples:
    chosen = (
        data.of_classes(classes)
        if isinstance(data, kd_data.Stream)
        else kd_data.of_classes(data, classes)
    )
    if len(chosen) == len(data):
        raise KdError(
            f"config.data.classes={classes} changes nothing: {spec.data.train} holds no other "
            "class; leave it out"
        )
    return chosen


def open_split(
    spec: Spec, split: str, data_dir: str | None = None, *, training: bool = False
) -> Examples:
    """A split of a config's data, in memory or streamed; random crops and flips are for `training`
    alone.
    """
    data, folder = spec.data, data_dir or spec.data.data_dir
    words.say(f"reading {data.source}")
    if data.text.tokenizer is not None:
        return _text(spec, split, folder, training=training)
    if not data.stream and data.image_size is None:
        return kd_data.load(data.source, split, folder, data.scale, data.targets)
    crop, flip = (data.crop, data.flip) if training else ("none", False)
    if data.targets not in (None, "classes"):
        raise KdError(
            f"config.data.targets={data.targets} is of tables and arrays in memory; leave "
            "config.data.stream and config.data.image_size out"
        )
    stream = kd_data.open_stream(
        data.source,
        split,
        folder,
        size=data.image_size,
        crop=crop,
        flip=flip,
        scale=data.scale,
    )
    return stream if data.stream else kd_data.in_memory(stream)


def _text(spec: Spec, split: str, folder: str | None, *, training: bool) -> Examples:
    """A split of text; what a masked language model is measured on has its words hidden once."""
    data, text = spec.data, spec.data.text
    if data.image_size is not None:
        raise KdError("config.data.image_size is of images, and the data is text; leave it out")
    read = kd_data.load(data.source, split, folder, data.scale, data.targets, text)
    if text.masked and not training:
        read = kd_data.hidden(read, kd_data.masking(read, text.masked, text.rare))
    return kd_data.as_stream(read) if data.stream else read


def _check_apart(spec: Spec) -> None:
    """Raise a `KdError` where early stopping looks at examples that the run is measured or trained
    on.

    Two splits may be spelled differently and share examples: what counts are their rows. A split
    that is called validation may be measured too: its numbers are no test's.
    """
    _check_disjoint(spec, spec.data.train, "trained on")
    if not (spec.early_stopping or "").startswith(_TO_LOOK_AT):
        _check_disjoint(spec, spec.data.eval, "measured on")


def _check_disjoint(spec: Spec, other: str, use: str) -> None:
    splits = spec.early_stopping or "", other
    names = [parse_split(split)[0] for split in splits]
    if names[0] != names[1]:
        return
    examples = len(open_split(spec, names[0]))
    ours, theirs = (split_rows(split, examples) for split in splits)
    shared = min(ours.stop, theirs.stop) - max(ours.start, theirs.start)
    if shared > 0:
        raise KdError(
            f"config.early_stopping '{splits[0]}' would choose the state by {shared} examples that "
            f"it is {use}, those of '{other}'; name a split of its own, e.g. train on "
            "'train[:90%]' and stop by 'train[90%:]'"
        )


def _check_held_out(key: str, held_out: Examples, data: Examples) -> None:
    fix = "evaluate on a split of the same kind"
    check_same_kind(f"config.{key}", held_out, "config.data.train", data, fix)
