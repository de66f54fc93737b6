"""Settings that change nothing, given the others: a run that names one is refused."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from kd.core.terms import Term
from kd.errors import KdError

Condition = Callable[[Any, Sequence[Term]], bool]


@dataclasses.dataclass(frozen=True)
class Idle:
    """A key that changes nothing where `condition` holds for the spec and its terms, and why."""

    key: str
    condition: Condition
    why: str


def _untaught(_: Any, terms: Sequence[Term]) -> bool:
    return not any(term.info.teacher for term in terms)


def _in_memory(spec: Any, _: Sequence[Term]) -> bool:
    return not spec.data.stream


def _unviewed(spec: Any, _: Sequence[Term]) -> bool:
    return not spec.data.augmentations


def _live(spec: Any, _: Sequence[Term]) -> bool:
    return spec.teacher.answers_once or not spec.teacher.precompute


def _seeded(spec: Any, _: Sequence[Term]) -> bool:
    return "seed" in spec.population


def _without_momentum(spec: Any, _: Sequence[Term]) -> bool:
    return spec.optim.momentum == 0


def _named_twice(spec: Any, _: Sequence[Term]) -> bool:
    return len(set(spec.data.classes)) < len(spec.data.classes)


def _is_run(spec: Any, _: Sequence[Term]) -> bool:
    return not spec.teacher.answers_once


def _only_tables(spec: Any, _: Sequence[Term]) -> bool:
    return bool(spec.origins) and all(origin.scheme == "table" for origin in spec.origins)


def _as_large(spec: Any, _: Sequence[Term]) -> bool:
    return spec.teacher.image_size == (spec.data.image_size or "native")


def _is_mixed(spec: Any, _: Sequence[Term]) -> bool:
    return bool(spec.parts)


def _answers_once(spec: Any, _: Sequence[Term]) -> bool:
    return spec.teacher.answers_once


_IS_RUN = "it says what a table or a function answers with, and a model answers with logits"
_MIXED = "each of config.teachers has its own; say it there"
_WHOLE = "several teachers (config.teachers) lie whole on every device; leave it out"
_ONCE = "a table or a function gives one answer for each example, which is kept; leave it out"


def _unwatched(spec: Any, _: Sequence[Term]) -> bool:
    return spec.early_stopping is None


def _uncopied(spec: Any, _: Sequence[Term]) -> bool:
    return spec.local_copy.folder is None


def _too_patient(spec: Any, _: Sequence[Term]) -> bool:
    epochs, every = spec.total_epochs, spec.eval_epochs
    return epochs is not None and every is not None and spec.patience * every >= epochs


def _no_text(spec: Any, _: Sequence[Term]) -> bool:
    return spec.data.text.tokenizer is None


def _packed(spec: Any, _: Sequence[Term]) -> bool:
    return spec.data.text.packed


def _unmasked(spec: Any, _: Sequence[Term]) -> bool:
    return not spec.data.text.masked


_NO_TEXT = "the data is no text; set config.data.text.tokenizer too"
_OF_TEXT = (
    "columns",
    "label",
    "names",
    "length",
    "too_long",
    "buckets",
    "packed",
    "masked",
    "rare",
)
_PACKED = "packed rows are full, and nothing of a text is lost; leave it out"
_UNWATCHED = "it is about config.early_stopping, a validation split; set that too"
_UNTAUGHT = "no term of config.objective reads a teacher; add e.g. soft_targets, or leave it out"
_IN_MEMORY = "it is done while images are read; set config.data.stream=true too"
IDLE = (
    Idle("seed", _seeded, "config.population.seed gives every member its own; leave one out"),
    Idle("patience", _unwatched, _UNWATCHED),
    Idle("patience", _too_patient, "the run looks no more often than that; lower it"),
    Idle("watch", _unwatched, _UNWATCHED),
    Idle("local_copy.steps", _uncopied, "no copies are kept; set config.local_copy.folder too"),
    Idle("data.crop", _in_memory, _IN_MEMORY),
    Idle("data.views", _unviewed, "no view is drawn; set data.jitter_pixels or data.flip too"),
    *(Idle(f"data.text.{key}", _no_text, _NO_TEXT) for key in _OF_TEXT),
    Idle("data.text.too_long", _packed, _PACKED),
    Idle("data.text.buckets", _packed, _PACKED),
    Idle("data.text.rare", _unmasked, "no words are hidden; set config.data.text.masked too"),
    Idle("data.classes", _named_twice, "a class in it comes twice; name each once"),
    Idle("teacher.workdir", _untaught, _UNTAUGHT),
    Idle("teacher.source", _untaught, _UNTAUGHT),
    Idle("teachers", _untaught, _UNTAUGHT),
    Idle("teacher.licence", _untaught, _UNTAUGHT),
    Idle("teacher.licence", _is_mixed, _MIXED),
    Idle("sharding.teacher.rule", _is_mixed, _WHOLE),
    Idle("sharding.teacher.paths", _is_mixed, _WHOLE),
    Idle("teacher.classes", _untaught, _UNTAUGHT),
    Idle("teacher.classes", _is_mixed, _MIXED),
    Idle("teacher.image_size", _untaught, _UNTAUGHT),
    Idle("teacher.image_size", _only_tables, "a table has answered already, whatever it was shown"),
    Idle("teacher.image_size", _as_large, "the student's images have that size; leave it out"),
    Idle("teacher.kind", _is_run, _IS_RUN),
    Idle("teacher.temperature", _is_run, _IS_RUN),
    Idle("teacher.average", _untaught, _UNTAUGHT),
    Idle("teacher.precompute", _untaught, _UNTAUGHT),
    Idle("teacher.average", _answers_once, _ONCE),
    Idle("teacher.precompute", _answers_once, _ONCE),
    Idle("teacher.kept_as", _untaught, _UNTAUGHT),
    Idle("teacher.kept_as", _live, "its answers are not kept; set teacher.precompute=true too"),
    Idle("teacher.model", _untaught, _UNTAUGHT),
    Idle("teacher.members", _untaught, _UNTAUGHT),
    Idle("population.teacher", _untaught, _UNTAUGHT),
    Idle("sharding.teacher.rule", _untaught, _UNTAUGHT),
    Idle("sharding.teacher.paths", _untaught, _UNTAUGHT),
    Idle(
        "optim.nesterov", _without_momentum, "it changes momentum, and config.optim.momentum is 0"
    ),
)


def check_idle(spec: Any) -> None:
    """Raise a `KdError` for a key that is not at its default and changes nothing."""
    default = type(spec)()
    for row in IDLE:
        value = _get(spec, row.key)
        if value != _get(default, row.key) and row.condition(spec, spec.terms):
            raise KdError(f"config.{row.key}={value} changes nothing: {row.why}")


def _get(spec: Any, key: str) -> Any:
    def inner(owner: Any, name: str) -> Any:
        return getattr(owner, name) if dataclasses.is_dataclass(owner) else owner.get(name)

    return functools.reduce(inner, key.split("."), spec)
