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

from kd.core.manifest import Manifest
from kd.errors import KdError

PyTree = Any
Batch = Mapping[str, Any]
"""``inputs``, ``labels`` (absent when unlabelled), ``weight`` (0 = ignore), ``index`` (identity of
the example), and where only some examples have a label ``labelled``, which says whether this one
does.
"""

Hparams = Mapping[str, Any]
"""Numbers that may differ between the members of a population. Arrays, never Python constants."""

Average = Literal["arithmetic", "geometric", "per_member"]

Targets = Literal["classes", "binary", "numbers"]
"""What labels are: the index of one class; a yes or no of every output (of several: multi-label),
or the chance of a yes; numbers to be met (regression).
"""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model answers: logits, and how an ensemble's logits become one distribution.

    `weights`, which sum to 1, say how much each member of an ensemble counts; None: all alike.
    `taps` are inner features by name. `places` says which places of a grid hold something, of
    texts that are filled up to one length; None: all of them. Shapes: ``logits[*b v]``,
    ``places[b *g]`` and ``taps[name][b ...]``, which may carry the positions, ``[*b ...]``; all
    with a leading axis ``e`` when `average` is set.
    """

    logits: Float[Array, "*b v"] | Any  # in a pytree JAX also puts shapes and axis numbers here
    average: Average | None = dataclasses.field(default=None, metadata={"static": True})
    taps: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: tuple[float, ...] | None = dataclasses.field(default=None, metadata={"static": True})
    places: Any = None

    def log_probs(self, temperature: Float[Array, ""] | float = 1.0) -> Float[Array, "*b v"]:
        """Log of the softened distribution ``softmax(z / T)``, in float32 (in float64 where the
        logits are).

        An ensemble answers the log of the mean of its members' softened probabilities (arithmetic),
        or the softmax of the mean of their softened logits (geometric), by its `weights`.

        Raises:
          ValueError: for a per-member ensemble, which has no single distribution.

        Source: Hinton, Vinyals & Dean (2015), eq. 1 and section 2.
        """
        if self.average == "geometric":
            return jax.nn.log_softmax(self.mean_logits(temperature), axis=-1)
        members = jax.nn.log_softmax(self._scaled(temperature), axis=-1)
        if self.average is None:
            return members
        if self.average == "arithmetic" and self.weights is None:
            return jax.nn.logsumexp(members, axis=0) - jnp.log(members.shape[0])
        if self.average == "arithmetic":
            return jax.nn.logsumexp(members, axis=0, b=self._shares(members))
        raise ValueError(
            "a per-member ensemble has no single distribution: compute the loss against each member"
        )

    def mean_logits(self, temperature: Float[Array, ""] | float = 1.0) -> Any:
        """The mean of the members' softened logits, by their `weights`: ``[e *b v] -> [*b v]``."""
        scaled = self._scaled(temperature)
        if self.weights is None:
            return scaled.mean(axis=0)
        shares = self._shares(scaled)  # a member that counts nothing may rule out a class
        return jnp.where(shares > 0, shares * scaled, 0.0).sum(axis=0)

    def mean(self, values: Array) -> Array:
        """The mean over members of a value of each, by their `weights`: ``[e *b] -> [*b]``."""
        if self.weights is None:
            return jnp.mean(values, axis=0)
        shares = self._shares(values)
        return jnp.where(shares > 0, shares * values, 0.0).sum(axis=0)

    def _scaled(self, temperature: Float[Array, ""] | float) -> Any:
        return self.logits.astype(jnp.promote_types(self.logits.dtype, jnp.float32)) / temperature

    def _shares(self, values: Any) -> Array:
        return jnp.asarray(self.weights, values.dtype).reshape(-1, *(1,) * (values.ndim - 1))

    @property
    def width(self) -> int:
        """Number of classes."""
        return self.logits.shape[-1]

    @property
    def positions(self) -> tuple[int, ...]:
        """Shape of the prediction positions ``*b``, without the members of an ensemble."""
        return tuple(self.logits.shape[self.average is not None : -1])

    def masked(self, weight: Float[Array, "*b"]) -> Outputs:
        """The same with zeros wherever ``weight[*b]`` is 0, whatever stood there, NaN included.

        A tap without the positions is zero for the examples whose positions all weigh nothing.
        """
        ahead = int(self.average is not None)

        def mask(values: Array) -> Array:
            kept = weight > 0
            axes = values.shape[ahead:]
            if len(axes) <= kept.ndim or axes[: kept.ndim] != kept.shape:
                kept = kept.any(axis=tuple(range(1, kept.ndim)))
            shape = (1,) * ahead + kept.shape + (1,) * (len(axes) - kept.ndim)
            return jnp.where(kept.reshape(shape), values, jnp.zeros((), values.dtype))

        return jax.tree.map(mask, self)

    def member(self, i: int) -> Outputs:
        """What member `i` of an ensemble answers, as one model."""
        alone = jax.tree.map(lambda values: values[i], self)
        return dataclasses.replace(alone, average=None, weights=None)

    def named(self, names: Mapping[str, str | tuple[str, ...]]) -> Outputs:
        """The same with the taps of these paths alone, by other names: ``{name: path}``; of several
        paths a tuple.
        """

        def tap(paths: str | tuple[str, ...]) -> Any:
            if isinstance(paths, str):
                return self.taps[paths]
            return tuple(self.taps[path] for path in paths)

        return dataclasses.replace(self, taps={name: tap(paths) for name, paths in names.items()})

    def astype(self, dtype: Any) -> Outputs:
        """The same with logits and taps as numbers of type `dtype`; taps of whole numbers stay."""

        def cast(values: Array) -> Array:
            floating = jnp.issubdtype(values.dtype, jnp.floating)
            return values.astype(dtype) if floating else values

        taps = jax.tree.map(cast, dict(self.taps))
        return dataclasses.replace(self, logits=self.logits.astype(dtype), taps=taps)


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


