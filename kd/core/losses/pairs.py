"""A loss on one pair of layers, over several: the sum over pairs, each with heads of its own."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax

from kd.core import rng
from kd.core.losses.info import LossInfo
from kd.core.types import Batch, Heads, Hparams, Outputs

_KINDS = tuple(field.name for field in dataclasses.fields(Heads))


def over_pairs(info: LossInfo, count: int) -> LossInfo:
    """The loss of `info` summed over `count` pairs of layers: every tap is then a tuple, a pair
    each. What it owns is kept by the number of the pair.
    """
    alone: Any = info.loss

    @functools.wraps(alone)
    def loss(
        student: Outputs, teacher: Outputs | None, batch: Batch, hparams: Hparams, *heads: Heads
    ) -> Any:
        values, buffers = 0.0, {}
        for i in range(count):
            own = [_part(owned, i) for owned in heads]
            sides = (_pair(student, i), _pair(teacher, i))
            answer = alone(*sides, _with_own_keys(batch, i), hparams, *own)
            if isinstance(answer, tuple):
                answer, buffers[str(i)] = answer
            values = values + answer
        return (values, buffers) if buffers else values

    def init(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
        assert info.init is not None
        parts = [
            info.init(rng.named(key, str(i)), _pair(student, i), _pair(teacher, i), examples)
            for i in range(count)
        ]
        numbered = dict(zip(map(str, range(count)), parts, strict=True))
        return Heads(
            **{kind: {i: getattr(part, kind) for i, part in numbered.items()} for kind in _KINDS}
        )

    return dataclasses.replace(info, loss=loss, init=None if info.init is None else init)


def _pair(outputs: Any, i: int) -> Any:
    """The outputs with the taps of pair `i` alone."""
    if outputs is None:
        return None
    return dataclasses.replace(
        outputs, taps={name: layers[i] for name, layers in outputs.taps.items()}
    )


def _part(heads: Heads, i: int) -> Heads:
    """What the loss owns for pair `i`."""
    return Heads(**{kind: getattr(heads, kind).get(str(i), {}) for kind in _KINDS})


def _with_own_keys(batch: Batch, i: int) -> Batch:
    """The batch with random keys of pair `i`, where it has keys."""
    if "keys" not in batch:
        return batch
    return {**batch, "keys": jax.vmap(jax.random.fold_in, (0, None))(batch["keys"], i)}
