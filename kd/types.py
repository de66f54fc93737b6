"""The contracts between the rooms.

Axes, wherever a shape is written: ``b`` batch, ``*b`` prediction positions, ``v`` classes, ``m``
member of a population, ``e`` member of an ensemble teacher, ``n`` examples of a data set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PyTree = Any
Batch = Mapping[str, Any]
"""``inputs``, ``labels`` (absent when unlabelled), ``weight`` (0 = ignore), ``index`` (identity of
the example).
"""

Hparams = Mapping[str, Any]
"""Numbers that may differ between the members of a population. Arrays, never Python constants."""

Average = Literal["arithmetic", "geometric", "per_member"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model answers: logits, and how an ensemble's logits become one distribution.

    Shapes: ``logits[*b v]``, or ``logits[e *b v]`` when `average` is set.
    """

    logits: Float[Array, "*b v"] | Any  # in a pytree JAX also puts shapes and axis numbers here
    average: Average | None = dataclasses.field(default=None, metadata={"static": True})

    def log_probs(self, temperature: Float[Array, ""] | float = 1.0) -> Float[Array, "*b v"]:
        """Log of the softened distribution ``softmax(z / T)``, in float32 (in float64 where the
        logits are).

        An ensemble answers the log of the mean of its members' softened probabilities (arithmetic),
        or the softmax of the mean of their softened logits (geometric).

        Raises:
          ValueError: for a per-member ensemble, which has no single distribution.

        Source: Hinton, Vinyals & Dean (2015), eq. 1 and section 2.
        """
        scaled = self.logits.astype(jnp.promote_types(self.logits.dtype, jnp.float32)) / temperature
        if self.average is None:
            return jax.nn.log_softmax(scaled, axis=-1)
        if self.average == "arithmetic":
            members = jax.nn.log_softmax(scaled, axis=-1)
            return jax.nn.logsumexp(members, axis=0) - jnp.log(members.shape[0])
        if self.average == "geometric":
            return jax.nn.log_softmax(scaled.mean(axis=0), axis=-1)
        raise ValueError(
            "a per-member ensemble has no single distribution: compute the loss against each member"
        )

    @property
    def width(self) -> int:
        """Number of classes."""
        return self.logits.shape[-1]


@runtime_checkable
class Init(Protocol):
    """``init(key, inputs) -> (params, extra)``: `extra` holds what is not trained, such as batch
    statistics.
    """

    def __call__(self, key: jax.Array, inputs: Any) -> tuple[PyTree, PyTree]: ...


@runtime_checkable
class Apply(Protocol):
    """``apply(params, extra, inputs, train, key) -> (outputs, extra)``; `key` feeds dropout and is
    unused in eval.
    """

    def __call__(
        self,
        params: PyTree,
        extra: PyTree,
        inputs: Any,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[Outputs, PyTree]: ...


@dataclasses.dataclass(frozen=True)
class Model:
    """Two pure functions. The training step knows nothing else of the network.

    `mixed`: given inputs of bfloat16, `apply` takes float32 parameters and rounds them itself,
    where it uses them. The parameters of other models are rounded for them.
    """

    init: Init
    apply: Apply
    mixed: bool = False


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A teacher is an argument of the step: arrays, and a pure function that answers for a batch.

    The step cannot tell a live teacher from an ensemble or from logits computed beforehand.
    """

    variables: PyTree = dataclasses.field(repr=False)
    apply: Callable[[PyTree, Batch], Outputs] = dataclasses.field(repr=False)
    fingerprint: str = ""
    answers_for: str = ""
    """Fingerprint of the only data set that it can answer for, if its logits were computed
    beforehand.
    """
    pairs: tuple[int, ...] | None = None
    """Several teachers, one per student: `variables` have a leading axis, and member i of a
    population learns from entry ``pairs[i]``; `apply` is that of one of them. None: all members
    share this teacher."""
    stacked: int = 0
    """Leading axes of every leaf of `variables` beyond those of one model: 1 for an ensemble."""
    seen: Any = None
    """What it was trained on, a `kd.seen.Seen`: `kd.predict.reading` shows it other inputs in the
    same unit. None: it reads what the student reads.
    """


@runtime_checkable
class Loss(Protocol):
    """``loss(student, teacher, batch, hparams) -> [*b]``: one value per position, no reduction, no
    weighting.
    """

    def __call__(
        self, student: Outputs, teacher: Any, batch: Batch, hparams: Hparams
    ) -> Float[Array, "*b"]: ...