Before = Callable[[PyTree, PyTree, Any], tuple[PyTree, PyTree, Any]]
"""Parameters, extra and inputs, to those that a model inside is applied to."""
After = Callable[[Outputs, PyTree, PyTree], tuple[Outputs, PyTree]]
"""Outputs and extra of the model inside, and the extra before it, to outputs and extra."""


@dataclasses.dataclass(frozen=True)
class Made:
    """What a model was made of: the name of one of kd's own and its options, or the class of a
    user's module; `compute` is the type that it computes in, `mean` and `deviation` what its inputs
    are normalised by, None where they are not.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    compute: str = "float32"
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """Two pure functions. The training step knows nothing else of the network.

    `mixed`: given inputs of bfloat16, `apply` takes float32 parameters and rounds them itself,
    where it uses them. The parameters of other models are rounded for them. `made` says how it is
    made again, where that is known.
    """

    init: Init
    apply: Apply
    mixed: bool = False
    made: Made | None = dataclasses.field(default=None, compare=False, repr=False)
    with_taps: Callable[[tuple[str, ...]], Apply] | None = dataclasses.field(
        default=None, repr=False
    )
    """``with_taps(paths)`` is an `apply` whose outputs carry the inner features of these paths as
    taps; the model need not know that it is looked into. None: it cannot be looked into."""
    typed: bool = False
    """Whether `apply` also takes ``dtype``, the type to compute in: inputs that are identities,
    such as tokens, do not tell it."""
    weighs: bool = False
    """Whether `apply` also takes ``weight[b]`` in training, and leaves the examples that weigh
    nothing out of what it computes over the batch, such as batch statistics."""

    def tapped(self, paths: tuple[str, ...]) -> Model:
        """The same model, whose outputs carry the taps of `paths`.

        Raises:
          KdError: a model that cannot be looked into.
        """
        if not paths:
            return self
        if self.with_taps is None:
            raise KdError(
                "a term reads inner features and this model cannot be looked into; pass a Flax "
                "Linen module, or give the Model with_taps"
            )
        return dataclasses.replace(self, apply=self.with_taps(paths))

    def trained(
        self, params: PyTree, extra: PyTree, inputs: Any, weight: Any, key: jax.Array | None
    ) -> tuple[Outputs, PyTree]:
        """`apply` in training, on examples that count as `weight` says."""
        apply: Any = self.apply
        told = {"weight": weight} if self.weighs else {}
        return apply(params, extra, inputs, train=True, key=key, **told)

    def wrapped(self, wrap: Callable[[Apply], Apply]) -> Model:
        """The same model with `wrap` around its `apply`, with taps and without."""
        taps = self.with_taps
        around = None if taps is None else lambda paths: wrap(taps(paths))
        return dataclasses.replace(self, apply=wrap(self.apply), with_taps=around)

    def between(self, before: Before, after: After) -> Model:
        """The same model, applied to what `before` makes of parameters, extra and inputs; what it
        answers is what `after` makes of its outputs, its extra, and the extra that was given.
        """

        def around(apply: Any) -> Apply:
            def answer(
                params: PyTree,
                extra: PyTree,
                inputs: Any,
                train: bool = False,
                key: jax.Array | None = None,
                **more: Any,
            ) -> tuple[Outputs, PyTree]:
                inside = before(params, extra, inputs)
                outputs, updated = apply(*inside, train=train, key=key, **more)
                return after(outputs, updated, extra)

            return answer

        return self.wrapped(around)


Answer = Callable[[PyTree, Batch], Outputs]
"""What a teacher's variables answer for a batch."""


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A teacher is an argument of the step: arrays, and a pure function that answers for a batch.

    The step cannot tell a live teacher from an ensemble or from logits computed beforehand.
    """

    variables: PyTree = dataclasses.field(repr=False)
    apply: Answer = dataclasses.field(repr=False)
    fingerprint: str = ""
    manifest: Manifest | None = None
    """What is known of answers that were kept: of which data, seen how. None: it answers live."""
    pairs: tuple[int, ...] | None = None
    """Several teachers, one per student: `variables` have a leading axis, and member i of a
    population learns from entry ``pairs[i]``; `apply` is that of one of them. None: all members
    share this teacher."""
    stacked: int = 0
    """Leading axes of every leaf of `variables` beyond those of one model: 1 for an ensemble."""
    seen: Any = None
    """What it was trained on, a `kd.data.seen.Seen`: `kd.teachers.answers.reading` shows it other
    inputs in the same unit. None: it reads what the student reads.
    """
    with_taps: Callable[[tuple[str, ...]], Answer] | None = dataclasses.field(
        default=None, repr=False
    )
    """As in `Model`: ``with_taps(paths)`` is an `apply` whose outputs carry these taps."""

    def tapped(self, paths: tuple[str, ...]) -> Teacher:
        """The same teacher, whose outputs carry the taps of `paths`.

        Raises:
          KdError: a teacher that cannot be looked into.
        """
        if not paths:
            return self
        if self.with_taps is None:
            raise KdError(
                "a term reads inner features and this teacher has none: it is a function or a "
                "table; take a live model as teacher"
            )
        return dataclasses.replace(self, apply=self.with_taps(paths))

    def wrapped(self, wrap: Callable[[Answer], Answer]) -> Teacher:
        """The same teacher with `wrap` around its `apply`, with taps and without."""
        taps = self.with_taps
        around = None if taps is None else lambda paths: wrap(taps(paths))
        return dataclasses.replace(self, apply=wrap(self.apply), with_taps=around)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Heads:
    """What a loss owns, in three kinds.

    `dropped` is trained beside the student and left behind, such as a projection; `exported` is
    trained and stays with the student, such as a projector that it answers through; `buffers` are
    not trained: the loss answers with them as they are next, such as a memory of features.
    """

    dropped: PyTree = dataclasses.field(default_factory=dict)
    exported: PyTree = dataclasses.field(default_factory=dict)
    buffers: PyTree = dataclasses.field(default_factory=dict)


@runtime_checkable
class Loss(Protocol):
    """``loss(student, teacher, batch, hparams) -> [*b]``: one value per position, no reduction, no
    weighting.

    A loss that owns something is also given its `Heads`, as a fifth argument; one with buffers
    answers with ``(values, buffers)``.
    """

    def __call__(
        self, student: Outputs, teacher: Any, batch: Batch, hparams: Hparams
    ) -> Float[Array, "*b"]: ...


def of_logits(loss: Loss, hparams: Hparams) -> Callable[[Array, Array], Array]:
    """A loss as a function of two arrays of logits alone: ``[*b v], [*b v] -> [*b]``."""
    return lambda student, teacher: loss(Outputs(student), Outputs(teacher), {}, hparams)
